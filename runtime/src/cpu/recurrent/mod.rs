//! # Recurrent kernels: LSTM, GRU, RNN
//!
//! For every step, `gates = (W·x + b) + R·h`, then the cell. W·x is computed for many steps at once, as one
//! product; R is packed once at load so that a step is a single pass over it, with all gates of a unit in
//! registers when their sums are complete ([`layout`]). State stays in the compute type through all steps:
//! `f16` and `bf16` are widened when weights are packed and inputs read, and rounded once per output element.
//!
//! Hidden units are split among the members of a gang when a step reads enough weights to pay for its barrier
//! ([`strand`]); two directions need no barrier between them. Splitting does not change any sum. Rows of a
//! batch are ordered by length, so that finished rows cost nothing ([`sequence`]).
//!
//! A row of length 0 gives its initial state as last state, and zeros in Y, as does a sequence of time 0
//! (ONNX Runtime gives zeros for the states too).

#![allow(
    clippy::inline_always,
    reason = "vector code has to be inlined into the shell of its instruction set, or it runs without it"
)]

mod blocks;
mod cells;
mod constants;
mod gate;
mod layout;
mod pack;
pub(crate) mod quantised;
mod sequence;
mod strand;

use super::number::{Number, Real, dispatch};
use super::panels::{Stored, wide_elements};
use super::relay::Relay;
use super::shards::{Claim, Rows, split};
use super::simd::Level;
use super::{CpuSite, Io, Kernel, wavefront};
use crate::error::OpError;
use crate::exec::Stop;
use crate::ops::recurrence::{Block, Cell, Recurrence};
use blocks::Blocks;
pub(crate) use blocks::Pieces;
pub(crate) use constants::pack;
use gate::{Gate, Gates};
use layout::Layout;
pub(crate) use pack::Weights;
use pack::{Vectors, spaced, take};
use sequence::{Sequence, arrange};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use strand::{Ended, Strand};

/// Positions of the inputs.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const INITIAL: [usize; 2] = [5, 6];
const P: usize = 7;

/// Most threads of a direction.
const MOST_THREADS: usize = 64;
/// Bytes of weights that a thread reads in the time that a barrier takes, several times over: a thread with
/// less to read is not worth waiting for.
const BYTES_PER_THREAD: usize = 64 << 10;

/// The kernel for inputs of known shapes.
pub(crate) fn kernel(recurrence: &Recurrence, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let (x, w, r) = (site.input_shape(X)?, site.input_shape(W)?, site.input_shape(R)?);
    let ([a, b, input], [_, _, _], [_, _, hidden]) = (&x[..], &w[..], &r[..]) else {
        return Err(OpError::internal("a recurrence of other ranks than inferred"));
    };
    let (time, batch) = if recurrence.batch_first { (*b, *a) } else { (*a, *b) };
    let layout = Layout::new(recurrence.cell, *input, *hidden)?;
    let plan = Plan::new(recurrence, layout, [time, batch], site)?;
    let scratch = plan.scratch_bytes().ok_or_else(|| OpError::shape("the recurrence is too large"))?;
    dispatch!(site.inputs.tensor(X)?.dtype, floats, S => {
        let rows = plan.rows(site)?;
        Ok(Kernel::new(move |io| plan.run::<S>(io)).with_scratch(scratch).with_rows(rows))
    })
}

/// Everything about a recurrence that is known once its shapes are.
#[derive(Debug)]
struct Plan {
    recurrence: Recurrence,
    layout: Layout,
    time: usize,
    batch: usize,
    blocks: Blocks,
    /// Most steps whose W·x is computed at once.
    chunk: usize,
    /// Members that the weights are worth.
    threads: usize,
    level: Level,
    /// Steps of all runs so far: each reads panels from the end at which the one before it ended, where the caches hold what
    /// was read last, the first of a run as well.
    steps: AtomicUsize,
    weights: Option<Arc<Weights>>,
    peepholes: bool,
    /// Bytes of a stored and of a computed element.
    sizes: [usize; 2],
}

