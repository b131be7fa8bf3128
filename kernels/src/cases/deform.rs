//! Columns of moved windows, each element of the image weighed by its nearness.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, bytes, held, near, parse};
use crate::deform::{Axis, Buffers, Windows};
use crate::dtype::DType;

/// One to three axes, with masks and without, offsets to places inside, between and outside.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(1..=3) as usize;
    let mut axes = [Axis::NONE; 3];
    for axis in &mut axes[3 - rank..] {
        let (kernel, stride, dilation) = (r.within(1..=3), r.within(1..=2), r.within(1..=2));
        let (input, output) = (r.edge(&[1, 2], 1..=6), r.edge(&[1, 2], 1..=5));
        *axis = Axis { input, output, kernel, stride, dilation, pad: r.within(0..=2) };
    }
    let groups = r.within(1..=2);
    let shape = Windows {
        images: r.within(1..=2),
        channels: groups * r.within(1..=2),
        groups,
        axes,
        rank: rank as u32,
        dtype: r.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16]),
    };
    let drawn = |r: &mut Draw, count: usize, scale: f64| -> Vec<f64> {
        let of = |value: f64| match held(shape.dtype, Float(value)) {
            Float(value) => value,
            _ => 0.0,
        };
        // Every fourth is whole: a place of an element.
        let one = |r: &mut Draw| f64::from(r.unit()) * scale;
        (0..count).map(|k| if k % 4 == 0 && scale > 1.0 { one(r).round() } else { of(one(r)) }).collect()
    };
    let product = |of: fn(&Axis) -> u32| axes.iter().map(of).product::<u32>() as usize;
    let (plane, taps) = (product(|axis| axis.input), product(|axis| axis.kernel));
    let positions = product(|axis| axis.output);
    let (images, channels) = (shape.images as usize, shape.channels as usize);
    let fields = images * groups as usize * taps;
    let x = drawn(r, images * channels * plane, 1.0);
    let offsets = drawn(r, fields * rank * positions, 2.5);
    let masks = if r.bool() { Some(drawn(r, fields * positions, 1.0)) } else { None };
    let encoded = |values: &[f64]| -> Vec<u8> {
        values.iter().flat_map(|&value| bytes(shape.dtype, Float(value))).collect()
    };
    let size = shape.dtype.bits() / 8;
    let made = images * channels * taps * positions;
    let buffers = Buffers {
        x: lab.upload("x", &encoded(&x))?,
        offsets: lab.upload("offsets", &encoded(&offsets))?,
        masks: masks.as_ref().map(|masks| lab.upload("masks", &encoded(masks))).transpose()?,
        y: lab.room("y", (made * size) as u64)?,
    };
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, got) in lab.bytes(buffers.y)?.chunks_exact(size).enumerate() {
        let (rest, position) = (number / positions, number % positions);
        let (rest, tap) = (rest / taps, rest % taps);
        let (image, channel) = (rest / channels, rest % channels);
        let group = channel / (channels / groups as usize);
        let field = (image * groups as usize + group) * taps + tap;
        let (mut p, mut t, mut at) = (position, tap, [0.0; 3]);
        for (k, axis) in axes.iter().enumerate().rev() {
            let (output, kernel) = (axis.output as usize, axis.kernel as usize);
            let base = (p % output) as f64 * f64::from(axis.stride)
                + (t % kernel) as f64 * f64::from(axis.dilation)
                - f64::from(axis.pad);
            let moved = (k + rank).checked_sub(3);
            let shift = moved.map_or(0.0, |k| offsets[(field * rank + k) * positions + position]);
            at[k] = base + shift;
            (p, t) = (p / output, t / kernel);
        }
        let mut want = 0.0;
        for (place, value) in x[(image * channels + channel) * plane..][..plane].iter().enumerate() {
            let (mut rest, mut weight) = (place, 1.0);
            for (axis, at) in axes.iter().zip(at).rev() {
                weight *= (1.0 - ((rest % axis.input as usize) as f64 - at).abs()).max(0.0);
                rest /= axis.input as usize;
            }
            want += weight * value;
        }
        want *= masks.as_ref().map_or(1.0, |masks| masks[field * positions + position]);
        let (got, want) = (parse(shape.dtype, got), held(shape.dtype, Float(want)));
        if !near(shape.dtype, got, want, 32.0) {
            let what = format!("{shape:?}, element {number}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}
