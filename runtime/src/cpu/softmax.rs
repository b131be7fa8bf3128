//! Softmax and its relatives along one axis: `m = max x`, `s = Σ exp(x − m)`, then a map of `x`, `m`, `s`.
//!
//! The largest element is subtracted first, so that nothing overflows; the sum is accumulated in f64. A line
//! with NaN or with both no finite element and no limit gives NaN.

use super::RunContext;
use super::lines::Lines;
use super::number::{Compute, Float, Number, Real};
use crate::error::OpError;

/// What is made of the exponentials.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Form {
    /// `exp(x − m) / s`.
    Softmax,
    /// `x − m − ln s`.
    LogSoftmax,
    /// 1 at the first largest element, 0 elsewhere.
    Hardmax,
}

/// Lines handled together where they are not contiguous.
const STRIP: usize = 32;

/// `out = form(x)` along the lines.
pub(crate) fn softmax<T: Real>(
    context: RunContext<'_>,
    lines: Lines,
    form: Form,
    x: &[T],
    out: &mut [T],
) -> Result<(), OpError> {
    lines.for_each_slab(context, x, out, &|x, out| {
        if lines.inner == 1 {
            line(form, x, out);
            return;
        }
        for from in (0..lines.inner).step_by(STRIP) {
            strip(form, lines, from, x, out);
        }
    })
}

fn line<T: Real>(form: Form, x: &[T], out: &mut [T]) {
    type C<T> = <T as Number>::Compute;
    if form == Form::Hardmax {
        let at = (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
        out.fill(T::store(C::<T>::zero()));
        out[at] = T::store(C::<T>::one());
        return;
    }
    let most = x.iter().fold(C::<T>::lowest(), |m, x| m.maximum(x.load()));
    let mut sum = 0.0;
    if form == Form::LogSoftmax {
        for x in x {
            sum += x.load().sub(most).exp().to_f64();
        }
        let log = C::<T>::from_f64(sum.ln());
        out.iter_mut().zip(x).for_each(|(y, x)| *y = T::store(x.load().sub(most).sub(log)));
        return;
    }
    // Exponentials of 16-bit floats are taken twice rather than rounded in between.
    let keep = size_of::<T>() > 2;
    for (y, x) in out.iter_mut().zip(x) {
        let e = x.load().sub(most).exp();
        sum += e.to_f64();
        if keep {
            *y = T::store(e);
        }
    }
    let scale = C::<T>::from_f64(1.0 / sum);
    if keep {
        for y in out {
            *y = T::store(y.load().mul(scale));
        }
    } else {
        out.iter_mut().zip(x).for_each(|(y, x)| *y = T::store(x.load().sub(most).exp().mul(scale)));
    }
}

/// The lines `from ..` of one slab, at most [`STRIP`].
fn strip<T: Real>(form: Form, lines: Lines, from: usize, x: &[T], out: &mut [T]) {
    type C<T> = <T as Number>::Compute;
    let width = (lines.inner - from).min(STRIP);
    let mut most = [C::<T>::lowest(); STRIP];
    let row = |i: usize| i * lines.inner + from..i * lines.inner + from + width;
    if form == Form::Hardmax {
        let mut best = [0; STRIP];
        for i in 0..lines.length {
            for ((m, best), x) in most.iter_mut().zip(&mut best).zip(&x[row(i)]) {
                if i == 0 || x.load() > *m {
                    (*m, *best) = (x.load(), i);
                }
            }
            out[row(i)].fill(T::store(C::<T>::zero()));
        }
        for (j, &best) in best[..width].iter().enumerate() {
            out[best * lines.inner + from + j] = T::store(C::<T>::one());
        }
        return;
    }
    for i in 0..lines.length {
        most.iter_mut().zip(&x[row(i)]).for_each(|(m, x)| *m = m.maximum(x.load()));
    }
    let mut sum = [0.0; STRIP];
    for i in 0..lines.length {
        for ((s, m), x) in sum.iter_mut().zip(&most).zip(&x[row(i)]) {
            *s += x.load().sub(*m).exp().to_f64();
        }
    }
    for i in 0..lines.length {
        for (((y, s), m), x) in out[row(i)].iter_mut().zip(&sum).zip(&most).zip(&x[row(i)]) {
            let x = x.load().sub(*m);
            *y = T::store(match form {
                Form::LogSoftmax => x.sub(C::<T>::from_f64(s.ln())),
                _ => x.exp().mul(C::<T>::from_f64(1.0 / s)),
            });
        }
    }
}