impl Plan {
    fn new(
        recurrence: &Recurrence,
        layout: Layout,
        [time, batch]: [usize; 2],
        site: &CpuSite<'_>,
    ) -> Result<Self, OpError> {
        let dtype = site.inputs.tensor(X)?.dtype;
        let stored = dtype.bits() / 8;
        let computed = stored.max(4);
        let planes = recurrence.directions.len();
        let blocks = Blocks::new(recurrence, &layout, computed, [time, batch])?;
        // A row more costs less than its share of the weights' bytes, which are read once for all rows.
        let weights = layout.panels(layout.hidden).saturating_mul(computed);
        let worth = (weights.saturating_mul(batch.div_ceil(2)) / BYTES_PER_THREAD).max(1);
        let most = (layout.padded / layout.grain).clamp(1, MOST_THREADS);
        let threads = (worth.min(most) * planes).min(site.threads).max(1);
        Ok(Self {
            recurrence: recurrence.clone(),
            time,
            batch,
            chunk: blocks.most().steps,
            blocks,
            threads,
            level: Level::detect(),
            steps: AtomicUsize::new(0),
            weights: site.packed_as::<Weights>(),
            peepholes: site.inputs.has(P),
            sizes: [stored, computed],
            layout,
        })
    }

    /// How it makes and uses rows in their order, where it can be a layer of a wavefront: on one thread, forwards, all rows
    /// of the batch through all steps, in the type that it computes in.
    fn rows(&self, site: &CpuSite<'_>) -> Result<Option<wavefront::Rows>, OpError> {
        let Self { recurrence, layout, time: steps, batch, sizes: [stored, computed], .. } = self;
        let forwards = matches!(&recurrence.directions[..], [direction] if !direction.reverse);
        let in_order = !recurrence.batch_first || *batch == 1;
        let whole = recurrence.piece.is_empty() && stored == computed;
        if self.threads > 1 || !whole || !forwards || !in_order || site.inputs.has(LENGTHS) {
            return Ok(None);
        }
        let (read, made) = (layout.input * stored, layout.hidden * stored);
        Ok(Some(wavefront::Rows { steps: *steps, batch: *batch, read, made }))
    }

    /// Elements of the scratch segments, in the order in which [`Plan::run`] takes them: X, W, R and vectors
    /// where they are brought into form at run time; then W·x, private values and the two states, of all
    /// directions, and the turned operands of all parts.
    fn segments(&self) -> Option<[usize; 9]> {
        let planes = self.recurrence.directions.len();
        let (layout, batch) = (&self.layout, self.batch);
        let [stored, computed] = self.sizes;
        let packed = |part: fn(&Weights) -> bool| self.weights.as_ref().is_some_and(|w| part(w));
        let unless = |held: bool, count: usize| if held { Some(0) } else { count.checked_mul(planes) };
        let x =
            if stored == computed { 0 } else { self.time.checked_mul(batch)?.checked_mul(layout.input)? };
        let state = layout.padded.checked_mul(batch)?.checked_mul(planes)?;
        Some([
            x,
            unless(packed(|w| w.input.is_some()), layout.panels(layout.input))?,
            unless(packed(|w| w.recurrent.is_some()), layout.panels(layout.hidden))?,
            unless(packed(|w| w.vectors.is_some()), layout.vectors())?,
            state.checked_mul(layout.cell.gates())?.checked_mul(self.chunk)?,
            state,
            state,
            state,
            self.turned().checked_mul(self.threads.max(planes))?,
        ])
    }

    /// Elements of a part's turned operand.
    fn turned(&self) -> usize {
        let Block { steps, of } = self.blocks.most();
        let rows = [steps, of].map(|steps| steps.saturating_mul(self.batch)).into();
        let (input, hidden, each) = (self.layout.input, self.layout.hidden, (self.batch, self.batch));
        if self.sizes[1] == size_of::<f32>() {
            wide_elements::<f32>(input, rows).max(wide_elements::<f32>(hidden, each))
        } else {
            wide_elements::<f64>(input, rows).max(wide_elements::<f64>(hidden, each))
        }
    }

    fn scratch_bytes(&self) -> Option<usize> {
        let mut total = spaced::<usize>(self.batch)?.checked_mul(2)?;
        for elements in self.segments()? {
            let bytes = elements.checked_mul(self.sizes[1])?.checked_next_multiple_of(64)?;
            total = total.checked_add(bytes)?;
        }
        Some(total)
    }

    fn run<S: Real<Compute: Gate>>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (layout, batch) = (&self.layout, self.batch);
        let directions = &self.recurrence.directions;
        let planes = directions.len();
        let too_large = || OpError::internal("sizes overflow after they were checked");
        let segments = self.segments().ok_or_else(too_large)?;

        let mut link = io.take_link();
        let x = if link.from.is_some() { &[] } else { io.input::<S>(X)? };
        let given_lengths = io.optional_input::<i32>(LENGTHS)?;
        let initial = [io.optional_input::<S>(INITIAL[0])?, io.optional_input::<S>(INITIAL[1])?];
        let bytes = |index: usize| io.optional(index).map(|t| t.bytes());
        let (w, r) = (bytes(W).unwrap_or_default(), bytes(R).unwrap_or_default());
        let vectors = Vectors { bias: bytes(B), peephole: bytes(P) };
        let context = io.context;
        let (outputs, mut rest) = io.outputs_and_scratch::<S, 3>()?;

