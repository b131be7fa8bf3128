//! Convolutions of quantised tensors against sums of whole numbers.

use super::Failure;
use super::conv::{axis, source};
use super::draw::Draw;
use super::lab::Lab;
use crate::conv::{Axis, MOST_AXES};
use crate::conv_integer::{Buffers, Shape};
use crate::launch::Buffer;

fn widened(byte: u8, signed: bool) -> i64 {
    if signed { i64::from(byte as i8) } else { i64::from(byte) }
}

/// One to three axes, groups, filters and positions at the edges of a tile, terms at those of words and steps; the first case
/// has many steps.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let signed = [number & 1 != 0, number & 2 != 0];
    let rank = r.within(1..=3) as usize;
    let mut axes = [Axis::NONE; MOST_AXES];
    for axes in &mut axes[MOST_AXES - rank..] {
        *axes = axis(r, [70, 14, 6][rank - 1]);
    }
    let mut shape = Shape {
        images: r.within(1..=3),
        groups: r.pick(&[1, 1, 1, 2, 3]),
        channels: r.edge(&[1, 4, 16, 17], 1..=5),
        filters: r.edge(&[1, 8, 63, 64, 65], 1..=12),
        axes,
        signed,
        each: r.bool(),
    };
    if number < 4 {
        let axis = Axis { input: 66, output: 66, kernel: 3, stride: 1, dilation: 1, begin: 1 };
        (shape.axes, shape.images) = ([Axis::NONE, Axis::NONE, axis], 1);
        (shape.groups, shape.channels, shape.filters) = (1, 43, 66);
    }
    check(&shape, r, lab)
}

fn check(shape: &Shape, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let Shape { images, groups, channels, filters, axes, signed, each } = *shape;
    let of = |f: fn(&Axis) -> u32| axes.iter().map(f).product::<u32>() as usize;
    let (inputs, outputs, taps) = (of(|a| a.input), of(|a| a.output), of(|a| a.kernel));
    let all = |n: u32| (groups * n) as usize;
    // Among any bytes the extremes, whose products are the largest.
    let mut bytes = |count: usize| -> Vec<u8> {
        let extreme = r.within(0..=3) == 0;
        (0..count).map(|_| if extreme { r.pick(&[0u8, 127, 128, 255]) } else { r.bits() as u8 }).collect()
    };
    let x = bytes(images as usize * all(channels) * inputs);
    let w = bytes(all(filters) * channels as usize * taps);
    let (x_zero, w_zero) = (bytes(1), bytes(if each { all(filters) } else { 1 }));
    let [has_x, has_w] = [r.bool(), r.bool()];
    let y = lab.room("y", 4 * (images as usize * all(filters) * outputs) as u64)?;
    let buffers = Buffers {
        x: lab.upload("x", &x)?,
        w: lab.upload("w", &w)?,
        x_zero: if has_x { lab.upload("x zero", &x_zero)? } else { Buffer::default() },
        w_zero: if has_w { lab.upload("w zero", &w_zero)? } else { Buffer::default() },
        y,
    };
    lab.run(shape.prepare(&buffers, &lab.device())?)?;
    let got = lab.bytes(y)?;
    let got = got.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let zero_of_x = if has_x { widened(x_zero[0], signed[0]) } else { 0 };
    for (flat, got) in got.enumerate() {
        let (mut rest, mut p) = (flat, [0; MOST_AXES]);
        for i in (0..MOST_AXES).rev() {
            p[i] = rest % axes[i].output as usize;
            rest /= axes[i].output as usize;
        }
        let (image, filter) = (rest / all(filters), rest % all(filters));
        let zero = if has_w { widened(w_zero[if each { filter } else { 0 }], signed[1]) } else { 0 };
        let mut want = 0;
        for c in 0..channels as usize {
            let channel = image * all(channels) + filter / filters as usize * channels as usize + c;
            for tap in 0..taps {
                if let Some(at) = source(&axes, p, tap) {
                    let weight = widened(w[(filter * channels as usize + c) * taps + tap], signed[1]) - zero;
                    want += (widened(x[channel * inputs + at], signed[0]) - zero_of_x) * weight;
                }
            }
        }
        if i64::from(got) != want {
            return Err(Failure::Wrong(format!("{shape:?} [{flat}]: {got} instead of {want}")));
        }
    }
    Ok(())
}
