//! Softmax and its relatives along one axis: `m = max x`, `s = Σ exp(x − m)`, then a map of `x`, `m`, `s`.
//!
//! The largest element is subtracted first, so that nothing overflows; the sum is accumulated in f64. A line
//! with NaN or with both no finite element and no limit gives NaN.

use super::RunContext;
use super::lines::Lines;
use super::number::{Compute, Float, Number, Real};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::Looks;
use crate::loops::program::{Builder, Kind};
use crate::loops::rows::{Combine, Extent, RowOutput, RowProgram, Source, Stage};

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

/// Rows up to this length keep their exponentials from the sum to the product; longer ones take them twice.
const KEPT: usize = 1 << 14;

/// Softmax or its logarithm of contiguous lines of `length` elements as a row program; Hardmax is none.
pub(crate) fn row_program(form: Form, dtype: DType, length: usize) -> Result<Option<RowProgram>, OpError> {
    let Some(wide) = Kind::of(dtype).map(Kind::dtype) else { return Ok(None) };
    if form == Form::Hardmax {
        return Ok(None);
    }
    let mut b = Builder::new(&[dtype]);
    let x = b.input(0);
    let direct = dtype == wide;
    let most = Stage {
        program: if direct { b.finish(&[])? } else { b.finish(&[(x, wide)])? },
        extent: Extent::Row,
        // Of a NaN the sum of the exponentials tells.
        reduced: vec![(Combine::Largest, if direct { Source::Input(0) } else { Source::Output(0) })],
        passing: usize::from(!direct),
        kept: 0,
        stored: Vec::new(),
    };
    let keeps = form == Form::Softmax && length <= KEPT;
    let mut b = Builder::new(&[dtype, wide]);
    let (x, m) = (b.input(0), b.input(1));
    let centred = b.sub(x, m);
    let e = b.exp(centred);
    let sum = Stage {
        program: b.finish(&[(e, wide)])?,
        extent: Extent::Row,
        reduced: vec![(Combine::Sum, Source::Output(0))],
        passing: usize::from(!keeps),
        kept: usize::from(keeps),
        stored: Vec::new(),
    };
    let mut types = vec![dtype];
    types.extend(keeps.then_some(wide));
    types.extend([wide, wide]);
    let mut b = Builder::new(&types);
    let (x, m, s) = (b.input(0), b.input(types.len() - 2), b.input(types.len() - 1));
    let y = if keeps {
        let (e, scale) = (b.input(1), b.recip(s));
        b.mul(e, scale)
    } else {
        let centred = b.sub(x, m);
        if form == Form::LogSoftmax {
            let log = b.log(s);
            b.sub(centred, log)
        } else {
            let (e, scale) = (b.exp(centred), b.recip(s));
            b.mul(e, scale)
        }
    };
    let last = Stage {
        program: b.finish(&[(y, dtype)])?,
        extent: Extent::Row,
        reduced: Vec::new(),
        passing: 0,
        kept: 0,
        stored: vec![0],
    };
    let output = RowOutput { dtype, single: false };
    RowProgram::new(vec![dtype], vec![output], vec![most, sum, last]).map(Some)
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
    lines.for_each_slab(context, x, out, &|x, out, looks| {
        if lines.inner == 1 {
            return line(form, x, out, looks);
        }
        (0..lines.inner).step_by(STRIP).try_for_each(|from| strip(form, lines, from, x, out, looks))
    })
}

fn line<T: Real>(form: Form, x: &[T], out: &mut [T], looks: &mut Looks<'_>) -> Result<(), OpError> {
    type C<T> = <T as Number>::Compute;
    let parts = || Looks::steps(x.len(), 1);
    if form == Form::Hardmax {
        let mut at = 0;
        for part in parts() {
            looks.past(part.len())?;
            at = part.fold(at, |best, i| if x[i] > x[best] { i } else { best });
        }
        out.fill(T::store(C::<T>::zero()));
        out[at] = T::store(C::<T>::one());
        return Ok(());
    }
    let mut most = C::<T>::lowest();
    for part in parts() {
        looks.past(part.len())?;
        most = x[part].iter().fold(most, |m, x| m.maximum(x.load()));
    }
    let mut sum = 0.0;
    if form == Form::LogSoftmax {
        for part in parts() {
            looks.past(part.len())?;
            for x in &x[part] {
                sum += x.load().sub(most).exp().to_f64();
            }
        }
        let log = C::<T>::from_f64(sum.ln());
        for part in parts() {
            looks.past(part.len())?;
            let pairs = out[part.clone()].iter_mut().zip(&x[part]);
            pairs.for_each(|(y, x)| *y = T::store(x.load().sub(most).sub(log)));
        }
        return Ok(());
    }
    // Exponentials of 16-bit floats are taken twice rather than rounded in between.
    let keep = size_of::<T>() > 2;
    for part in parts() {
        looks.past(part.len())?;
        for (y, x) in out[part.clone()].iter_mut().zip(&x[part]) {
            let e = x.load().sub(most).exp();
            sum += e.to_f64();
            if keep {
                *y = T::store(e);
            }
        }
    }
    let scale = C::<T>::from_f64(1.0 / sum);
    for part in parts() {
        looks.past(part.len())?;
        let (out, x) = (&mut out[part.clone()], &x[part]);
        if keep {
            out.iter_mut().for_each(|y| *y = T::store(y.load().mul(scale)));
        } else {
            out.iter_mut().zip(x).for_each(|(y, x)| *y = T::store(x.load().sub(most).exp().mul(scale)));
        }
    }
    Ok(())
}

/// The lines `from ..` of one slab, at most [`STRIP`].
fn strip<T: Real>(
    form: Form,
    lines: Lines,
    from: usize,
    x: &[T],
    out: &mut [T],
    looks: &mut Looks<'_>,
) -> Result<(), OpError> {
    type C<T> = <T as Number>::Compute;
    let width = (lines.inner - from).min(STRIP);
    let mut most = [C::<T>::lowest(); STRIP];
    let row = |i: usize| i * lines.inner + from..i * lines.inner + from + width;
    if form == Form::Hardmax {
        let mut best = [0; STRIP];
        for i in 0..lines.length {
            looks.past(width)?;
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
        return Ok(());
    }
    for i in 0..lines.length {
        looks.past(width)?;
        most.iter_mut().zip(&x[row(i)]).for_each(|(m, x)| *m = m.maximum(x.load()));
    }
    let mut sum = [0.0; STRIP];
    for i in 0..lines.length {
        looks.past(width)?;
        for ((s, m), x) in sum.iter_mut().zip(&most).zip(&x[row(i)]) {
            *s += x.load().sub(*m).exp().to_f64();
        }
    }
    for i in 0..lines.length {
        looks.past(width)?;
        for (((y, s), m), x) in out[row(i)].iter_mut().zip(&sum).zip(&most).zip(&x[row(i)]) {
            let x = x.load().sub(*m);
            *y = T::store(match form {
                Form::LogSoftmax => x.sub(C::<T>::from_f64(s.ln())),
                _ => x.exp().mul(C::<T>::from_f64(1.0 / s)),
            });
        }
    }
    Ok(())
}