        let (order, lengths) = (take::<usize>(&mut rest, batch)?, take::<usize>(&mut rest, batch)?);
        arrange(given_lengths, self.time, order, lengths)?;
        let (order, lengths) = (&*order, &*lengths);
        let mut segment = |index: usize| take::<S::Compute>(&mut rest, segments[index]);

        let widened = segment(0)?;
        let x: &[S::Compute] = if self.sizes[0] == self.sizes[1] {
            bytemuck::cast_slice(x)
        } else {
            widened.iter_mut().zip(x).for_each(|(to, from)| *to = from.load());
            widened
        };
        let (own_w, own_r, own_v) = (segment(1)?, segment(2)?, segment(3)?);
        let held = self.weights.as_deref();
        let input = match held.and_then(|h| h.input.as_ref()) {
            Some(packed) => packed.stored(),
            None => {
                pack::pack_panels::<S, S::Compute>(layout, w, layout.input, (&mut *own_w, &mut []), &|_| ());
                Stored::Own(own_w)
            }
        };
        let recurrent = match held.and_then(|h| h.recurrent.as_ref()) {
            Some(packed) => packed.stored(),
            None => {
                pack::pack_panels::<S, S::Compute>(layout, r, layout.hidden, (&mut *own_r, &mut []), &|_| ());
                Stored::Own(own_r)
            }
        };
        let packed = held.map_or([None, None], |held| [held.input.as_ref(), held.recurrent.as_ref()]);
        let unit = packed.map(|packed| packed.and_then(pack::PackedPanels::unit::<S::Compute>));
        let vectors = match held.and_then(|h| h.vectors.as_ref()) {
            Some(buffer) => buffer.elements(),
            None => {
                pack::vectors::<S>(layout, vectors, own_v);
                own_v
            }
        };
        let (mut projected, mut private) = (segment(4)?, segment(5)?);
        let (mut front, mut back) = (segment(6)?, segment(7)?);
        let mut turned = segment(8)?;

        let steps_before = self.steps.fetch_add(self.time, Ordering::Relaxed);
        let stop = Stop::default();
        let gang = context.team.gang(self.threads, &stop);
        let parts = self.parts(gang.size());

        // Which bytes of the outputs each part writes.
        let size = self.sizes[0];
        let column = |unit: usize| unit.min(layout.hidden) * size;
        let claims: SmallVec<[Claim; 8]> = parts
            .iter()
            .map(|p| Claim { plane: p.plane, columns: column(p.units[0])..column(p.units[1]) })
            .collect();
        let rows = Rows {
            bytes: layout.hidden * size,
            inner: if self.recurrence.batch_first { 1 } else { batch },
            planes,
        };
        let overlap = || OpError::internal("outputs overlap");
        let [y, last_h, last_c] = outputs.map(|o| split(bytemuck::cast_slice_mut(o), rows, &claims));
        let mut outputs =
            y.ok_or_else(overlap)?.zip(last_h.ok_or_else(overlap)?).zip(last_c.ok_or_else(overlap)?);

