//! Elementwise functions of several tensors that broadcast to one shape.
//!
//! A [`Plan`] is made once per binding: output axes of extent 1 are dropped and neighbours that every input
//! walks through without a jump are merged. What is left has one innermost axis along which each input either
//! moves by one element or stands still, so that inner loops are contiguous. The output is cut into pieces by
//! position, and each piece walks the outer axes from wherever it starts.

use super::kernel::{CpuSite, Kernel};
use super::split::for_each_piece;
use crate::dtype::Element;
use crate::error::OpError;
use smallvec::SmallVec;

/// How `N` inputs are read for an output in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Plan<const N: usize> {
    /// Extent of the innermost axis.
    inner: usize,
    /// Elements by which each input moves along the innermost axis: 0 or 1.
    steps: [usize; N],
    /// The other axes, innermost first: extent, and each input's stride.
    outer: SmallVec<[(usize, [usize; N]); 4]>,
}

impl<const N: usize> Plan<N> {
    /// A plan for inputs of `shapes`, each of which broadcasts to `output`.
    pub(crate) fn new(output: &[usize], shapes: [&[usize]; N]) -> Result<Self, OpError> {
        let rank = output.len();
        // Extent and strides per axis, innermost first.
        let mut axes: SmallVec<[(usize, [usize; N]); 4]> = SmallVec::new();
        let mut reach = [1; N];
        for back in 1..=rank {
            let extent = output[rank - back];
            let mut strides = [0; N];
            for ((stride, reach), shape) in strides.iter_mut().zip(&mut reach).zip(shapes) {
                let own = if back <= shape.len() { shape[shape.len() - back] } else { 1 };
                if own != 1 && own != extent {
                    return Err(OpError::internal(format!("{shape:?} does not broadcast to {output:?}")));
                }
                if own != 1 {
                    *stride = *reach;
                    *reach *= own;
                }
            }
            let mergeable = |last: &(usize, [usize; N])| {
                strides.iter().zip(&last.1).all(|(&s, &l)| s == l * last.0 && (s == 0) == (l == 0))
            };
            match axes.last_mut() {
                _ if extent == 1 => {}
                Some(last) if mergeable(last) => last.0 *= extent,
                _ => axes.push((extent, strides)),
            }
        }
        if shapes.iter().any(|s| s.len() > rank) {
            return Err(OpError::internal("an input has more axes than the output"));
        }
        let (inner, steps) = if axes.is_empty() { (1, [0; N]) } else { axes.remove(0) };
        Ok(Self { inner, steps, outer: axes })
    }

    /// Calls `body(from, to, offsets)` for runs along the innermost axis that together are the positions
    /// `start..start + len` of the output: `from..to` counts from `start`, and input `k` is read from
    /// `offsets[k]` on.
    fn runs(&self, start: usize, len: usize, mut body: impl FnMut(usize, usize, &[usize; N])) {
        if len == 0 {
            return;
        }
        let (mut along, mut rest) = (start % self.inner, start / self.inner);
        let mut index: SmallVec<[usize; 4]> = SmallVec::new();
        let mut base = [0; N];
        for (extent, strides) in &self.outer {
            let i = rest % extent;
            rest /= extent;
            index.push(i);
            base.iter_mut().zip(strides).for_each(|(b, s)| *b += i * s);
        }
        let mut from = 0;
        while from < len {
            let to = len.min(from + self.inner - along);
            let mut offsets = base;
            offsets.iter_mut().zip(self.steps).for_each(|(o, step)| *o += along * step);
            body(from, to, &offsets);
            (from, along) = (to, 0);
            for (i, (extent, strides)) in index.iter_mut().zip(&self.outer) {
                *i += 1;
                base.iter_mut().zip(strides).for_each(|(b, s)| *b += s);
                if *i < *extent {
                    break;
                }
                base.iter_mut().zip(strides).for_each(|(b, s)| *b -= extent * s);
                *i = 0;
            }
        }
    }
}

impl Plan<2> {
    /// `out[i] = f(a, b)` for output positions from `start` on.
    pub(crate) fn zip<A, B, Y>(
        &self,
        start: usize,
        a: &[A],
        b: &[B],
        out: &mut [Y],
        f: impl Fn(&A, &B) -> Y,
    ) {
        self.runs(start, out.len(), |from, to, &[i, j]| {
            let y = &mut out[from..to];
            let n = y.len();
            match self.steps {
                [0, 0] => y.iter_mut().for_each(|y| *y = f(&a[i], &b[j])),
                [0, _] => {
                    let a = &a[i];
                    y.iter_mut().zip(&b[j..j + n]).for_each(|(y, b)| *y = f(a, b));
                }
                [_, 0] => {
                    let b = &b[j];
                    y.iter_mut().zip(&a[i..i + n]).for_each(|(y, a)| *y = f(a, b));
                }
                _ => {
                    let pairs = a[i..i + n].iter().zip(&b[j..j + n]);
                    y.iter_mut().zip(pairs).for_each(|(y, (a, b))| *y = f(a, b));
                }
            }
        });
    }
}

impl Plan<3> {
    /// `out[i] = f(a, b, c)` for output positions from `start` on.
    pub(crate) fn zip<A, B, C, Y>(
        &self,
        start: usize,
        (a, b, c): (&[A], &[B], &[C]),
        out: &mut [Y],
        f: impl Fn(&A, &B, &C) -> Y,
    ) {
        let [s, t, u] = self.steps;
        self.runs(start, out.len(), |from, to, &[i, j, k]| {
            let y = &mut out[from..to];
            let n = y.len();
            if (s, t, u) == (1, 1, 1) {
                let triples = a[i..i + n].iter().zip(&b[j..j + n]).zip(&c[k..k + n]);
                y.iter_mut().zip(triples).for_each(|(y, ((a, b), c))| *y = f(a, b, c));
            } else {
                y.iter_mut()
                    .enumerate()
                    .for_each(|(x, y)| *y = f(&a[i + x * s], &b[j + x * t], &c[k + x * u]));
            }
        });
    }
}

/// Output 0 is `f` of each pair of texts of inputs 0 and 1.
pub(crate) fn zip_text<Y: Element>(
    site: &CpuSite<'_>,
    f: impl Fn(&String, &String) -> Y + Copy + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    let plan = Plan::new(&site.output_shape(0)?, [&site.input_shape(0)?, &site.input_shape(1)?])?;
    Ok(Kernel::new(move |io| {
        let (a, b, context) = (io.text(0)?, io.text(1)?, io.context);
        for_each_piece(context, io.output::<Y>(0)?, |start, y| plan.zip(start, a, b, y, f))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_axes_and_starts_anywhere() {
        let plan = Plan::<2>::new(&[2, 3, 1, 4, 5], [&[2, 3, 1, 4, 5], &[3, 1, 1, 1]]).expect("broadcasts");
        assert_eq!((plan.inner, plan.steps, plan.outer.len()), (20, [1, 0], 2));
        let a: Vec<usize> = (0..120).collect();
        let b = [100, 200, 300];
        let want: Vec<usize> = (0..120).map(|i| i + b[i / 20 % 3]).collect();
        for start in [0, 1, 19, 20, 61, 119] {
            let mut y = vec![0; 120 - start];
            plan.zip(start, &a, &b, &mut y, |a, b| a + b);
            assert_eq!(y, want[start..]);
        }
    }
}
