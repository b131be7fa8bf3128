//! Scattering: elements of one tensor written to, or combined with, indexed elements of another.
//!
//! Updates are applied in their row-major order on one thread, so that the last of several wins and sums do
//! not depend on the number of threads.

use super::Io;
use super::RunContext;
use super::movement::{Movement, Unit, move_elements};
use super::number::{Compute, Number, dispatch};
use crate::dtype::{Bool, DType};
use crate::error::OpError;

/// How an update meets what is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    /// By its name; `max` and `min` came later than the others.
    pub(crate) fn parse(name: Option<&str>, extremes: bool) -> Result<Self, OpError> {
        match name {
            None | Some("none") => Ok(Self::None),
            Some("add") => Ok(Self::Add),
            Some("mul") => Ok(Self::Mul),
            Some("max") if extremes => Ok(Self::Max),
            Some("min") if extremes => Ok(Self::Min),
            Some(other) => Err(OpError::attribute("reduction", format!("is `{other}`"))),
        }
    }
}

/// Where updates go: run number `i` of the updates, of `run` elements, goes to element `target(i)` on.
pub(crate) struct Targets<'a> {
    pub(crate) run: usize,
    pub(crate) target: &'a dyn Fn(usize) -> usize,
}

impl Targets<'_> {
    fn apply<T>(&self, to: &mut [T], updates: &[T], meet: impl Fn(&mut T, &T)) {
        if self.run == 0 {
            return;
        }
        for (i, run) in updates.chunks_exact(self.run).enumerate() {
            let at = (self.target)(i);
            to[at..at + self.run].iter_mut().zip(run).for_each(|(y, u)| meet(y, u));
        }
    }
}

struct Overwrite<'a>(&'a Targets<'a>);

impl Movement for Overwrite<'_> {
    fn run<T: Unit>(&self, _: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let [data, updates] = from else { return Err(OpError::internal("a scatter takes two tensors")) };
        to.clone_from_slice(data);
        self.0.apply(to, updates, Clone::clone_from);
        Ok(())
    }
}

/// Output 0, of `shape`, is input 0 with the updates of input 2 at `targets`, which must lie in it.
pub(crate) fn scatter(
    io: &mut Io<'_, '_>,
    shape: &[usize],
    targets: &Targets<'_>,
    reduction: Reduction,
) -> Result<(), OpError> {
    let dtype = io.tensor(0)?.dtype();
    match (reduction, dtype) {
        (Reduction::None, _) => move_elements(&Overwrite(targets), io, &[0, 2], 0, shape),
        (_, DType::Bool) => {
            let (data, updates) = (io.input::<Bool>(0)?, io.input::<Bool>(2)?);
            let to = io.output::<Bool>(0)?;
            to.copy_from_slice(data);
            let any = matches!(reduction, Reduction::Add | Reduction::Max);
            targets.apply(to, updates, |y, u| {
                *y = Bool::new(if any { y.get() || u.get() } else { y.get() && u.get() });
            });
            Ok(())
        }
        _ => dispatch!(dtype, numbers, T => combine::<T>(io, targets, reduction)),
    }
}

fn combine<T: Number>(
    io: &mut Io<'_, '_>,
    targets: &Targets<'_>,
    reduction: Reduction,
) -> Result<(), OpError> {
    let (data, updates) = (io.input::<T>(0)?, io.input::<T>(2)?);
    let to = io.output::<T>(0)?;
    to.copy_from_slice(data);
    type C<T> = <T as Number>::Compute;
    let apply = |to: &mut [T], meet: &dyn Fn(C<T>, C<T>) -> C<T>| {
        targets.apply(to, updates, |y, u| *y = T::store(meet(y.load(), u.load())));
    };
    // A NaN on either side stays.
    match reduction {
        Reduction::Add => apply(to, &|a, b| a.add(b)),
        Reduction::Mul => apply(to, &|a, b| a.mul(b)),
        Reduction::Max => apply(to, &|a, b| if a > b || a.partial_cmp(&a).is_none() { a } else { b }),
        Reduction::Min => apply(to, &|a, b| if a < b || a.partial_cmp(&a).is_none() { a } else { b }),
        Reduction::None => {}
    }
    Ok(())
}