        let mut relays: SmallVec<[Relay<'_>; 2]> = (0..planes)
            .map(|plane| Relay::new(parts.iter().filter(|p| p.plane == plane).count(), &stop))
            .collect();
        let mut members: SmallVec<[Member<'_, S::Compute>; 4]> = SmallVec::new();
        for (plane, relay) in relays.iter_mut().enumerate() {
            let sequence = Sequence {
                order,
                lengths,
                time: self.time,
                batch_first: self.recurrence.batch_first,
                reverse: directions[plane].reverse,
                plane,
                planes,
            };
            let state = layout.padded * batch;
            let (first, second) = (cut(&mut front, state)?, cut(&mut back, state)?);
            fill_state(first, layout, sequence, initial[0], 0..layout.padded);
            let own = parts.iter().filter(|p| p.plane == plane);
            let columns: SmallVec<[_; 8]> = own.clone().map(|p| p.units[0]..p.units[1]).collect();
            let mut own = own;
            let mut failed = None;
            let made = relay.members([first, second], layout.padded, columns.into_iter(), |relay| {
                let (Some(part), Some(((y, last_h), last_c))) = (own.next(), outputs.next()) else { return };
                let units = part.units[0]..part.units[1];
                let memory = cut(&mut projected, units.len() * layout.cell.gates() * self.chunk * batch)
                    .and_then(|p| Ok((p, cut(&mut private, units.len() * batch)?)))
                    .and_then(|(p, own)| Ok((p, own, cut(&mut turned, self.turned())?)));
                let (projected, private, turned) = match memory {
                    Ok(memory) => memory,
                    Err(error) => return failed = Some(error),
                };
                if matches!(layout.cell, Cell::Lstm { .. }) {
                    fill_state(private, layout, sequence, initial[1], units.clone());
                }
                let strand = Strand {
                    layout,
                    sequence,
                    gates: Gates::new(
                        self.level,
                        &directions[plane].activations,
                        self.recurrence.clip.map(|c| S::Compute::from_f64(c.into())),
                    ),
                    peepholes: self.peepholes,
                    units,
                    input: layout.plane_in(input, plane, layout.input),
                    recurrent: layout.plane_in(recurrent, plane, layout.hidden),
                    unit,
                    vectors: &vectors[plane * layout.vectors()..(plane + 1) * layout.vectors()],
                    x,
                    link: std::mem::take(&mut link),
                    steps_before,
                    blocks: &self.blocks,
                    chunk: self.chunk,
                    projected,
                    private,
                    turned,
                    relay,
                    outputs: [y, last_h, last_c],
                    store: store::<S>,
                    size,
                    interrupt: context.interrupt,
                };
                match members.get_mut(part.member) {
                    Some(member) => member.strands.push(strand),
                    None => members.push(Member { strands: SmallVec::from_iter([strand]), result: Ok(()) }),
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if !made {
                return Err(OpError::internal("threads of a recurrence overlap"));
            }
        }
        gang.run(&mut members, &|member| {
            for strand in &mut member.strands {
                match strand.run() {
                    Ok(()) => {}
                    Err(ended) => {
                        stop.raise();
                        if let Ended::Interrupted(error) = ended {
                            member.result = Err(error);
                        }
                        return;
                    }
                }
            }
        });
        members.into_iter().try_for_each(|m| m.result)
    }

    /// Cuts the work into parts for `size` members: with two directions and members enough, each direction
    /// has its own.
    fn parts(&self, size: usize) -> SmallVec<[Part; 8]> {
        let planes = self.recurrence.directions.len();
        let blocks = self.layout.padded / self.layout.grain;
        let mut parts = SmallVec::new();
        for plane in 0..planes {
            let (first, count) = match (planes, size) {
                (2, 2..) if plane == 0 => (0, size.div_ceil(2)),
                (2, 2..) => (size.div_ceil(2), size / 2),
                _ => (0, size),
            };
            let count = if planes == 2 && size == 1 { 1 } else { count.min(blocks).max(1) };
            for index in 0..count {
                let at = |i: usize| blocks * i / count * self.layout.grain;
                parts.push(Part { plane, member: first + index, units: [at(index), at(index + 1)] });
            }
        }
        parts
    }
}

/// What one member does of one direction.
#[derive(Clone, Debug)]
struct Part {
    plane: usize,
    member: usize,
    /// First unit and end.
    units: [usize; 2],
}

/// One thread: its part of one direction, or all of both.
struct Member<'a, F> {
    strands: SmallVec<[Strand<'a, F>; 2]>,
    result: Result<(), OpError>,
}

#[allow(clippy::mut_mut, reason = "the slice itself is moved on")]
fn cut<'a, T>(from: &mut &'a mut [T], count: usize) -> Result<&'a mut [T], OpError> {
    let short = || OpError::internal("recurrent scratch memory is too small");
    let (part, rest) = std::mem::take(from).split_at_mut_checked(count).ok_or_else(short)?;
    *from = rest;
    Ok(part)
}

/// Sets `state`, `[batch, units]`, to the initial state of these units, or to zero.
fn fill_state<S: Real>(
    state: &mut [S::Compute],
    layout: &Layout,
    sequence: Sequence<'_>,
    initial: Option<&[S]>,
    units: std::ops::Range<usize>,
) {
    state.fill(S::Compute::default());
    let Some(initial) = initial else { return };
    let valid = units.start.min(layout.hidden)..units.end.min(layout.hidden);
    for (row, state) in state.chunks_exact_mut(units.len().max(1)).enumerate() {
        let from = &initial[sequence.state(row) * layout.hidden..][valid.clone()];
        state.iter_mut().zip(from).for_each(|(to, from)| *to = from.load());
    }
}

/// Rounds elements to the storage type.
fn store<S: Real>(from: &[S::Compute], to: &mut [u8]) {
    for (to, from) in to.chunks_exact_mut(size_of::<S>()).zip(from) {
        to.copy_from_slice(bytemuck::bytes_of(&S::store(*from)));
    }
}
