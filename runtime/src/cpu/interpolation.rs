//! Interpolation: output elements as weighted sums of input elements.
//!
//! It is separable: one pass per resized axis, in the order of the axes, each a short weighted sum. On an axis
//! with elements behind it whole runs are summed, so that inner loops are contiguous. `f32` and `f64` are
//! computed in themselves; 16-bit floats in `f32`, integers in `f64`, converted as wholes before and after.

use super::Kernel;
use super::RunContext;
use super::number::{Compute, Number, dispatch};
use super::resample::{AxisScale, Coordinates};
use super::split::{for_each_chunk, rows_per_chunk};
use super::strided_copy::span;
use crate::dtype::{DType, Element};
use crate::error::OpError;
use crate::tensor::Shape;
use half::{bf16, f16};

/// The kernel of an interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Filter {
    Linear,
    /// Keys' cubic convolution with its parameter.
    Cubic(f64),
}

/// One pass of an interpolation: output element `j` of the axis is a weighted sum of input elements.
#[derive(Debug)]
struct Pass<C> {
    outer: usize,
    from: usize,
    inner: usize,
    /// Terms per element.
    taps: usize,
    /// The terms of all elements.
    terms: Vec<(usize, C)>,
    /// Elements outside the crop, and what they are.
    outside: Vec<usize>,
    extrapolation: C,
}

/// One pass as a table: element `j` of the axis is the sum of its `taps` terms, an input place and a weight each.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) outer: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) inner: usize,
    pub(crate) taps: usize,
    pub(crate) terms: Vec<(usize, f64)>,
    /// Elements that are the extrapolation, ascending.
    pub(crate) outside: Vec<usize>,
    pub(crate) extrapolation: f64,
}

/// What all passes of an interpolation have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interpolation {
    pub(crate) filter: Filter,
    pub(crate) coordinates: Coordinates,
    pub(crate) antialias: bool,
    pub(crate) exclude_outside: bool,
    pub(crate) extrapolation: f64,
}

impl Interpolation {
    /// A kernel from a tensor of shape `from` to one of shape `to` along `axes`.
    pub(crate) fn kernel(
        &self,
        dtype: DType,
        axes: &[AxisScale],
        from: &[usize],
        to: &[usize],
    ) -> Result<Kernel, OpError> {
        // Nothing is computed for an empty output, whatever its other extents.
        let axes = if to.contains(&0) { &[] } else { axes };
        let (n, m) = (span(from), span(to));
        match dtype {
            DType::F32 => Ok(same_type::<f32>(self.passes(axes))),
            DType::F64 => Ok(same_type::<f64>(self.passes(axes))),
            DType::F16 => Ok(converted(self.passes(axes), n, m, f16::to_f32, f16::from_f32)),
            DType::BF16 => Ok(converted(self.passes(axes), n, m, bf16::to_f32, bf16::from_f32)),
            dtype => dispatch!(dtype, ints, T => {
                let store = |v: f64| T::from_f64(v.round_ties_even());
                Ok(converted(self.passes(axes), n, m, T::to_f64, store))
            }),
        }
    }

    /// The passes along `axes`, in order, as tables of weights as `C` has them.
    pub(crate) fn tables<C: Compute>(&self, axes: &[AxisScale]) -> Vec<Table> {
        let table = |pass: Pass<C>| Table {
            outer: pass.outer,
            from: pass.from,
            to: pass.to(),
            inner: pass.inner,
            taps: pass.taps,
            terms: pass.terms.into_iter().map(|(at, weight)| (at, weight.to_f64())).collect(),
            outside: pass.outside,
            extrapolation: pass.extrapolation.to_f64(),
        };
        self.passes::<C>(axes).into_iter().map(table).collect()
    }

    /// The passes along `axes`, in order.
    fn passes<C: Compute>(&self, axes: &[AxisScale]) -> Vec<Pass<C>> {
        let mut extents: Shape = axes.iter().map(|a| a.from).collect();
        let mut passes = Vec::new();
        for (a, axis) in axes.iter().enumerate() {
            if !axis.is_whole() {
                passes.push(self.pass(axis, span(&extents[..a]), span(&extents[a + 1..])));
                extents[a] = axis.to;
            }
        }
        passes
    }

    fn pass<C: Compute>(&self, axis: &AxisScale, outer: usize, inner: usize) -> Pass<C> {
        let reach = if self.filter == Filter::Linear { 1.0 } else { 2.0 };
        // An anti-aliasing filter is as wide as the output's elements are in the input.
        let shrink = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let first = (-reach / shrink).floor() + 1.0;
        let taps = (2.0 - 2.0 * first) as usize;
        let mut terms = Vec::with_capacity(axis.to.saturating_mul(taps));
        let mut outside = Vec::new();
        let mut weights = vec![0.0; taps];
        for j in 0..axis.to {
            let x = axis.source(j, self.coordinates);
            if axis.lies_outside(x, self.coordinates) {
                outside.push(j);
            }
            // On an element the place is the end of the interval before it.
            let (floor, ratio) = if x == x.floor() { (x - 1.0, 1.0) } else { (x.floor(), x - x.floor()) };
            for (k, weight) in weights.iter_mut().enumerate() {
                *weight = self.weight((first + k as f64 - ratio) * shrink);
            }
            if self.antialias {
                normalise(&mut weights);
            }
            let place = |k: usize| floor + first + k as f64;
            if self.exclude_outside {
                let out = |k: usize| place(k) < 0.0 || place(k) >= axis.from as f64;
                weights.iter_mut().enumerate().filter(|(k, _)| out(*k)).for_each(|(_, w)| *w = 0.0);
                normalise(&mut weights);
            }
            terms.extend(weights.iter().enumerate().map(|(k, &w)| (axis.clamp(place(k)), C::from_f64(w))));
        }
        let extrapolation = C::from_f64(self.extrapolation);
        Pass { outer, from: axis.from, inner, taps, terms, outside, extrapolation }
    }

