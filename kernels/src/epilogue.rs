//! # What happens to the sums of a tile
//! `y_i = program(sum_i, x_0[…], x_1[…], …)`: the sums pass through shared memory by slabs of rows, so that Y is written in
//! whole lines, and a [`map`](crate::map) program, interpreted for four neighbouring elements at a time, stands between
//! them and Y. Without a program sums are stored as they are, rounded to Y's type.
//!
//! A program's registers are f32 and truth values, at most [`MOST_SLOTS`] at once; its one output is Y. They lie behind the
//! slab in shared memory, a slot of four values for each thread. Functions are computed one element after the other: every
//! kernel with an epilogue has the interpreter's code once. That is why the rarer ones are left to maps and nests.

use crate::device::math::divide;
use crate::device::{Global, Shared, Vector, thread};
use crate::dtype::DType;
use crate::launch::{Buffer, Reject};
#[cfg(not(target_arch = "nvptx64"))]
use crate::map::Code;
use crate::map::interpreter::{GROUP, Narrow, Operands, Span, interpret, pick, size, store_group};
use crate::map::{MOST_INPUTS, arithmetic};

/// Most registers that are alive at once.
pub const MOST_SLOTS: u32 = 8;

/// A part of a kernel's parameters: where Y is, and what comes before it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Epilogue {
    code: Global<Vector<u32, 4>>,
    inputs: [Global<u8>; MOST_INPUTS],
    y: Global<u8>,
    /// Words of the code; 0: there is no program.
    words: u32,
    slots: u32,
    /// Type of Y.
    dtype: u32,
    /// Whether Y begins where four elements are stored at once.
    aligned: u32,
}

const _: () = assert!(size_of::<Epilogue>() == 96);

/// Bytes of a block's shared memory with `slab` bytes of staged sums and so many registers behind them.
pub const fn shared_bytes(slab: u32, threads: u32, slots: u32) -> u32 {
    slab + slots * threads * 16
}

/// Staged sums, and the memory for registers.
#[derive(Clone, Copy)]
pub(crate) struct Slab {
    pub(crate) sums: Shared<f32>,
    pub(crate) rows: u32,
    /// Sums of a row, a multiple of four.
    pub(crate) width: u32,
    /// Floats between rows.
    pub(crate) pitch: u32,
    pub(crate) registers: Shared<Vector<u32, 4>>,
}

/// The operands of a program behind four sums.
struct Behind<'a, F> {
    epilogue: &'a Epilogue,
    sums: F,
}

impl<F: Fn() -> [f32; 4]> Operands for Behind<'_, F> {
    #[inline(always)]
    fn input(&self, number: u32) -> Global<u8> {
        pick(self.epilogue.inputs, number)
    }

    #[inline(always)]
    fn output(&self, _: u32) -> Global<u8> {
        self.epilogue.y
    }

    #[inline(always)]
    fn result(&self) -> [u64; 4] {
        (self.sums)().map(|sum| sum.to_bits().into())
    }
}

/// Four sums from `at` on, of which the first `valid` are there.
#[inline(always)]
fn staged(sums: Shared<f32>, at: u32, valid: u32) -> [f32; 4] {
    if valid == GROUP && at.is_multiple_of(GROUP) {
        return sums.cast::<Vector<f32, 4>>().load((at / GROUP) as usize).0;
    }
    let mut four = [0.0; 4];
    let mut i = 0;
    while i < GROUP {
        if i < valid {
            four[i as usize] = sums.load((at + i) as usize);
        }
        i += 1;
    }
    four
}

impl Epilogue {
    /// Registers that are alive at once.
    #[inline(always)]
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Makes elements `first..first + valid` of Y, at most four, of as many sums.
    #[inline(always)]
    pub(crate) fn store(
        &self,
        registers: Shared<Vector<u32, 4>>,
        (first, valid): (u64, u32),
        sums: impl Fn() -> [f32; 4],
    ) {
        if self.words > 0 {
            let registers = Narrow::<false> { memory: registers, threads: thread::block_dim_x() };
            let span = Span { first: first as u32, valid };
            interpret(registers, (self.code, self.words), span, &Behind { epilogue: self, sums });
        } else {
            let dtype = DType::from_code(self.dtype);
            let values = sums().map(|sum| arithmetic::store(dtype, sum.to_bits().into()));
            let whole = self.aligned != 0 && valid == GROUP && first.is_multiple_of(GROUP.into());
            store_group(self.y, dtype, first as usize, valid, whole, values);
        }
    }

