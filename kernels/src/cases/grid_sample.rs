//! Sampling against the formula, which computes every coordinate in f64 by another way: reflections step by step, cubic
//! weights by Keys' two pieces.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, Value, bytes, draw as draw_value, held, near, parse};
use crate::dtype::DType;
use crate::grid_sample::{Mode, Outside, Sampling};

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// The neighbours of a position on an axis of `n` elements: places, none where zeros lie, and weights.
fn neighbours(shape: &Sampling, position: f64, n: f64) -> Vec<(Option<usize>, f64)> {
    let border = if shape.align { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
    let reflected = |mut v: f64| {
        if border.1 <= border.0 {
            return 0.0;
        }
        while v < border.0 || v > border.1 {
            v = if v < border.0 { 2.0 * border.0 - v } else { 2.0 * border.1 - v };
        }
        v
    };
    let mut v =
        if shape.align { (position + 1.0) * 0.5 * (n - 1.0) } else { ((position + 1.0) * n - 1.0) / 2.0 };
    if shape.mode == Mode::Nearest {
        v = v.round_ties_even();
    }
    if v < border.0 || v > border.1 {
        match shape.outside {
            Outside::Zeros => {}
            Outside::Border => v = v.clamp(0.0, n - 1.0),
            Outside::Reflection => v = reflected(v),
        }
    }
    let element = |v: f64| match shape.outside {
        Outside::Zeros => (v >= 0.0 && v < n).then_some(v as usize),
        Outside::Border => Some(v.clamp(0.0, n - 1.0) as usize),
        Outside::Reflection => {
            let v = if v < 0.0 || v > n - 1.0 { reflected(v) } else { v };
            Some((v as usize).min(n as usize - 1))
        }
    };
    let (floor, t) = (v.floor(), v - v.floor());
    let far = |d: f64| -0.75 * d * d * d + 3.75 * d * d - 6.0 * d + 3.0;
    let close = |d: f64| 1.25 * d * d * d - 2.25 * d * d + 1.0;
    let all = match shape.mode {
        Mode::Nearest => vec![(v, 1.0)],
        Mode::Linear => vec![(floor, 1.0 - t), (floor + 1.0, t)],
        Mode::Cubic => vec![
            (floor - 1.0, far(1.0 + t)),
            (floor, close(t)),
            (floor + 1.0, close(1.0 - t)),
            (floor + 2.0, far(2.0 - t)),
        ],
    };
    all.into_iter().map(|(v, weight)| (element(v), weight)).collect()
}

/// All modes over one to three axes, positions within the image and far outside it.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let mode = [Mode::Nearest, Mode::Linear, Mode::Cubic][number as usize % 3];
    let outside = [Outside::Zeros, Outside::Border, Outside::Reflection][number as usize / 3 % 3];
    let axes = r.within(1..=3);
    let mut extents = [1; 3];
    extents[..axes as usize].iter_mut().for_each(|extent| *extent = r.edge(&[1, 2, 16], 1..=6));
    let moved = [DType::F32, DType::I8, DType::U16, DType::I64, DType::Bool, DType::F16];
    let shape = Sampling {
        mode,
        outside,
        align: r.bool(),
        images: r.within(1..=3),
        channels: r.edge(&[1, 7, 8, 9, 17], 1..=4),
        extents,
        axes,
        places: r.edge(&[1, 33], 1..=9),
        x: if mode == Mode::Nearest { r.pick(&moved) } else { r.pick(&FLOATS) },
        grid: r.pick(&FLOATS),
    };
    let plane: u32 = extents.iter().product();
    let mut values: Vec<Value> = Vec::new();
    for _ in 0..shape.images * shape.channels * plane {
        let value = if mode == Mode::Nearest { draw_value(r, shape.x) } else { Float(r.unit().into()) };
        values.push(held(shape.x, value));
    }
    let spread = r.pick(&[1.0, 1.5, 9.0]);
    let mut grid: Vec<Value> = Vec::new();
    for _ in 0..shape.images * shape.places * axes {
        // Whole steps meet the halves between elements.
        let at =
            if r.bool() { f64::from(r.unit()) * spread } else { f64::from(r.within(0..=16)) / 8.0 - 1.0 };
        grid.push(held(shape.grid, Float(at)));
    }
    let encoded = |dtype: DType, values: &[Value]| -> Vec<u8> {
        values.iter().flat_map(|&value| bytes(dtype, value)).collect()
    };
    let count = shape.images * shape.channels * shape.places;
    let y = lab.room("y", u64::from(count) * shape.x.bits() as u64 / 8)?;
    let x = lab.upload("x", &encoded(shape.x, &values))?;
    let buffers = [x, lab.upload("grid", &encoded(shape.grid, &grid))?, y];
    if let Some(prepared) = shape.prepare(buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = lab.bytes(y)?;
    for (number, got) in got.chunks_exact(shape.x.bits() / 8).enumerate() {
        let (rest, place) = (number as u32 / shape.places, number as u32 % shape.places);
        let n = rest / shape.channels;
        let mut taps = vec![(Some(0), 1.0)];
        for axis in (0..axes).rev() {
            let at = ((n * shape.places + place) * axes + axis) as usize;
            let Float(position) = grid[at] else { continue };
            let extent = extents[axis as usize];
            let found = neighbours(&shape, position, extent.into());
            let joined = |&(outer, weight): &(Option<usize>, f64)| {
                let place = move |at: Option<usize>| Some(outer? * extent as usize + at?);
                found.iter().map(move |&(at, of)| (place(at), weight * of)).collect::<Vec<_>>()
            };
            taps = taps.iter().flat_map(joined).collect();
        }
        let value = |at: usize| values[(rest * plane) as usize + at];
        let zero = || parse(shape.x, &[0; 8][..shape.x.bits() / 8]);
        let (want, units) = if mode == Mode::Nearest {
            (taps[0].0.map_or_else(zero, value), 0.0)
        } else {
            let term = |&(at, weight): &(Option<usize>, f64)| match at.map(value) {
                Some(Float(value)) => value * weight,
                _ => 0.0,
            };
            (held(shape.x, Float(taps.iter().map(term).sum())), 64.0)
        };
        let got = parse(shape.x, got);
        if !near(shape.x, got, want, units) {
            let what = format!("{shape:?}, element {number}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}
