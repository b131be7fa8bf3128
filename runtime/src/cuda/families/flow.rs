//! Control flow that data on the device decides: launches in parts, between which the host reads *flags*, a few bytes, and
//! decides which part is next. No tensor comes to the host for it. What a part launches may be decided so, too: a loop's body
//! or a branch has loops and branches of its own.
//!
//! Flags lie in the host's memory that the device reaches, those of each loop and branch beside those of others: a loop's
//! body writes its condition there and reads the number of the round from there; a condition that lies elsewhere is copied
//! there. The addresses of a part's launches never change, so that each part is captured once.

use crate::cpu::body::truth_of;
use crate::cpu::random::RandomSource;
use crate::cuda::GpuReject;
use crate::cuda::Replay;
use crate::cuda::site::{GpuKernel, GpuSite, Launches, Operands, STARTS, Weights};
use crate::dtype::DType;
use crate::precision::StoredWeights;
use crate::tensor::Shape;
use recurve_kernels::launch::{Buffer, Reject};
use std::ops::Range;

/// Bytes of the flags of a loop or branch.
pub(crate) const FLAGS: usize = 32;
/// Where the number of the round is among them, an i64.
pub(crate) const ROUND: usize = 0;
/// Where a condition is, a truth value.
pub(crate) const CONDITION: usize = 8;
/// Where the most rounds are, an i64.
pub(crate) const LIMIT: usize = 16;

/// What makes a course of operands.
pub(crate) type MakeCourse = dyn Fn(&Operands<'_>) -> Result<Course, Reject> + Send + Sync;

/// Launches that data decides about, before it is known where the operands are.
pub(crate) struct Flow {
    pub(crate) course: Box<MakeCourse>,
    /// Bytes of the flags of all loops and branches.
    pub(crate) flags: usize,
    /// Outputs that come to be on the host.
    pub(crate) collected: Vec<usize>,
}

/// Launches, and what decides between them.
pub(crate) enum Course {
    /// These, one after the other.
    Part(Part),
    /// These, one after the other.
    Sequence(Vec<Course>),
    /// One of two.
    Branch(Box<Choice>),
    /// Rounds.
    Loop(Box<Rounds>),
}

/// Launches without a decision between them, and the same captured, once they have run.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) launches: Launches,
    pub(crate) graph: Option<Box<dyn Replay>>,
    /// Where random numbers come from that it draws each time, and the word that each begins with.
    pub(crate) draws: Vec<(RandomSource, Buffer)>,
}

/// A branch: `then` where the truth value at `condition` holds.
pub(crate) struct Choice {
    pub(crate) flags: Buffer,
    pub(crate) condition: Buffer,
    pub(crate) then: Course,
    pub(crate) otherwise: Course,
}

/// A loop: `begin`, then `rounds` in turn while it goes on, then the first of `ends` behind an even number of rounds, or the
/// second one.
pub(crate) struct Rounds {
    pub(crate) flags: Buffer,
    /// The most rounds.
    pub(crate) limit: Known<i64>,
    /// Whether there is a first one.
    pub(crate) begins: Known<bool>,
    /// Whether the body writes a condition that ends the loop.
    pub(crate) decides: bool,
    /// Whether the body reads the number of the round.
    pub(crate) numbered: bool,
    pub(crate) collected: Vec<Collected>,
    pub(crate) begin: Course,
    pub(crate) rounds: [Course; 2],
    pub(crate) ends: [Course; 2],
}

/// What is known beforehand, or where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known<T, P = Buffer> {
    /// This.
    Is(T),
    /// What lies there.
    At(P),
}

impl<T: Copy> Known<T, usize> {
    /// With the place of the input that it is.
    pub(super) fn of(self, inputs: &[Buffer]) -> Known<T> {
        match self {
            Self::Is(value) => Known::Is(value),
            Self::At(input) => Known::At(inputs.get(input).copied().unwrap_or_default()),
        }
    }
}

/// An output that has a slice of every round: how many there are is known behind the last one, so that it grows beside the
/// arena and is read to the host then.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub(crate) output: usize,
    /// Where a round leaves its slice.
    pub(crate) slice: Buffer,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
}

impl Course {
    /// These launches.
    pub(crate) fn of(launches: Launches) -> Self {
        Self::Part(Part { launches, ..Part::default() })
    }

    /// The same of a kernel that draws from `sources`, each of which has a word of `starts`.
    pub(crate) fn drawing(launches: Launches, sources: &[RandomSource], starts: Buffer) -> Self {
        let word = |at: usize| part_of(starts, &(at * STARTS as usize..(at + 1) * STARTS as usize));
        let draws = sources.iter().cloned().enumerate().map(|(at, source)| (source, word(at)));
        Self::Part(Part { launches, graph: None, draws: draws.collect() })
    }

    /// Courses one after the other; launches that follow each other become one part.
    pub(super) fn sequence(courses: impl IntoIterator<Item = Self>) -> Self {
        let mut all: Vec<Self> = Vec::new();
        let flat = courses.into_iter().flat_map(|course| match course {
            Self::Sequence(courses) => courses,
            other => vec![other],
        });
        for course in flat {
            match (all.pop(), course) {
                (Some(Self::Part(mut before)), Self::Part(part)) => {
                    before.launches.extend(part.launches);
                    before.draws.extend(part.draws);
                    all.push(Self::Part(before));
                }
                (before, course) => all.extend(before.into_iter().chain([course])),
            }
        }
        if all.len() == 1 { all.remove(0) } else { Self::Sequence(all) }
    }