    /// Makes the elements of Y that a slab has the sums of. `place` gives the first one's number of those from a row and
    /// column of the slab on, and how many follow one another there, 0 outside Y. All threads come here, behind a barrier
    /// that follows the staging.
    #[inline(always)]
    pub(crate) fn store_slab(&self, slab: Slab, place: impl Fn(u32, u32) -> (u64, u32)) {
        let groups = slab.width / GROUP;
        let mut at = thread::thread_idx_x();
        while at < slab.rows * groups {
            let (row, group) = divide(at, groups);
            let column = group * GROUP;
            let mut done = 0;
            while done < GROUP {
                let (first, left) = place(row, column + done);
                if left == 0 {
                    break;
                }
                let valid = if left < GROUP - done { left } else { GROUP - done };
                let from = row * slab.pitch + column + done;
                self.store(slab.registers, (first, valid), || staged(slab.sums, from, valid));
                done += valid;
            }
            at += thread::block_dim_x();
        }
    }
}

/// A program behind a kernel's sums, with memory that was found to hold what is read of it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    code: Global<Vector<u32, 4>>,
    inputs: [Global<u8>; MOST_INPUTS],
    /// What is read, and may not be written.
    buffers: [Buffer; MOST_INPUTS],
    words: u32,
    slots: u32,
    /// Type of Y.
    dtype: DType,
    /// Elements of Y.
    count: u64,
}

#[cfg(not(target_arch = "nvptx64"))]
impl Code {
    /// Whether an epilogue can carry it out.
    pub fn accepts_sums(&self) -> Result<DType, Reject> {
        if !self.is_of_floats() {
            return Err(Reject::Unsupported { what: "a program of integers behind sums" });
        }
        if let Some((function, of)) = self.rare() {
            return Err(Reject::Function { function, of });
        }
        let (got, limit) = (self.slots().into(), MOST_SLOTS.into());
        if got > limit {
            return Err(Reject::Extent { name: "live registers", got, limit });
        }
        let [dtype] = *self.outputs() else {
            return Err(Reject::Unsupported { what: "a program of several outputs behind sums" });
        };
        Ok(dtype)
    }

    /// The program behind sums: `memory` holds what [`Code::bytes`] gives; the input that is the result may be any.
    pub fn behind_sums(&self, memory: Buffer, inputs: &[Buffer]) -> Result<Program, Reject> {
        let dtype = self.accepts_sums()?;
        memory.holds("code", 16 * u64::from(self.length()), 16)?;
        let mut buffers = [Buffer::default(); MOST_INPUTS];
        buffers.iter_mut().zip(inputs).for_each(|(slot, buffer)| *slot = *buffer);
        Ok(Program {
            code: Global::from_address(memory.address),
            inputs: self.bind(inputs)?,
            buffers,
            words: self.length(),
            slots: self.slots(),
            dtype,
            count: self.count(),
        })
    }
}

impl Epilogue {
    /// Checks that Y holds `count` elements, of type `dtype` where there is no program.
    pub(crate) fn new(
        program: Option<&Program>,
        y: Buffer,
        count: u64,
        dtype: DType,
    ) -> Result<Self, Reject> {
        let dtype = program.map_or(dtype, |program| program.dtype);
        let bytes = u64::from(size(dtype));
        let whole = (4 * bytes).min(16);
        y.holds("Y", count.saturating_mul(bytes), if program.is_some() { whole } else { bytes })?;
        let none = Self {
            code: Global::from_address(0),
            inputs: [Global::from_address(0); MOST_INPUTS],
            y: Global::from_address(y.address),
            words: 0,
            slots: 0,
            dtype: dtype as u32,
            aligned: y.address.is_multiple_of(whole).into(),
        };
        let Some(program) = program else { return Ok(none) };
        if program.count != count {
            return Err(Reject::Extent { name: "elements of the program", got: program.count, limit: count });
        }
        if program.buffers.iter().any(|input| y.overlaps(input)) {
            return Err(Reject::Unsupported { what: "an output that lies over an input" });
        }
        let Program { code, inputs, words, slots, .. } = *program;
        Ok(Self { code, inputs, words, slots, ..none })
    }
}
