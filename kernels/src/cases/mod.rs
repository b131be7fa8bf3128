//! Cases of every kernel family: a drawn problem with its operands, run on a device and held to the definition in f64.
//!
//! The tests of this crate run them on the emulator, and `gpu-suites` of `recurve-tests` on a GPU. A case is a function of
//! its number and seed, so that one that fails can be run again.

pub(crate) mod activation;
mod draw;
mod gemm;
mod gemv;
mod lab;
mod map;
mod probe;
mod recurrent;
mod reduce;
mod softmax;

pub use draw::{Draw, decode, encode, rounded};
pub use lab::{EMULATED, Emulated, Lab, Machine, close};

use crate::launch::Reject;

/// Why a case failed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Failure {
    /// The device, or a rule that the emulator found broken.
    #[error("{0}")]
    Device(String),
    /// A launch was refused; on a device of a lesser capability than the kernel's that is no fault.
    #[error("refused: {0}")]
    Refused(#[from] Reject),
    /// A result.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// The device's own word.
    pub fn device(problem: impl std::fmt::Display) -> Self {
        Self::Device(problem.to_string())
    }

    /// Whether the device is too old for the kernel, or its shared memory too small.
    pub fn is_beyond(&self) -> bool {
        matches!(self, Self::Refused(Reject::Capability { .. } | Reject::SharedMemory { .. }))
    }
}

/// Cases of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// The family, or the family and what is special.
    pub name: &'static str,
    /// Cases that CI runs.
    pub count: u32,
    /// Runs case `number`: shapes may follow it, numbers are drawn.
    pub run: fn(number: u32, draw: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure>,
}

impl Suite {
    /// Runs one case of a seed.
    pub fn case(&self, seed: u64, number: u32, machine: &mut dyn Machine) -> Result<(), Failure> {
        let name =
            self.name.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let mut draw = Draw::new(seed ^ name.rotate_left(32) ^ u64::from(number));
        let run = (self.run)(number, &mut draw, &mut Lab::new(machine));
        let end = machine.end();
        run.and(end)
    }
}

/// The suites, and for each a test that runs it on the emulator.
macro_rules! suites {
    ($($name:ident = $run:path, $count:expr;)*) => {
        /// Every suite.
        pub static SUITES: &[Suite] = &[$(Suite { name: stringify!($name), count: $count, run: $run }),*];

        #[cfg(test)]
        mod tests {
            $(#[test]
            fn $name() {
                super::emulated(stringify!($name));
            })*
        }
    };
}

suites! {
    gemm_simt = gemm::simt, 52;
    gemm_tensor_bf16 = gemm::tensor_bf16, 24;
    gemm_tensor_f16 = gemm::tensor_f16, 24;
    gemv = gemv::shapes, 60;
    gemv_variants = gemv::variants, 15;
    gru = recurrent::gru, 40;
    lstm = recurrent::lstm, 40;
    map_conversions = map::conversions, 78;
    map_opcodes = map::opcodes, map::OPCODES;
    map_programs = map::programs, 80;
    map_turns = map::turns, 2;
    map_variants = map::variants, 2;
    probe = probe::shapes, 40;
    reduce = reduce::shapes, 80;
    reduce_variants = reduce::variants, 72;
    rnn = recurrent::rnn, 40;
    softmax = softmax::shapes, 60;
    softmax_variants = softmax::variants, 18;
}

/// Runs a suite on the emulator, with the seed that CI always has.
#[cfg(test)]
fn emulated(name: &str) {
    let suite = SUITES.iter().find(|suite| suite.name == name).expect("a suite");
    for number in 0..suite.count {
        if let Err(failure) = suite.case(1, number, &mut Emulated::new()) {
            panic!("case {number}: {failure}");
        }
    }
}
