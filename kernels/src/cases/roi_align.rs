//! Regions against the formula in f64; images that are not there among them.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, bytes, held, near, parse};
use crate::dtype::DType;
use crate::regions::{self, Regions};
use crate::roi_align::{Align, Buffers};

/// Regions of few small images.
pub(super) fn drawn(r: &mut Draw) -> Regions {
    Regions {
        count: r.edge(&[1, 5], 1..=4),
        images: r.within(1..=3),
        channels: r.within(1..=4),
        extents: [r.edge(&[1, 2], 1..=9), r.edge(&[1, 2], 1..=9)],
        bins: [r.within(1..=4), r.within(1..=5)],
        scale: r.pick(&[1.0, 0.5, 0.25]),
        dtype: r.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16]),
    }
}

/// Both modes, counted and drawn samples, regions in the image and outside.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let on = drawn(r);
    let shape = Align { regions: on, samples: r.within(0..=3), half_pixel: r.bool(), largest: r.bool() };
    let of = |r: &mut Draw, scale: f64| match held(on.dtype, Float(f64::from(r.unit()) * scale)) {
        Float(value) => value,
        _ => 0.0,
    };
    let [height, width] = on.extents;
    let x: Vec<f64> = (0..on.images * on.channels * height * width).map(|_| of(r, 1.0)).collect();
    let mut told = Vec::new();
    for _ in 0..on.count {
        let (left, top) = (of(r, 8.0), of(r, 8.0));
        // Some have nothing in them.
        told.extend([left, top, left + of(r, 9.0) + 6.0, top + of(r, 9.0) + 6.0]);
    }
    let rounded = |value: &f64| match held(on.dtype, Float(*value)) {
        Float(value) => value,
        _ => 0.0,
    };
    let told: Vec<f64> = told.iter().map(rounded).collect();
    let mut images: Vec<i64> = (0..on.count).map(|_| i64::from(r.within(0..=on.images - 1))).collect();
    let broken = r.within(0..=5) == 0;
    if broken {
        let at = r.index(images.len());
        images[at] = if r.bool() { -1 } else { on.images.into() };
    }
    let encoded = |values: &[f64]| -> Vec<u8> {
        values.iter().flat_map(|&value| bytes(on.dtype, Float(value))).collect()
    };
    let count = on.count * on.channels * on.bins[0] * on.bins[1];
    let size = on.dtype.bits() / 8;
    let frame = regions::Buffers {
        x: lab.upload("x", &encoded(&x))?,
        regions: lab.upload("regions", &encoded(&told))?,
        y: lab.room("y", u64::from(count) * size as u64)?,
        fault: lab.upload("fault", &[0; 4])?,
    };
    let of_regions: Vec<u8> = images.iter().flat_map(|i| i.to_le_bytes()).collect();
    let buffers = Buffers { frame, images: lab.upload("images", &of_regions)? };
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    if (lab.bytes(frame.fault)? != [0; 4]) != broken {
        return Err(Failure::Wrong(format!("{shape:?}: {images:?} is found faulty, or is not")));
    }
    let got = lab.bytes(frame.y)?;
    for (number, got) in got.chunks_exact(size).enumerate() {
        let (rest, column) = (number / on.bins[1] as usize, number % on.bins[1] as usize);
        let (rest, row) = (rest / on.bins[0] as usize, rest % on.bins[0] as usize);
        let (region, channel) = (rest / on.channels as usize, rest % on.channels as usize);
        let image = images[region];
        let want = if image < 0 || image >= on.images.into() {
            0.0
        } else {
            let plane = &x[(image as usize * on.channels as usize + channel) * (height * width) as usize..];
            expected(&shape, &told[4 * region..][..4], plane, [row, column])
        };
        let (got, want) = (parse(on.dtype, got), held(on.dtype, Float(want)));
        if !near(on.dtype, got, want, 64.0) {
            let what = format!("{shape:?}, element {number}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}

/// The element of bin `[row, column]` of a region.
fn expected(shape: &Align, region: &[f64], plane: &[f64], bin: [usize; 2]) -> f64 {
    let on = &shape.regions;
    let shift = if shape.half_pixel { 0.5 } else { 0.0 };
    let mut coordinates = Vec::new();
    for (axis, at) in bin.into_iter().enumerate() {
        let (low, high) = (region[1 - axis] * on.scale - shift, region[3 - axis] * on.scale - shift);
        let length = if shape.half_pixel { high - low } else { (high - low).max(1.0) };
        let one = length / f64::from(on.bins[axis]);
        let samples = if shape.samples > 0 { shape.samples as usize } else { one.ceil().max(0.0) as usize };
        let place = |k: usize| low + one * (at as f64 + (k as f64 + 0.5) / samples as f64);
        coordinates.push((0..samples).map(place).collect::<Vec<f64>>());
    }
    let [height, width] = on.extents.map(f64::from);
    let mut terms = Vec::new();
    for &y in &coordinates[0] {
        for &x in &coordinates[1] {
            if y < -1.0 || y > height || x < -1.0 || x > width {
                terms.push(0.0);
                continue;
            }
            let (y, x) = (y.clamp(0.0, height - 1.0), x.clamp(0.0, width - 1.0));
            for (row, v) in [(y.floor(), 1.0 - y.fract()), ((y.floor() + 1.0).min(height - 1.0), y.fract())] {
                for (column, u) in
                    [(x.floor(), 1.0 - x.fract()), ((x.floor() + 1.0).min(width - 1.0), x.fract())]
                {
                    terms.push(v * u * plane[row as usize * width as usize + column as usize]);
                }
            }
        }
    }
    let samples = coordinates[0].len() * coordinates[1].len();
    if samples == 0 {
        0.0
    } else if shape.largest {
        terms.into_iter().fold(f64::NEG_INFINITY, f64::max)
    } else {
        terms.iter().sum::<f64>() / samples as f64
    }
}
