//! Einstein summation as a sequence of sums and batched products.
//!
//! Each axis carries a label. Labels of one operand that nothing else names are summed first; then operands are
//! multiplied from the left, two at a time, as `[batch, m, k] · [batch, k, n]`, where `batch` are the labels of
//! both that stay, `m` and `n` those of one that stay, and `k` those that go. Operands whose labels do not
//! merge into such axes, and a result whose labels come in another order, are copied.

use super::RunContext;
use super::contraction::{BatchAxis, Contraction, Term, scratch_of};
use super::movement::Movement;
use super::number::Compute;
use super::strided_copy::StridedCopy;
use crate::error::OpError;
use smallvec::SmallVec;
use std::ops::Range;

/// Where a step reads from.
#[derive(Clone, Debug)]
enum Source {
    Input(usize),
    /// Bytes of the scratch memory.
    Scratch(Range<usize>),
}

/// What a step does.
#[derive(Clone, Debug)]
enum Action {
    /// Copies the source in another order.
    Copy(StridedCopy),
    /// Sums runs of this length.
    Sum(usize),
    /// Multiplies the source by another.
    Multiply(Contraction, Source),
}

/// One step: reads below its place in the scratch memory and writes there, or to the output.
#[derive(Clone, Debug)]
struct Step {
    source: Source,
    action: Action,
    /// Bytes of the scratch memory; the output where it is `None`.
    target: Option<Range<usize>>,
}

/// An operand with the stride of every label: `None` where it does not have it.
#[derive(Clone, Debug)]
struct Operand {
    source: Source,
    strides: Vec<Option<usize>>,
}

/// A summation with its shapes known.
#[derive(Debug)]
pub(crate) struct Einsum {
    steps: Vec<Step>,
    /// Whether some summed extent is 0, so that all sums are.
    zero: bool,
    scratch: usize,
    /// Where the products' own scratch memory begins.
    own: usize,
}

struct Planner<'a> {
    extents: &'a [usize],
    element: usize,
    steps: Vec<Step>,
    used: usize,
}

impl Einsum {
    /// Of operands given by the labels of their axes (numbers into `extents`) and their shapes; `out` are the
    /// labels of the output. A shape's extent may be 1 where the label's is not.
    pub(crate) fn new<T: Term>(
        extents: &[usize],
        operands: &[(Vec<usize>, Vec<usize>)],
        out: &[usize],
        threads: usize,
    ) -> Result<Self, OpError> {
        let mut planner = Planner { extents, element: size_of::<T>(), steps: Vec::new(), used: 0 };
        let mut list: Vec<Operand> = Vec::new();
        for (input, (labels, shape)) in operands.iter().enumerate() {
            let mut strides = vec![None; extents.len()];
            let mut stride = 1usize;
            for (&label, &extent) in labels.iter().zip(shape).rev() {
                // A repeated label walks the diagonal. One of extent 1 moves nothing.
                if extent == extents[label] && extent != 1 {
                    *strides[label].get_or_insert(0) += stride;
                }
                stride = stride.saturating_mul(extent);
            }
            list.push(Operand { source: Source::Input(input), strides });
        }
        let zero = extents.contains(&0);
        let mut rest = list.into_iter();
        let first = rest.next().ok_or_else(|| OpError::input(0, "is missing"))?;
        let rest: Vec<Operand> = rest.collect();
        let moving: Vec<usize> = out.iter().copied().filter(|&l| extents[l] != 1).collect();
        if zero {
            return Ok(Self { steps: Vec::new(), zero, scratch: 0, own: 0 });
        }
        let needed = |from: usize, label: usize| {
            moving.contains(&label) || rest[from..].iter().any(|o| o.strides[label].is_some())
        };
        let last = rest.len();
        let keep = |from: usize| (0..extents.len()).filter(|&l| needed(from, l)).collect::<Vec<_>>();
        let mut held = planner.reduce(first, &keep(0), (last == 0).then_some(&moving[..]))?;
        let mut own = 0;
        for (i, operand) in rest.iter().enumerate() {
            let mut others = keep(i + 1);
            others.extend((0..extents.len()).filter(|&l| held.strides[l].is_some()));
            let operand = planner.reduce(operand.clone(), &others, None)?;
            let order = (i + 1 == last).then_some(&moving[..]);
            held = planner.multiply::<T>(held, operand, &keep(i + 1), order, threads, &mut own)?;
        }
        let scratch = planner.used.checked_add(own);
        let scratch = scratch.ok_or_else(|| OpError::shape("an operand is too large"))?;
        Ok(Self { steps: planner.steps, zero, scratch, own: planner.used })
    }

