//! Normalisations against the formula in f64.

use super::Failure;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::launch::Buffer;
use crate::norm::{Buffers, Shape, VARIANTS};

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::BF16];

/// Rows at the edges of warps, kept rows and blocks; parameters by column, by row, and by runs of a row.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rows = r.edge(&[1, 8, 9], 1..=6);
    let long = number.is_multiple_of(3);
    let (parts, run) = if long {
        (r.within(1..=3), r.within(345..=700))
    } else {
        (r.within(1..=4), r.edge(&[1, 8, 32], 1..=40))
    };
    let length = parts * run;
    let period = r.within(1..=3);
    let (period, step, run) = r.pick(&[(1, 0, 1), (period, 1, length), (period, parts, run)]);
    let element = r.pick(&ELEMENTS);
    let shape = Shape {
        rows,
        length,
        period,
        step,
        run,
        centred: r.bool(),
        epsilon: r.pick(&[1e-2, 0.1]),
        element,
        parameters: r.pick(&ELEMENTS),
        statistics: r.pick(&ELEMENTS),
    };
    let of = ((period - 1) * step + (length - 1) / run + 1) as usize;
    let scale_of = r.pick(&[0.5, 2.0]);
    let x = r.floats(element, (rows * length) as usize, scale_of);
    let (scale, bias) = (r.bool(), r.bool());
    let factors = r.floats(shape.parameters, of, 2.0);
    let terms = r.floats(shape.parameters, of, 2.0);
    let statistics = r.bool();
    let none = Buffer::default();
    let bytes = shape.statistics.bytes() * u64::from(rows);
    let buffers = Buffers {
        x: lab.upload_floats("x", element, &x)?,
        scale: if scale { lab.upload_floats("scale", shape.parameters, &factors)? } else { none },
        bias: if bias { lab.upload_floats("bias", shape.parameters, &terms)? } else { none },
        y: lab.room("y", shape.parameters.bytes() * u64::from(rows * length))?,
        mean: if statistics { lab.room("mean", bytes)? } else { none },
        inverse: if statistics { lab.room("inverse", bytes)? } else { none },
    };
    let variant = VARIANTS.choose(&shape)?;
    lab.run(variant.prepare(&shape, &buffers, &lab.device())?)?;
    let y = lab.floats(buffers.y, shape.parameters, 0, (rows * length) as usize)?;
    for (row, (x, y)) in x.chunks(length as usize).zip(y.chunks(length as usize)).enumerate() {
        let count = f64::from(length);
        let all = || x.iter().map(|&v| f64::from(v));
        let mean = if shape.centred { all().sum::<f64>() / count } else { 0.0 };
        let variance = all().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let inverse = 1.0 / (variance + f64::from(shape.epsilon)).sqrt();
        for (j, (&x, &y)) in x.iter().zip(y).enumerate() {
            let at = (row as u32 % period * step) as usize + j / run as usize;
            let factor = if scale { f64::from(factors[at]) } else { 1.0 };
            let term = if bias { f64::from(terms[at]) } else { 0.0 };
            let want = (f64::from(x) - mean) * inverse * factor + term;
            let what = || format!("{} {shape:?}, row {row}, element {j}", variant.id);
            close(y.into(), want, shape.parameters, 64.0, what)?;
        }
        if statistics {
            for (buffer, want) in [(buffers.mean, mean), (buffers.inverse, inverse)] {
                let got = lab.floats(buffer, shape.statistics, row as u64, 1)?;
                let what = || format!("{} {shape:?}, statistics of row {row}", variant.id);
                close(got[0].into(), want, shape.statistics, 64.0, what)?;
            }
        }
    }
    Ok(())
}
