//! Resampling against the formula: sums in f64, moves byte by byte.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, Value, bytes, held, near, parse};
use crate::dtype::DType;
use crate::resample::{MOST_AXES, Nearest, OUTSIDE, Smooth};

/// Tables of any places and weights, elements outside among them.
pub(super) fn smooth(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let wide = r.within(0..=3) == 0;
    let types: &[DType] = if wide { &[DType::F64] } else { &[DType::F32, DType::F16, DType::BF16] };
    let shape = Smooth {
        outer: r.within(1..=4),
        from: r.edge(&[1, 2, 40], 1..=9),
        to: r.edge(&[1, 2, 60], 1..=12),
        inner: r.edge(&[1, 2, 33], 1..=5),
        taps: r.within(1..=5),
        x: r.pick(types),
        y: r.pick(types),
        outside: 7.0,
    };
    let float = |value: Value| if let Float(value) = value { value } else { f64::NAN };
    let count = shape.outer * shape.from * shape.inner;
    let drawn = |r: &mut Draw| float(held(shape.x, Float(2.0 * f64::from(r.unit()))));
    let values: Vec<f64> = (0..count).map(|_| drawn(r)).collect();
    let mut table: Vec<Vec<(u32, f64)>> = Vec::new();
    for _ in 0..shape.to {
        let outside = r.within(0..=6) == 0;
        let term = |r: &mut Draw| {
            let weight = f64::from(r.unit());
            // One that f32 does not hold.
            let weight = if wide { weight / 3.0 } else { weight };
            (if outside { OUTSIDE } else { r.within(0..=shape.from - 1) }, weight)
        };
        table.push((0..shape.taps).map(|_| term(r)).collect());
    }
    let encoded = |(at, weight): &(u32, f64)| {
        let mut bytes = at.to_le_bytes().to_vec();
        if wide {
            bytes.extend(weight.to_le_bytes());
        } else {
            bytes.extend((*weight as f32).to_le_bytes());
        }
        bytes
    };
    let words: Vec<u8> = table.iter().flatten().flat_map(encoded).collect();
    let given: Vec<u8> = values.iter().flat_map(|&value| bytes(shape.x, Float(value))).collect();
    let (count, size) = ((shape.outer * shape.to * shape.inner) as usize, shape.y.bits() / 8);
    let y = lab.room("y", (count * size) as u64)?;
    let buffers = [lab.upload("x", &given)?, y, lab.upload("table", &words)?];
    if let Some(prepared) = shape.prepare(buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, got) in lab.bytes(y)?.chunks_exact(size).enumerate() {
        let number = number as u32;
        let (row, b) = (number / shape.inner, number % shape.inner);
        let (a, j) = (row / shape.to, row % shape.to);
        let term = |(at, weight): &(u32, f64)| {
            let place = (a * shape.from + at) * shape.inner + b;
            weight * values[place as usize]
        };
        let terms = &table[j as usize];
        let want = if terms[0].0 == OUTSIDE { 7.0 } else { terms.iter().map(term).sum() };
        let (got, want) = (parse(shape.y, got), held(shape.y, Float(want)));
        if !near(shape.y, got, want, 16.0) {
            return Err(Failure::Wrong(format!("{shape:?}, element {number}: {got:?} instead of {want:?}")));
        }
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