    /// Scratch bytes that a run needs.
    pub(crate) fn scratch(&self) -> usize {
        self.scratch
    }

    /// Sums the products of `inputs` to `out`.
    pub(crate) fn run<T: Term>(
        &self,
        context: RunContext<'_>,
        inputs: &[&[T]],
        out: &mut [T],
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        if self.zero {
            out.fill(T::default());
            return Ok(());
        }
        let (scratch, own) =
            scratch.split_at_mut_checked(self.own).ok_or_else(|| OpError::internal("scratch is short"))?;
        for step in &self.steps {
            let at = step.target.as_ref().map_or(scratch.len(), |t| t.start);
            let (below, above) = scratch.split_at_mut(at);
            let read = |source: &Source| match source {
                Source::Input(index) => {
                    inputs.get(*index).copied().ok_or_else(|| OpError::input(*index, "is missing"))
                }
                Source::Scratch(range) => bytemuck::try_cast_slice(&below[range.clone()])
                    .map_err(|_| OpError::internal("scratch memory is not aligned")),
            };
            let target = match &step.target {
                None => &mut *out,
                Some(range) => scratch_of::<T>(above, range.len() / size_of::<T>())?,
            };
            let source = read(&step.source)?;
            match &step.action {
                Action::Copy(copy) => copy.run(context, &[source], target)?,
                Action::Sum(length) => {
                    for (y, run) in target.iter_mut().zip(source.chunks(*length)) {
                        *y = T::store(run.iter().fold(T::Compute::zero(), |sum, x| sum.add(x.load())));
                    }
                }
                Action::Multiply(product, other) => {
                    product.run(context, (source, read(other)?), (target, own), &|_, _, _| Ok(()))?;
                }
            }
            context.interrupt.check()?;
        }
        Ok(())
    }
}

