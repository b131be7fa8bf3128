//! Chains: programs whose values stay in registers from step to step.
//!
//! A loop over a tile reads and writes the first cache once for each operator, and memory waits while it computes. A
//! chain takes a *block*, at most [`BLOCK`] elements, through all steps before it turns to the next ones: eight vectors are handed from step
//! to step in registers, other operands lie in *places*, and the loads of a block overlap with the steps of the one
//! before. A step ends with a jump to the next one, so that the processor predicts each from where it is.
//!
//! The steps are those of one file ([`wide`], [`narrow`]), compiled for AVX-512 and for AVX2, whose block is half as large.

#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::{Level, Routine};
use smallvec::SmallVec;

/// Elements that are taken through all steps together, at most.
pub(crate) const BLOCK: usize = 128;
/// Their bytes; elements have four.
pub(crate) const BLOCK_BYTES: usize = 4 * BLOCK;

/// A function of the elements in registers and of as many in a place, in `f32` unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pair {
    Add,
    Sub,
    Mul,
    Div,
    /// NaN where either is.
    Min,
    /// NaN where either is.
    Max,
    /// 1 where equal, 0 elsewhere, as the other comparisons.
    Equal,
    Less,
    LessOrEqual,
    /// Of all bits, as the next two.
    And,
    Or,
    Xor,
}

/// A function of the elements in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Single {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    /// Halves to the even number.
    Round,
    Square,
    Exp,
    Erf,
    /// Of a truth value, 0 or 1.
    Not,
}

/// What is done with a block; numbers are those of places: inputs, then outputs, then slots.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Asks for what an input has some blocks later.
    Fetch(usize),
    /// Elements of a place come into registers.
    Load(usize),
    /// Registers are written to a slot.
    Keep(usize),
    /// Registers are written to an output.
    Put(usize),
    /// Registers are the first operand.
    Pair(Pair, usize),
    /// Registers are the second operand.
    Turned(Pair, usize),
    Single(Single),
    /// Registers times the first, plus the second, rounded once.
    MulAdd(usize, usize),
    /// The first times the second, plus registers, rounded once.
    AddProduct(usize, usize),
    /// The first where registers are not zero, else the second.
    Select(usize, usize),
    /// A loop from places to a slot, and from there into registers.
    Loop {
        routine: Routine,
        to: usize,
        from: [Option<usize>; 3],
    },
}

/// How many places a chain has of each sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Places {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) slots: usize,
}

impl Places {
    fn count(&self) -> usize {
        self.inputs + self.outputs + self.slots
    }

    fn is_output(&self, place: usize) -> bool {
        (self.inputs..self.inputs + self.outputs).contains(&place)
    }

    fn is_slot(&self, place: usize) -> bool {
        (self.inputs + self.outputs..self.count()).contains(&place)
    }

    /// Whether `step` reads places that there are and writes where it may, no place that it reads.
    fn allow(&self, step: &Step) -> bool {
        let read = |place: usize| place < self.count();
        match *step {
            Step::Fetch(place) => place < self.inputs,
            Step::Load(place) | Step::Pair(_, place) | Step::Turned(_, place) => read(place),
            Step::Keep(slot) => self.is_slot(slot),
            Step::Put(output) => self.is_output(output),
            Step::Single(_) => true,
            Step::MulAdd(a, b) | Step::AddProduct(a, b) | Step::Select(a, b) => read(a) && read(b),
            Step::Loop { to, from, .. } => {
                self.is_slot(to) && from.iter().flatten().all(|&place| read(place) && place != to)
            }
        }
    }
}

/// Steps, compiled.
#[derive(Debug)]
pub(crate) struct Chain {
    places: Places,
    #[cfg(target_arch = "x86_64")]
    code: Code,
}

/// Steps of an instruction set.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
enum Code {
    Narrow(Vec<narrow::Code>),
    Wide(Vec<wide::Code>),
}

/// Most steps: where a compiler does not make jumps of calls at the end of a function, they are as many calls deep.
const MOST_STEPS: usize = 96;
/// Most places: a run allocates nothing.
const MOST_PLACES: usize = 64;

/// Runs `$code` of instruction set `$of` on inputs, outputs and slots.
#[cfg(target_arch = "x86_64")]
macro_rules! run {
    ($of:ident, $code:ident, $bytes:ident, ($inputs:ident, $outputs:ident, $slots:ident), $streamed:ident) => {{
        let mut spots: SmallVec<[$of::Spot; MOST_PLACES]> = SmallVec::new();
        spots.extend($inputs.iter().map(|input| $of::Spot::input(&input[..$bytes])));
        spots.extend($outputs.iter_mut().map(|output| $of::Spot::output(&mut output[..$bytes], $streamed)));
        spots.extend($slots.chunks_exact_mut(BLOCK_BYTES).map($of::Spot::slot));
        // SAFETY: `new` made the code of steps that read places below their count, of which there are as many spots,
        // and write outputs and slots alone, and only for a processor that has the instructions; inputs and outputs
        // were cut to `bytes`, whole blocks, slots to a block at least, and all are borrowed for the call.
        unsafe { $of::run($code, &spots, $bytes) }
    }};
}

impl Chain {
    /// `steps` one behind the other; `None` where the instruction set has no chains, or a step reads or writes what it
    /// may not, or they are too many.
    pub(crate) fn new(level: Level, steps: &[Step], places: Places) -> Option<Self> {
        if steps.len() > MOST_STEPS
            || places.count() > MOST_PLACES
            || !steps.iter().all(|step| places.allow(step))
        {
            return None;
        }
        #[cfg(target_arch = "x86_64")]
        match level.0 {
            super::Kind::Avx512(token) => {
                return Some(Self { places, code: Code::Wide(wide::code(token, steps)) });
            }
            super::Kind::Avx2(token) => {
                return Some(Self { places, code: Code::Narrow(narrow::code(token, steps)) });
            }
            super::Kind::Portable => {}
        }
        let _ = level;
        None
    }

    /// Elements of a block, of which [`BLOCK`] are a multiple.
    pub(crate) fn block(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Code::Narrow(_) = self.code {
            return BLOCK / 2;
        }
        BLOCK
    }

    /// Takes `blocks` blocks of the inputs, which lie in memory one behind the other, through all steps; slots have a
    /// block each, which stays. With `streamed`, outputs are written past the caches where they begin on a line.
    pub(crate) fn run(
        &self,
        blocks: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        slots: &mut [u8],
        streamed: bool,
    ) {
        let bytes = blocks * self.block() * 4;
        assert_eq!((inputs.len(), outputs.len()), (self.places.inputs, self.places.outputs), "places");
        #[cfg(target_arch = "x86_64")]
        {
            let slots = &mut slots[..self.places.slots * BLOCK_BYTES];
            match &self.code {
                Code::Narrow(code) => {
                    run!(narrow, code, bytes, (inputs, outputs, slots), streamed);
                }
                Code::Wide(code) => run!(wide, code, bytes, (inputs, outputs, slots), streamed),
            }
            if streamed {
                super::order_streams();
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (bytes, slots, streamed, SmallVec::<[u8; 1]>::new());
    }
}