    fn weight(&self, distance: f64) -> f64 {
        let d = distance.abs();
        match self.filter {
            Filter::Linear => (1.0 - d).max(0.0),
            Filter::Cubic(a) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Filter::Cubic(a) if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            Filter::Cubic(_) => 0.0,
        }
    }
}

fn normalise(weights: &mut [f64]) {
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|w| *w /= sum);
    }
}

impl<C: Compute> Pass<C> {
    /// Elements of the output.
    fn len(&self) -> usize {
        self.outer.saturating_mul(self.to()).saturating_mul(self.inner)
    }

    fn to(&self) -> usize {
        self.terms.len() / self.taps
    }

    /// Runs the pass from `x` to `out`.
    fn run(&self, context: RunContext<'_>, x: &[C], out: &mut [C]) -> Result<(), OpError> {
        let (inner, to) = (self.inner, self.to());
        if out.is_empty() {
            return Ok(());
        }
        if out.len() != self.len() || x.len() != self.outer * self.from * inner {
            return Err(OpError::internal("a resampling of another size than prepared for"));
        }
        let per = rows_per_chunk(self.outer * to, inner * self.taps, context.team.threads());
        for_each_chunk(context, out, per * inner, |chunk, piece| {
            for (i, row) in piece.chunks_exact_mut(inner).enumerate() {
                let (o, j) = ((chunk * per + i) / to, (chunk * per + i) % to);
                let block = &x[o * self.from * inner..][..self.from * inner];
                let terms = &self.terms[j * self.taps..][..self.taps];
                if self.outside.binary_search(&j).is_ok() {
                    row.fill(self.extrapolation);
                } else if let [y] = row {
                    *y = terms.iter().fold(C::zero(), |sum, &(at, w)| sum.add(block[at].mul(w)));
                } else {
                    row.fill(C::zero());
                    for &(at, w) in terms {
                        let source = &block[at * inner..][..inner];
                        row.iter_mut().zip(source).for_each(|(y, x)| *y = y.add(x.mul(w)));
                    }
                }
            }
        })
    }
}

/// Runs `passes` from `x` to `out`, with `scratch` for what lies between: two places of `between` elements.
fn run_passes<C: Compute>(
    passes: &[Pass<C>],
    context: RunContext<'_>,
    x: &[C],
    out: &mut [C],
    scratch: &mut [C],
    between: usize,
) -> Result<(), OpError> {
    let Some((last, earlier)) = passes.split_last() else {
        out.copy_from_slice(x);
        return Ok(());
    };
    let (mut held, mut free) = scratch.split_at_mut(between);
    for (i, pass) in earlier.iter().enumerate() {
        let target = &mut free[..pass.len()];
        if i == 0 {
            pass.run(context, x, target)?;
        } else {
            pass.run(context, &held[..earlier[i - 1].len()], target)?;
        }
        std::mem::swap(&mut held, &mut free);
    }
    match earlier.last() {
        Some(before) => last.run(context, &held[..before.len()], out),
        None => last.run(context, x, out),
    }
}

/// Elements of the largest tensor between two passes.
fn between<C: Compute>(passes: &[Pass<C>]) -> usize {
    passes.iter().rev().skip(1).map(Pass::len).max().unwrap_or(0)
}

/// A kernel for a type that is computed in itself.
fn same_type<T: Compute>(passes: Vec<Pass<T>>) -> Kernel {
    let middle = between(&passes);
    let scratch = if passes.len() < 2 { 0 } else { middle.saturating_mul(2 * size_of::<T>()) };
    Kernel::new(move |io| {
        let (x, context) = (io.input::<T>(0)?, io.context);
        let (out, bytes) = io.output_and_scratch::<T>(0)?;
        if out.is_empty() {
            return Ok(());
        }
        let places = bytemuck::try_cast_slice_mut(&mut bytes[..scratch])
            .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
        run_passes(&passes, context, x, out, places, if passes.len() < 2 { 0 } else { middle })
    })
    .with_scratch(scratch)
}

/// A kernel for a type that is computed in another: input and output, `n` and `m` elements, are converted as
/// wholes.
fn converted<T: Element, C: Compute>(
    passes: Vec<Pass<C>>,
    n: usize,
    m: usize,
    load: impl Fn(T) -> C + Send + Sync + 'static,
    store: impl Fn(C) -> T + Send + Sync + 'static,
) -> Kernel {
    let middle = between(&passes);
    let places = n.saturating_add(m).saturating_add(middle.saturating_mul(2));
    let scratch = if m == 0 { 0 } else { places.saturating_mul(size_of::<C>()) };
    Kernel::new(move |io| {
        let (x, context) = (io.input::<T>(0)?, io.context);
        let (out, bytes) = io.output_and_scratch::<T>(0)?;
        if out.is_empty() {
            return Ok(());
        }
        let places: &mut [C] = bytemuck::try_cast_slice_mut(&mut bytes[..scratch])
            .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
        let (wide, rest) = places.split_at_mut(n);
        let (made, rest) = rest.split_at_mut(m);
        wide.iter_mut().zip(x).for_each(|(w, &x)| *w = load(x));
        run_passes(&passes, context, wide, made, rest, middle)?;
        out.iter_mut().zip(made).for_each(|(y, v)| *y = store(*v));
        Ok(())
    })
    .with_scratch(scratch)
}
