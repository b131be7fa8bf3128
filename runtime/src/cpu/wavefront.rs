//! Layers one behind the other, each on a thread of its own: while one is at a step, the one behind it is at an earlier step.
//!
//! What a layer makes of a step is handed to the next one at once ([`super::handing`]), which begins as soon as the first
//! steps are there. Layers for which that is done have too few weights for several threads to share a step: it would be shorter
//! than what it takes them to meet behind it. This way they meet once for some steps. Layers read pieces of their sequence such that every sum is taken in
//! the order in which it is taken over the whole.

use super::handing::{Giver, Handing, Taker};
use super::io::Slot;
use super::{Io, Kernel, RunContext};
use crate::error::OpError;
use crate::exec::{Stop, Team};
use crate::tensor::ValueRef;
use smallvec::SmallVec;

/// Pieces that a sequence is read in: with fewer the last layer begins late, with more each is a small product.
const PIECES: usize = 5;
/// Fewest pieces.
const LEAST_PIECES: usize = 3;
/// Most steps of a piece.
const MOST_STEPS: usize = 16;

/// What a kernel tells that makes the rows of its output 0, and uses those of its input 0, in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Rows are used `batch` at a time.
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    /// Bytes of a row of input 0, and of one of output 0.
    pub(crate) read: usize,
    pub(crate) made: usize,
    /// Steps such that pieces of any multiple of them give the same bits.
    pub(crate) piece: usize,
}

impl Rows {
    /// Steps of the pieces in which a sequence that is handed on is read; `None` where there would be too few.
    fn steps_of_piece(&self) -> Option<usize> {
        let wanted = (self.steps / PIECES).clamp(1, MOST_STEPS);
        let steps = wanted.next_multiple_of(self.piece.max(1));
        (self.steps / steps >= LEAST_PIECES).then_some(steps)
    }

    /// Whether a kernel of these rows can use those that one of `before` makes while they are made, and enough is gained.
    fn follows(&self, before: &Self) -> bool {
        let alike = self.read == before.made && (self.steps, self.batch) == (before.steps, before.batch);
        alike && self.steps_of_piece().is_some()
    }
}

/// Where a layer of a wavefront has its input 0 from, and who is handed output 0.
#[derive(Debug, Default)]
pub(crate) struct Link<'h> {
    /// In the place of input 0.
    pub(crate) from: Option<Taker<'h>>,
    /// Given every row of output 0.
    pub(crate) to: Option<Giver<'h>>,
    /// The steps that input 0 is read for at once, where not for as many as the kernel would.
    pub(crate) piece: Option<usize>,
}

/// Layers, of which each but the first has its input 0 from the one before it.
#[derive(Debug)]
pub(crate) struct Wavefront {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    kernel: Kernel,
    rows: Rows,
    /// Inputs and outputs.
    counts: [usize; 2],
}

/// A layer in a run.
struct Member<'a, 'b> {
    kernel: &'b Kernel,
    io: Io<'a, 'b>,
    result: Result<(), OpError>,
}

impl Wavefront {
    /// Whether `next` is to run behind `last` in a wavefront, where it has its input 0 from there.
    pub(crate) fn joins(last: &Kernel, next: &Kernel) -> bool {
        last.rows().zip(next.rows()).is_some_and(|(last, next)| next.follows(last))
    }

    /// Of kernels that join one another, with the numbers of their inputs and outputs.
    pub(crate) fn new<'k>(layers: impl Iterator<Item = (&'k Kernel, [usize; 2])>) -> Option<Self> {
        let layers = layers
            .map(|(kernel, counts)| Some(Layer { kernel: kernel.clone(), rows: *kernel.rows()?, counts }));
        Some(Self { layers: layers.collect::<Option<_>>()? })
    }

    /// Bytes of scratch memory: of every layer its own, and the rows that it hands on.
    pub(crate) fn scratch(&self) -> Option<usize> {
        let own = self.layers.iter().map(|layer| Some([layer.kernel.scratch(), layer.handed()?]));
        own.flat_map(|own| own.map_or([None, None], |own| own.map(Some)))
            .try_fold(0usize, |total, bytes| total.checked_add(bytes?.checked_next_multiple_of(64)?))
    }

    /// Runs all layers on `inputs`, theirs one layer behind the other, where input 0 of all but the first is absent. An
    /// error comes with the number of its layer.
    pub(crate) fn run<'x>(
        &self,
        inputs: &[Option<ValueRef<'x>>],
        outputs: &mut [Slot<'x>],
        scratch: &mut [u8],
        context: RunContext<'_>,
    ) -> Result<(), (usize, OpError)> {
        let small = || (0, OpError::internal("a wavefront's memory is too small"));
        let stop = Stop::default();
        let (mut inputs, mut outputs, mut scratch) = (inputs, outputs, scratch);
        let mut handings: SmallVec<[Handing<'_>; 4]> = SmallVec::new();
        let mut own: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
        for layer in &self.layers {
            let handed = layer.handed().ok_or_else(small)?;
            own.push(cut(&mut scratch, layer.kernel.scratch()).ok_or_else(small)?);
            let rows = cut(&mut scratch, handed).ok_or_else(small)?;
            handings.push(Handing::new(rows, layer.rows.made, &stop));
        }
        let mut members: SmallVec<[Member<'_, '_>; 4]> = SmallVec::new();
        let mut taker = None;
        let last = self.layers.len().saturating_sub(1);
        for (index, ((layer, own), handing)) in self.layers.iter().zip(own).zip(&mut handings).enumerate() {
            let [given, made] = layer.counts;
            let (given, rest) = inputs.split_at_checked(given).ok_or_else(small)?;
            let (made, others) = std::mem::take(&mut outputs).split_at_mut_checked(made).ok_or_else(small)?;
            (inputs, outputs) = (rest, others);
            let (giver, next) = handing.ends();
            let (from, piece) = (taker.replace(next), layer.rows.steps_of_piece());
            let link = Link { from, to: (index < last).then_some(giver), piece };
            let context = RunContext { team: Team::alone(), ..context };
            let io = Io::new(given, made, own, context).with_link(link);
            members.push(Member { kernel: &layer.kernel, io, result: Ok(()) });
        }
        let run = |member: &mut Member<'_, '_>| {
            member.result = member.kernel.run(&mut member.io);
            if member.result.is_err() {
                stop.raise();
            }
        };
        let gang = context.team.gang(members.len(), &stop);
        if gang.size() == members.len() {
            gang.run(&mut members, &run);
        } else {
            members.iter_mut().for_each(run);
        }
        for (index, member) in members.into_iter().enumerate() {
            member.result.and_then(|()| member.io.finish()).map_err(|error| (index, error))?;
        }
        Ok(())
    }
}

impl Layer {
    /// Bytes of the rows that it makes.
    fn handed(&self) -> Option<usize> {
        self.rows.steps.checked_mul(self.rows.batch)?.checked_mul(self.rows.made)
    }
}

/// The first `bytes` of `from`, which goes on at a multiple of 64 behind them.
#[allow(clippy::mut_mut, reason = "the slice itself is moved on")]
fn cut<'a>(from: &mut &'a mut [u8], bytes: usize) -> Option<&'a mut [u8]> {
    let (own, rest) = std::mem::take(from).split_at_mut_checked(bytes.next_multiple_of(64))?;
    *from = rest;
    own.get_mut(..bytes)
}
