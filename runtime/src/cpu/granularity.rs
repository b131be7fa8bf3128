//! Which scale and zero point belong to which element: one for the tensor, one per index of an axis, or one per
//! block of an axis.

use super::RunContext;
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::error::OpError;

/// How parameters are shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tensor,
    Axis,
    /// Blocks of this many indices.
    Block(usize),
}

/// What is done with a piece under its parameters.
type Body<'a, X, Y> = &'a (dyn Fn(&[X], &mut [Y], Parameters) + Sync);

/// The parameters of a run of neighbouring elements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parameters {
    /// All elements share the one at this position.
    One(usize),
    /// Element `i` has the one at this position plus `i`.
    From(usize),
}

/// A tensor seen as `[outer, axis, inner]`, with parameters along `axis`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granularity {
    axis: usize,
    inner: usize,
    kind: Kind,
    /// Number of parameters.
    pub(crate) count: usize,
}

impl Granularity {
    /// Of parameters of shape `scale` for a tensor of shape `x`; `block` is 0 where there are no blocks.
    pub(crate) fn new(x: &[usize], scale: &[usize], axis: i64, block: usize) -> Result<Self, OpError> {
        let misfit =
            || OpError::shape(format!("scales of shape {scale:?} do not fit a tensor of shape {x:?}"));
        let count = scale.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        let one = scale.is_empty() || (scale == [1] && block == 0);
        if one {
            return Ok(Self { axis: 1, inner: 1, kind: Kind::Tensor, count });
        }
        // A tensor of one axis has no other.
        let axis = if x.len() == 1 { 0 } else { crate::graph::fact::normal_axis(axis, x.len())? };
        let extent = *x.get(axis).ok_or_else(misfit)?;
        let inner = x[axis + 1..].iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if block == 0 {
            if scale != [extent] {
                return Err(misfit());
            }
            return Ok(Self { axis: extent, inner, kind: Kind::Axis, count });
        }
        let fits = scale.len() == x.len()
            && scale.iter().zip(x).enumerate().all(
                |(i, (&s, &d))| {
                    if i == axis { s == d.div_ceil(block) } else { s == d }
                },
            );
        if !fits {
            return Err(misfit());
        }
        Ok(Self { axis: extent, inner, kind: Kind::Block(block), count })
    }

    /// Position of the parameters of element `at`.
    pub(crate) fn position(&self, at: usize) -> usize {
        let (line, column) = (at / self.inner, at % self.inner);
        let (outer, index) = (line / self.axis, line % self.axis);
        match self.kind {
            Kind::Tensor => 0,
            Kind::Axis => index,
            Kind::Block(size) => (outer * self.axis.div_ceil(size) + index / size) * self.inner + column,
        }
    }

    /// Elements from `at` on whose parameters lie alike, and how.
    fn run(&self, at: usize) -> (usize, Parameters) {
        let first = self.position(at);
        let column = at % self.inner;
        let index = at / self.inner % self.axis;
        match self.kind {
            Kind::Tensor => (usize::MAX, Parameters::One(0)),
            Kind::Axis if self.inner == 1 => (self.axis - index, Parameters::From(first)),
            Kind::Axis => (self.inner - column, Parameters::One(first)),
            Kind::Block(size) if self.inner == 1 => {
                ((size - index % size).min(self.axis - index), Parameters::One(first))
            }
            Kind::Block(_) => (self.inner - column, Parameters::From(first)),
        }
    }

    /// Calls `body` for all runs of `x` and `out`.
    pub(crate) fn for_each_run<X: Sync, Y: Send>(
        &self,
        context: RunContext<'_>,
        x: &[X],
        out: &mut [Y],
        body: Body<'_, X, Y>,
    ) -> Result<(), OpError> {
        let work = out.len().saturating_mul(2);
        let pieces = Chunks::new(out, PARALLEL_WORK / 2);
        for_each_tile(context, work, Lanes::none(), &pieces, &|tile, out, _| {
            let start = tile * (PARALLEL_WORK / 2);
            let mut from = 0;
            while from < out.len() {
                let (length, parameters) = self.run(start + from);
                let length = length.min(out.len() - from);
                body(&x[start + from..][..length], &mut out[from..from + length], parameters);
                from += length;
            }
            Ok(())
        })
    }
}