    /// What is launched where every branch is taken and every loop has one round of either turn.
    pub(crate) fn all(self) -> Launches {
        match self {
            Self::Part(part) => part.launches,
            Self::Sequence(courses) => courses.into_iter().flat_map(Self::all).collect(),
            Self::Branch(choice) => [choice.otherwise, choice.then].into_iter().flat_map(Self::all).collect(),
            Self::Loop(rounds) => {
                let Rounds { begin, rounds, ends, .. } = *rounds;
                let courses = [begin].into_iter().chain(rounds).chain(ends);
                courses.flat_map(Self::all).collect()
            }
        }
    }

    /// Gives every part to `look`.
    pub(crate) fn each<E>(&self, look: &mut impl FnMut(&Part) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Part(part) => look(part),
            Self::Sequence(courses) => courses.iter().try_for_each(|course| course.each(look)),
            Self::Branch(choice) => [&choice.otherwise, &choice.then].iter().try_for_each(|c| c.each(look)),
            Self::Loop(rounds) => {
                let courses = [&rounds.begin].into_iter().chain(&rounds.rounds).chain(&rounds.ends);
                courses.into_iter().try_for_each(|course| course.each(look))
            }
        }
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::Part(Part::default())
    }
}

impl Known<i64, usize> {
    /// The number that is input `input`, or no limit where it is not there.
    pub(super) fn count(site: &GpuSite<'_>, input: usize) -> Result<Self, GpuReject> {
        if !site.inputs.has(input) {
            return Ok(Self::Is(i64::MAX));
        }
        let Some(tensor) = site.constant(input) else { return Ok(Self::At(input)) };
        let values = tensor.view().to_i64s().map_err(|_| GpuReject::ControlFlow)?;
        values.first().copied().map(Self::Is).ok_or(GpuReject::ControlFlow)
    }
}

impl Known<bool, usize> {
    /// The truth value that is input `input`, or true where it is not there.
    pub(super) fn truth(site: &GpuSite<'_>, input: usize) -> Result<Self, GpuReject> {
        if !site.inputs.has(input) {
            return Ok(Self::Is(true));
        }
        let Some(tensor) = site.constant(input) else { return Ok(Self::At(input)) };
        truth_of(tensor.view().into()).map(Self::Is).map_err(|_| GpuReject::ControlFlow)
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({} bytes of flags, outputs {:?} collected)", self.flags, self.collected)
    }
}

/// What the kernels of a flow want on the device, side by side.
#[derive(Default)]
pub(super) struct Pool {
    weights: Vec<Weights>,
    data: Vec<Vec<u8>>,
    stored: Vec<StoredWeights>,
    sources: Vec<RandomSource>,
    faults: Vec<Option<&'static str>>,
    /// Bytes of flags.
    flags: usize,
}

/// One kernel of a flow, and which of what lies on the device is its own.
pub(super) struct Held {
    kernel: GpuKernel,
    weights: Range<usize>,
    data: Range<usize>,
    flags: Range<usize>,
    /// Bytes of the words of its sources.
    starts: Range<usize>,
}

impl Pool {
    /// Takes a kernel in.
    pub(super) fn hold(&mut self, mut kernel: GpuKernel) -> Held {
        let first = (self.weights.len(), self.data.len());
        let words = |sources: &[RandomSource]| STARTS as usize * sources.len();
        let starts = words(&self.sources);
        self.sources.extend_from_slice(kernel.sources());
        let starts = starts..words(&self.sources);
        self.faults.push(kernel.fault());
        self.stored.extend_from_slice(kernel.stored());
        let (weights, data) = kernel.take_resident();
        self.weights.extend(weights);
        self.data.extend(data);
        let flags = self.flags(kernel.flags());
        let (weights, data) = (first.0..self.weights.len(), first.1..self.data.len());
        Held { kernel, weights, data, flags, starts }
    }

    /// Gives so many bytes of flags out.
    pub(super) fn flags(&mut self, bytes: usize) -> Range<usize> {
        let first = self.flags;
        self.flags += bytes;
        first..self.flags
    }

    /// Takes bytes in, and gives their number among the data.
    pub(super) fn data(&mut self, bytes: Vec<u8>) -> usize {
        self.data.push(bytes);
        self.data.len() - 1
    }

    /// The course as a kernel.
    pub(super) fn kernel(
        self,
        course: impl Fn(&Operands<'_>) -> Result<Course, Reject> + Send + Sync + 'static,
        collected: Vec<usize>,
        workspace: usize,
    ) -> GpuKernel {
        let kernel = GpuKernel::of_flow(Flow { course: Box::new(course), flags: self.flags, collected });
        let kernel = self.faults.into_iter().fold(kernel, GpuKernel::with_fault_of);
        let kernel = kernel.with_workspace(workspace).with_resident(self.weights, self.data);
        kernel.with_sources(self.sources).with_stored(self.stored)
    }
}

/// These of the flags of all.
pub(super) fn part_of(flags: Buffer, range: &Range<usize>) -> Buffer {
    Buffer { address: flags.address + range.start as u64, bytes: range.len() as u64 }
}

impl Held {
    /// Its course on these operands.
    pub(super) fn course(
        &self,
        all: &Operands<'_>,
        inputs: &[Buffer],
        outputs: &[Buffer],
        workspace: Buffer,
    ) -> Result<Course, Reject> {
        self.kernel.course(&Operands {
            inputs,
            outputs,
            weights: all.weights.get(self.weights.clone()).unwrap_or(&[]),
            data: all.data.get(self.data.clone()).unwrap_or(&[]),
            workspace,
            fault: all.fault,
            flags: part_of(all.flags, &self.flags),
            starts: part_of(all.starts, &self.starts),
        })
    }

    /// Bytes of its workspace.
    pub(super) fn workspace(&self) -> usize {
        self.kernel.workspace()
    }
}
