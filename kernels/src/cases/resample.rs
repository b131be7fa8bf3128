//! Resampling against the formula: sums in f64, moves byte by byte.

use super::Failure;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::resample::{MOST_AXES, Nearest, OUTSIDE, Smooth};

/// Tables of any places and weights, elements outside among them.
pub(super) fn smooth(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let elements = [Element::F32, Element::F16, Element::BF16];
    let shape = Smooth {
        outer: r.within(1..=4),
        from: r.edge(&[1, 2, 40], 1..=9),
        to: r.edge(&[1, 2, 60], 1..=12),
        inner: r.edge(&[1, 2, 33], 1..=5),
        taps: r.within(1..=5),
        x: r.pick(&elements),
        y: r.pick(&elements),
        outside: 7.0,
    };
    let values = r.floats(shape.x, (shape.outer * shape.from * shape.inner) as usize, 2.0);
    let mut table: Vec<Vec<(u32, f32)>> = Vec::new();
    for _ in 0..shape.to {
        let outside = r.within(0..=6) == 0;
        let term = |r: &mut Draw| (if outside { OUTSIDE } else { r.within(0..=shape.from - 1) }, r.unit());
        table.push((0..shape.taps).map(|_| term(r)).collect());
    }
    let words = table.iter().flatten().flat_map(|(at, weight)| [*at, weight.to_bits()]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    let count = (shape.outer * shape.to * shape.inner) as usize;
    let x = lab.upload_floats("x", shape.x, &values)?;
    let y = lab.room("y", shape.y.bytes() * count as u64)?;
    let buffers = [x, y, lab.upload("table", &bytes)?];
    if let Some(prepared) = shape.prepare(buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, got) in lab.floats(y, shape.y, 0, count)?.into_iter().enumerate() {
        let number = number as u32;
        let (row, b) = (number / shape.inner, number % shape.inner);
        let (a, j) = (row / shape.to, row % shape.to);
        let term = |(at, weight): &(u32, f32)| {
            let place = (a * shape.from + at) * shape.inner + b;
            f64::from(*weight) * f64::from(values[place as usize])
        };
        let terms = &table[j as usize];
        let want = if terms[0].0 == OUTSIDE { 7.0 } else { terms.iter().map(term).sum() };
        close(got.into(), want, shape.y, 16.0, || format!("{shape:?}, element {number}"))?;
    }
    Ok(())
}

/// Up to four axes, all sizes of elements.
pub(super) fn nearest(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(0..=4) as usize;
    let mut axes = [[1; 2]; MOST_AXES];
    axes[MOST_AXES - rank..].iter_mut().for_each(|axis| *axis = [r.within(1..=5), r.edge(&[1, 9], 1..=6)]);
    let size = r.pick(&[1u32, 2, 4, 8]);
    let inner = r.edge(&[1, 2, 40], 1..=4);
    let shape = Nearest { size, axes, inner, constant: r.bits() };
    let mut tables: Vec<Vec<u32>> = Vec::new();
    for [from, to] in axes {
        let place = |r: &mut Draw| if r.within(0..=9) == 0 { OUTSIDE } else { r.within(0..=from - 1) };
        tables.push((0..to).map(|_| place(r)).collect());
    }
    let bytes: Vec<u8> = tables.iter().flatten().flat_map(|at| at.to_le_bytes()).collect();
    let elements = |side: usize| axes.iter().map(|axis| axis[side]).product::<u32>() * inner;
    let given: Vec<u8> = (0..elements(0) * size).map(|_| r.bits() as u8).collect();
    let y = lab.room("y", u64::from(elements(1) * size))?;
    let buffers = [lab.upload("x", &given)?, y, lab.upload("table", &bytes)?];
    if let Some(prepared) = shape.prepare(buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, got) in lab.bytes(y)?.chunks_exact(size as usize).enumerate() {
        let (mut rest, within) = (number / inner as usize, number % inner as usize);
        let (mut place, mut step) = (Some(within), inner as usize);
        for (axis, table) in axes.iter().zip(&tables).rev() {
            let at = table[rest % axis[1] as usize];
            place = place.filter(|_| at != OUTSIDE).map(|place| place + at as usize * step);
            rest /= axis[1] as usize;
            step *= axis[0] as usize;
        }
        let bytes = size as usize;
        let want = match place {
            Some(place) => given[place * bytes..(place + 1) * bytes].to_vec(),
            None => shape.constant.to_le_bytes()[..bytes].to_vec(),
        };
        if *got != want[..] {
            return Err(Failure::Wrong(format!("{shape:?}, element {number}: {got:?} instead of {want:?}")));
        }
    }
    Ok(())
}