impl Planner<'_> {
    fn count(&self, labels: &[usize]) -> Result<usize, OpError> {
        let count = labels.iter().try_fold(1usize, |n, &l| n.checked_mul(self.extents[l]));
        count.ok_or_else(|| OpError::shape("an intermediate tensor is too large"))
    }

    /// A step over `labels` dense in this order, at the next free place or the output.
    fn push(
        &mut self,
        source: Source,
        action: Action,
        labels: &[usize],
        to_output: bool,
    ) -> Result<Operand, OpError> {
        let too_large = || OpError::shape("an intermediate tensor is too large");
        let bytes = self.count(labels)?.checked_mul(self.element).ok_or_else(too_large)?;
        let target = self.used..self.used.checked_add(bytes).ok_or_else(too_large)?;
        if !to_output {
            self.used = target.end.checked_next_multiple_of(64).ok_or_else(too_large)?;
        }
        let mut strides = vec![None; self.extents.len()];
        let mut stride = 1;
        for &label in labels.iter().rev() {
            strides[label] = Some(stride);
            stride *= self.extents[label];
        }
        self.steps.push(Step { source, action, target: (!to_output).then(|| target.clone()) });
        Ok(Operand { source: Source::Scratch(target), strides })
    }

    fn copy(&mut self, operand: &Operand, labels: &[usize], to_output: bool) -> Result<Operand, OpError> {
        let extents: Vec<usize> = labels.iter().map(|&l| self.extents[l]).collect();
        let strides: Vec<isize> = labels.iter().map(|&l| operand.strides[l].unwrap_or(0) as isize).collect();
        let copy = StridedCopy::new(&extents, &strides, 0);
        self.push(operand.source.clone(), Action::Copy(copy), labels, to_output)
    }

    /// `operand` summed over its labels outside `keep`. With `order` the result is the output.
    fn reduce(
        &mut self,
        operand: Operand,
        keep: &[usize],
        order: Option<&[usize]>,
    ) -> Result<Operand, OpError> {
        let own = |l: &usize| operand.strides[*l].is_some();
        let gone: Vec<usize> = (0..self.extents.len()).filter(|l| own(l) && !keep.contains(l)).collect();
        let stay = |l: &&usize| own(l) && keep.contains(*l);
        let kept: Vec<usize> = match order {
            Some(order) => order.to_vec(),
            None if gone.is_empty() => return Ok(operand),
            None => (0..self.extents.len()).collect::<Vec<_>>().iter().filter(stay).copied().collect(),
        };
        if gone.is_empty() {
            return self.copy(&operand, &kept, true);
        }
        let all: Vec<usize> = kept.iter().chain(&gone).copied().collect();
        let dense = self.copy(&operand, &all, false)?;
        let length = self.count(&gone)?;
        self.push(dense.source, Action::Sum(length), &kept, order.is_some())
    }

    /// Extent and stride of `labels` as one axis of `operand`, when they merge.
    fn merged(&self, operand: &Operand, labels: &[usize]) -> Option<usize> {
        let stride = |l: usize| operand.strides[l].unwrap_or(0);
        let merge = |w: &[usize]| stride(w[1]).checked_mul(self.extents[w[1]]) == Some(stride(w[0]));
        labels.windows(2).all(merge).then(|| labels.last().map_or(1, |&l| stride(l)))
    }

    /// The product of `a` and `b` over the labels that are not kept. With `order` the result is the output,
    /// its labels in that order.
    fn multiply<T: Term>(
        &mut self,
        a: Operand,
        b: Operand,
        keep: &[usize],
        order: Option<&[usize]>,
        threads: usize,
        own: &mut usize,
    ) -> Result<Operand, OpError> {
        let ranked: Vec<usize> = order.unwrap_or(keep).to_vec();
        let choose = |in_a: bool, in_b: bool| -> Vec<usize> {
            let fits = |l: &usize| (a.strides[*l].is_some(), b.strides[*l].is_some()) == (in_a, in_b);
            ranked.iter().copied().filter(fits).collect()
        };
        let (batch, rows, cols) = (choose(true, true), choose(true, false), choose(false, true));
        let mut depth: Vec<usize> = (0..self.extents.len())
            .filter(|l| !keep.contains(l) && (a.strides[*l].is_some() || b.strides[*l].is_some()))
            .collect();
        depth.sort_by_key(|&l| std::cmp::Reverse((a.strides[l], b.strides[l])));
        let join = |parts: [&Vec<usize>; 3]| parts.into_iter().flatten().copied().collect::<Vec<usize>>();
        if order.is_some_and(|order| {
            order != join([&batch, &rows, &cols]) && order == join([&batch, &cols, &rows])
        }) {
            return self.multiply::<T>(b, a, keep, order, threads, own);
        }
        let fits = |operand: &Operand, side: &Vec<usize>| {
            self.merged(operand, side).zip(self.merged(operand, &depth))
        };
        let a =
            if fits(&a, &rows).is_some() { a } else { self.copy(&a, &join([&batch, &rows, &depth]), false)? };
        let fits = |operand: &Operand, side: &Vec<usize>| {
            self.merged(operand, side).zip(self.merged(operand, &depth))
        };
        let b =
            if fits(&b, &cols).is_some() { b } else { self.copy(&b, &join([&batch, &depth, &cols]), false)? };
        let stride = |operand: &Operand, labels: &[usize]| self.merged(operand, labels).unwrap_or(1);
        let axis = |&l: &usize| BatchAxis {
            extent: self.extents[l],
            a: a.strides[l].unwrap_or(0),
            b: b.strides[l].unwrap_or(0),
            y: 0,
        };
        let product = Contraction {
            batch: batch.iter().map(axis).collect(),
            m: self.count(&rows)?,
            n: self.count(&cols)?,
            k: self.count(&depth)?,
            a: (stride(&a, &rows), stride(&a, &depth)),
            b: (stride(&b, &depth), stride(&b, &cols)),
            y: 0,
        }
        .row_major();
        *own = (*own).max(product.scratch::<T>(threads, false, None));
        let labels = join([&batch, &rows, &cols]);
        let direct = order.is_some_and(|order| order == labels);
        let made = self.push(a.source, Action::Multiply(product, b.source), &labels, direct)?;
        match order {
            Some(order) if !direct => self.copy(&made, order, true),
            _ => Ok(made),
        }
    }
}

/// Elements of the inputs of one type.
pub(crate) type Inputs<'a, T> = SmallVec<[&'a [T]; 4]>;
