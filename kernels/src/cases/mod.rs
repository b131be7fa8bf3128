//! Cases of every kernel family: a drawn problem with its operands, run on a device and held to the definition in f64.
//!
//! The tests of this crate run them on the emulator, and `gpu-suites` of `recurve-tests` on a GPU. A case is a function of
//! its number and seed, so that one that fails can be run again.

pub(crate) mod activation;
mod arg_extreme;
mod attention;
mod blocks;
mod channels;
mod class_loss;
mod codes;
mod col2im;
mod conv;
mod conv_integer;
mod conv_transpose;
mod copy;
mod cumulative;
mod deform;
mod det;
mod draw;
mod epilogue;
mod gather;
mod gather_nd;
mod gemm;
mod gemm_integer;
mod gemv;
mod grid_sample;
mod lab;
mod linear_attention;
mod map;
mod nest;
mod norm;
mod pool;
mod probe;
mod recurrent;
mod reduce;
mod resample;
mod roi_align;
mod roi_max;
mod scatter;
mod softmax;
mod top_k;

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

/// Every suite, by name.
pub static SUITES: &[Suite] = &[
    Suite { name: "arg_extreme", count: 60, run: arg_extreme::shapes },
    Suite { name: "attention", count: 100, run: attention::shapes },
    Suite { name: "attention_tf32", count: 48, run: attention::tf32 },
    Suite { name: "blocks_tensor", count: 48, run: blocks::tensor },
    Suite { name: "blocks_vectors", count: 60, run: blocks::vectors },
    Suite { name: "channels", count: 40, run: channels::shapes },
    Suite { name: "class_loss", count: 60, run: class_loss::shapes },
    Suite { name: "codes", count: 96, run: codes::shapes },
    Suite { name: "col2im", count: 72, run: col2im::shapes },
    Suite { name: "conv", count: 48, run: conv::shapes },
    Suite { name: "conv_integer", count: 60, run: conv_integer::shapes },
    Suite { name: "conv_tensor", count: 48, run: conv::tensor },
    Suite { name: "conv_transpose", count: 48, run: conv_transpose::shapes },
    Suite { name: "conv_transpose_phases", count: 48, run: conv_transpose::phases },
    Suite { name: "copy", count: 80, run: copy::shapes },
    Suite { name: "cumulative", count: 60, run: cumulative::shapes },
    Suite { name: "deform", count: 60, run: deform::shapes },
    Suite { name: "depthwise", count: 48, run: conv::depthwise },
    Suite { name: "det", count: 48, run: det::shapes },
    Suite { name: "gather", count: 60, run: gather::shapes },
    Suite { name: "gather_nd", count: 60, run: gather_nd::shapes },
    Suite { name: "gemm_integer", count: 48, run: gemm_integer::shapes },
    Suite { name: "gemm_simt", count: 52, run: gemm::simt },
    Suite { name: "gemm_tensor_bf16", count: 24, run: gemm::tensor_bf16 },
    Suite { name: "gemm_tensor_f16", count: 24, run: gemm::tensor_f16 },
    Suite { name: "gemm_tf32", count: 48, run: gemm::tf32 },
    Suite { name: "gemm_wgmma", count: 40, run: gemm::wgmma },
    Suite { name: "gemm_wgmma_packed", count: 40, run: gemm::wgmma_packed },
    Suite { name: "gemv", count: 60, run: gemv::shapes },
    Suite { name: "gemv_variants", count: 15, run: gemv::variants },
    Suite { name: "grid_sample", count: 72, run: grid_sample::shapes },
    Suite { name: "gru", count: 40, run: recurrent::gru },
    Suite { name: "linear_attention", count: 54, run: linear_attention::shapes },
    Suite { name: "lstm", count: 40, run: recurrent::lstm },
    Suite { name: "map_conversions", count: 78, run: map::conversions },
    Suite { name: "map_opcodes", count: map::OPCODES, run: map::opcodes },
    Suite { name: "map_programs", count: 80, run: map::programs },
    Suite { name: "map_turns", count: 2, run: map::turns },
    Suite { name: "map_variants", count: 2, run: map::variants },
    Suite { name: "nest", count: 80, run: nest::shapes },
    Suite { name: "nest_variants", count: 40, run: nest::variants },
    Suite { name: "norm", count: 60, run: norm::shapes },
    Suite { name: "pool", count: 80, run: pool::shapes },
    Suite { name: "probe", count: 40, run: probe::shapes },
    Suite { name: "reduce", count: 80, run: reduce::shapes },
    Suite { name: "reduce_variants", count: 72, run: reduce::variants },
    Suite { name: "resample_nearest", count: 40, run: resample::nearest },
    Suite { name: "resample_smooth", count: 40, run: resample::smooth },
    Suite { name: "rnn", count: 40, run: recurrent::rnn },
    Suite { name: "roi_align", count: 48, run: roi_align::shapes },
    Suite { name: "roi_max", count: 60, run: roi_max::shapes },
    Suite { name: "scatter", count: 80, run: scatter::shapes },
    Suite { name: "softmax", count: 60, run: softmax::shapes },
    Suite { name: "softmax_variants", count: 18, run: softmax::variants },
    Suite { name: "top_k", count: 60, run: top_k::shapes },
    Suite { name: "transpose", count: 48, run: copy::transposes },
    Suite { name: "winograd", count: 48, run: conv::winograd },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A test for each suite: on the emulator, with the seed that CI always has.
    macro_rules! on_the_emulator {
        ($($name:ident)*) => {
            const NAMES: &[&str] = &[$(stringify!($name)),*];

            $(#[test]
            fn $name() {
                let suite = SUITES.iter().find(|suite| suite.name == stringify!($name)).expect("a suite");
                for number in 0..suite.count {
                    if let Err(failure) = suite.case(1, number, &mut Emulated::new()) {
                        panic!("case {number}: {failure}");
                    }
                }
            })*
        };
    }

    on_the_emulator! {
        arg_extreme
        attention
        attention_tf32
        blocks_tensor
        blocks_vectors
        channels
        class_loss
        codes
        col2im
        conv
        conv_integer
        conv_tensor
        conv_transpose
        conv_transpose_phases
        copy
        cumulative
        deform
        depthwise
        det
        gather
        gather_nd
        gemm_integer
        gemm_simt
        gemm_tensor_bf16
        gemm_tensor_f16
        gemm_tf32
        gemm_wgmma
        gemm_wgmma_packed
        gemv
        gemv_variants
        grid_sample
        gru
        linear_attention
        lstm
        map_conversions
        map_opcodes
        map_programs
        map_turns
        map_variants
        nest
        nest_variants
        norm
        pool
        probe
        reduce
        reduce_variants
        resample_nearest
        resample_smooth
        rnn
        roi_align
        roi_max
        scatter
        softmax
        softmax_variants
        top_k
        transpose
        winograd
    }

    #[test]
    fn every_suite_is_run() {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        assert_eq!(names, NAMES);
        assert!(names.is_sorted());
    }
}
