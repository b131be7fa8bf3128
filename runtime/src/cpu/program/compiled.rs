//! A compiled program, and how it runs on tiles.

use crate::cpu::simd::{Across, Folding, Routine, Span};

/// How an input is read in a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// One element for the whole tile.
    One,
    /// One element after the other, as they lie in memory.
    Run,
    /// Collected into scratch memory before the loops read them.
    Gathered,
    /// Where the loop that reads them, a product with one element, writes them: in the output.
    There,
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
/// Tiles of some rows may be run together, each in a *lane*: what is one element for a tile is computed before them,
/// element `i` of such an input or register for lane `i`, and other registers have a tile for each lane.
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
    /// Most elements of a tile; a register has as many for each lane.
    pub(super) tile: usize,
    /// Bytes of scratch memory.
    pub(super) scratch: usize,
}

/// What the steps read and write in one tile, or in those of some rows.
pub(super) struct Tile<'t, 'o> {
    /// Elements.
    pub(super) len: usize,
    /// The rows whose tiles these are.
    pub(super) rows: Rows<'t>,
    /// Windows of the inputs; those of [`Reach::Gathered`] are not looked at.
    pub(super) inputs: &'t [&'t [u8]],
    /// The outputs, and the element of theirs at which the tile begins.
    pub(super) outputs: &'t mut [&'o mut [u8]],
    pub(super) at: usize,
    /// As many bytes as [`Compiled::scratch`] says, aligned to 64.
    pub(super) scratch: &'t mut [u8],
    /// Collects an input's elements of the tile of one of the rows.
    pub(super) gather: &'t dyn Fn(usize, usize, &mut [u8]),
}

/// Tiles of neighbouring rows that are run together: inputs and outputs are those of all of them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'t> {
    /// How many; no more than lanes.
    pub(super) count: usize,
    /// The element of a row's at which its tile begins.
    pub(super) from: usize,
    /// Bytes from row to row of the inputs and of the outputs; nothing where there is one row.
    pub(super) inputs: &'t [usize],
    pub(super) outputs: &'t [usize],
    /// How many of the first outputs are places for tiles alone.
    pub(super) still: usize,
}

impl Rows<'_> {
    /// One tile by itself.
    pub(super) const ONE: Self = Self { count: 1, from: 0, inputs: &[], outputs: &[], still: 0 };
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
                        Place::Scratch(at) => &registers.from(at)[..bytes],
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
        self.run_steps(tile, None);
    }

    /// Runs the steps on tiles of rows that [`Compiled::run_uniform`] was called for. With `sums`, one for each row, the
    /// output that [`Compiled::adds_up`] tells is added up, and not written where it said so.
    pub(super) fn run_steps(&self, tile: &mut Tile<'_, '_>, mut sums: Option<&mut [f32]>) {
        let (len, rows) = (tile.len, tile.rows);
        for (index, step) in self.steps.iter().enumerate() {
            let (routine, to, from) = match step {
                Step::Gather { input, to, width } => {
                    for row in 0..rows.count {
                        let start = to + row * self.tile * width;
                        (tile.gather)(*input, row, &mut tile.scratch[start..start + len * width]);
                    }
                    continue;
                }
                Step::Loop { routine, to, from } => (routine, to, from),
            };
            let to_span = self.span(to, len, rows.outputs);
            if let Place::Scratch(start) = to.place {
                let bytes = (rows.count - 1) * to_span.step + to_span.bytes;
                let (target, registers) = Registers::beside(tile.scratch, start, bytes);
                let (operands, from) = self.operands(from, registers, tile.inputs, (len, &rows));
                routine.call_rows(target, operands, &Across { rows: rows.count, to: to_span, from });
            } else if let Place::Output(k) = to.place {
                let start = if k < rows.still { 0 } else { tile.at * to.width };
                let target = &mut tile.outputs[k][start..];
                let registers = Registers { before: &*tile.scratch, after: &[], beyond: 0 };
                let (operands, from) = self.operands(from, registers, tile.inputs, (len, &rows));
                let across = Across { rows: rows.count, to: to_span, from };
                match (self.folding, &mut sums) {
                    (Some((at, _, folding)), Some(sums)) if at == index => {
                        folding.call_rows(target, operands, &across, sums);
                    }
                    _ => routine.call_rows(target, operands, &across),
                }
            }
        }
    }

    /// How what a step writes, or a register, lies in tiles of `len` elements; `steps` are those of outputs.
    #[inline(always)]
    fn span(&self, operand: &Operand, len: usize, steps: &[usize]) -> Span {
        let width = operand.width;
        let step = match operand.place {
            _ if operand.one => return Span { bytes: width, step: width },
            Place::Output(k) => steps.get(k).copied().unwrap_or(0),
            _ => self.tile * width,
        };
        Span { bytes: len * width, step }
    }

    /// What a step reads of tiles of `len` elements.
    #[inline(always)]
    fn operands<'s>(
        &self,
        from: &[Operand; 3],
        registers: Registers<'s>,
        inputs: &[&'s [u8]],
        (len, rows): (usize, &Rows<'_>),
    ) -> ([&'s [u8]; 3], [Span; 3]) {
        let (mut bytes, mut spans) = ([&[][..]; 3], [Span::default(); 3]);
        for ((operand, bytes), span) in from.iter().zip(&mut bytes).zip(&mut spans) {
            *span = match operand.place {
                Place::Scratch(at) => {
                    *bytes = registers.from(at);
                    self.span(operand, len, &[])
                }
                Place::Input(k) => {
                    let width = operand.width;
                    if operand.one {
                        *bytes = inputs[k];
                        Span { bytes: width, step: width }
                    } else {
                        *bytes = &inputs[k][rows.from * width..];
                        Span { bytes: len * width, step: rows.inputs.get(k).copied().unwrap_or(0) }
                    }
                }
                Place::Output(_) | Place::Nowhere => break,
            };
        }
        (bytes, spans)
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

    /// What lies from byte `at` on, as far as it is not written.
    #[inline(always)]
    fn from(&self, at: usize) -> &'s [u8] {
        if at < self.before.len() { &self.before[at..] } else { &self.after[at - self.beyond..] }
    }
}
