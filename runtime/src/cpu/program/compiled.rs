//! A compiled program, and how it runs on tiles.

use crate::cpu::simd::{Folding, Routine};

/// How an input is read in a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// One element for the whole tile.
    One,
    /// One element after the other, as they lie in memory.
    Run,
    /// Collected into scratch memory before the loops read them.
    Gathered,
}

/// Where something lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// At this byte of the scratch memory.
    Scratch(usize),
    /// At the front of this input's window.
    Input(usize),
    /// In this output.
    Output(usize),
    /// Nowhere: the operand is not read.
    Nowhere,
}

/// A register or element of storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) place: Place,
    /// Bytes of an element.
    pub(super) width: usize,
    /// Whether there is one element for the whole tile.
    pub(super) one: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Collects input `input` at a place in scratch memory.
    Gather { input: usize, to: usize, width: usize },
    /// One loop.
    Loop { routine: Routine, to: Operand, from: [Operand; 3] },
}

/// A program for tiles whose inputs are read in certain ways.
///
/// What is one element for a tile is computed for some tiles at once, before them: element `i` of such an input or
/// register belongs to tile `i`, their *lane*.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Byte offsets, bytes and bits of the constants.
    pub(super) constants: Vec<(usize, usize, u64)>,
    /// Most lanes.
    pub(super) lanes: usize,
    /// What is one element for a tile.
    pub(super) uniform: Vec<Step>,
    /// What is computed for each element.
    pub(super) steps: Vec<Step>,
    /// Of the steps that can add up what they make: which, the output that they write, and how.
    pub(super) folding: Option<(usize, usize, Folding)>,
    /// Bytes per element of the outputs.
    pub(super) widths: Vec<usize>,
    /// Most elements of a tile.
    pub(super) tile: usize,
    /// Bytes of scratch memory.
    pub(super) scratch: usize,
}

/// What the steps read and write in one tile.
pub(super) struct Tile<'t, 'o> {
    /// Elements.
    pub(super) len: usize,
    /// Where it lies, of tiles that are run together.
    pub(super) rows: Rows<'t>,
    /// Windows of the inputs; those of [`Reach::Gathered`] are not looked at.
    pub(super) inputs: &'t [&'t [u8]],
    /// The outputs, and the element of theirs at which the tile begins.
    pub(super) outputs: &'t mut [&'o mut [u8]],
    pub(super) at: usize,
    /// As many bytes as [`Compiled::scratch`] says, aligned to 64.
    pub(super) scratch: &'t mut [u8],
    /// Collects an input's elements of the tile.
    pub(super) gather: &'t dyn Fn(usize, &mut [u8]),
}

/// A tile among tiles of neighbouring rows: inputs and outputs are those of all of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Rows<'t> {
    /// Which of the rows it is of.
    pub(super) lane: usize,
    /// The element of the row's at which it begins.
    pub(super) from: usize,
    /// Bytes from row to row of the inputs and of the outputs; nothing where there are none.
    pub(super) inputs: &'t [usize],
    pub(super) outputs: &'t [usize],
    /// How many of the first outputs are places for one tile.
    pub(super) still: usize,
}

impl Rows<'_> {
    /// Where the row's bytes of what lies `steps[k]` bytes from row to row begin.
    #[inline(always)]
    fn start(&self, steps: &[usize], k: usize) -> usize {
        steps.get(k).map_or(0, |step| step * self.lane)
    }
}

/// What is not read.
pub(super) const NOTHING: Operand = Operand { place: Place::Nowhere, width: 0, one: false };

impl Compiled {
    /// Whether [`Compiled::run_steps`] can add up output `k` as it computes it, and write it where it is `read`.
    pub(super) fn adds_up(&self, k: usize, read: bool) -> bool {
        self.folding.is_some_and(|(_, output, folding)| output == k && (folding.writes || !read))
    }

    /// Writes the constants to a thread's scratch memory, before its first tile.
    pub(super) fn prepare(&self, scratch: &mut [u8]) {
        for &(offset, width, bits) in &self.constants {
            for cell in scratch[offset..][..width * self.lanes].chunks_exact_mut(width) {
                cell.copy_from_slice(&bits.to_le_bytes()[..width]);
            }
        }
    }

    /// Computes what is one element for a tile, for the first `lanes` tiles, of whose inputs those that are so begin
    /// at `inputs`.
    pub(super) fn run_uniform(&self, lanes: usize, inputs: &[&[u8]], scratch: &mut [u8]) {
        debug_assert!(lanes <= self.lanes);
        for step in &self.uniform {
            if let Step::Loop { routine, to, from: [a, b, c] } = step {
                // What is one element for a tile is kept in scratch memory.
                let Place::Scratch(start) = to.place else { continue };
                let (target, registers) = Registers::beside(scratch, start, to.width * lanes);
                let fetch = |operand: &Operand| {
                    let bytes = operand.width * lanes;
                    match operand.place {
                        Place::Input(k) => &inputs[k][..bytes],
                        Place::Scratch(at) => registers.at(at, bytes),
                        Place::Output(_) | Place::Nowhere => &[][..],
                    }
                };
                routine.call(target, [fetch(a), fetch(b), fetch(c)]);
            }
        }
    }

    /// Runs all steps on one tile by itself.
    pub(super) fn run(&self, tile: &mut Tile<'_, '_>) {
        self.run_uniform(1, tile.inputs, tile.scratch);
        self.run_steps(tile, false);
    }

    /// Runs the steps on one tile of those that [`Compiled::run_uniform`] was called for. With `sum` the output that
    /// [`Compiled::adds_up`] tells is added up, and not written where it said so.
    pub(super) fn run_steps(&self, tile: &mut Tile<'_, '_>, sum: bool) -> f32 {
        let (len, rows) = (tile.len, tile.rows);
        let mut total = 0.0;
        for (index, step) in self.steps.iter().enumerate() {
            let (routine, to, from) = match step {
                Step::Gather { input, to, width } => {
                    (tile.gather)(*input, &mut tile.scratch[*to..to + len * width]);
                    continue;
                }
                Step::Loop { routine, to, from } => (routine, to, from),
            };
            if let Place::Scratch(start) = to.place {
                let (target, registers) = Registers::beside(tile.scratch, start, to.width * len);
                let fetch = |operand| registers.operand(operand, tile.inputs, len, &rows);
                routine.call(target, [fetch(&from[0]), fetch(&from[1]), fetch(&from[2])]);
            } else if let Place::Output(k) = to.place {
                let start = if k < rows.still { 0 } else { rows.start(rows.outputs, k) + tile.at * to.width };
                let target = &mut tile.outputs[k][start..][..len * to.width];
                let registers = Registers { before: &*tile.scratch, after: &[], beyond: 0 };
                let fetch = |operand| registers.operand(operand, tile.inputs, len, &rows);
                let operands = [fetch(&from[0]), fetch(&from[1]), fetch(&from[2])];
                match self.folding {
                    Some((at, _, folding)) if sum && at == index => total = folding.call(target, operands),
                    _ => routine.call(target, operands),
                }
            }
        }
        total
    }
}

/// Scratch memory but for what a step writes. A register never lies where an operand of its instruction does.
#[derive(Clone, Copy)]
struct Registers<'s> {
    before: &'s [u8],
    after: &'s [u8],
    /// Where `after` begins.
    beyond: usize,
}

impl<'s> Registers<'s> {
    /// The `bytes` from `start` on, and what is beside them.
    #[inline(always)]
    fn beside(scratch: &'s mut [u8], start: usize, bytes: usize) -> (&'s mut [u8], Self) {
        let (before, rest) = scratch.split_at_mut(start);
        let (target, after) = rest.split_at_mut(bytes);
        (target, Self { before, after, beyond: start + bytes })
    }

    #[inline(always)]
    fn at(&self, at: usize, bytes: usize) -> &'s [u8] {
        if at < self.before.len() {
            &self.before[at..][..bytes]
        } else {
            &self.after[at - self.beyond..][..bytes]
        }
    }

    /// The elements of an operand that a tile reads.
    #[inline(always)]
    fn operand(&self, operand: &Operand, inputs: &[&'s [u8]], len: usize, rows: &Rows<'_>) -> &'s [u8] {
        let width = operand.width;
        match (operand.place, operand.one) {
            (Place::Scratch(at), true) => self.at(at + rows.lane * width, width),
            (Place::Scratch(at), false) => self.at(at, len * width),
            (Place::Input(k), true) => &inputs[k][rows.lane * width..][..width],
            (Place::Input(k), false) => {
                let start = rows.start(rows.inputs, k) + rows.from * width;
                &inputs[k][start..][..len * width]
            }
            (Place::Output(_) | Place::Nowhere, _) => &[],
        }
    }
}
