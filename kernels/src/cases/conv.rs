//! Convolutions against the formula in f64.

use super::Failure;
use super::decode;
use super::draw::Draw;
use super::epilogue::Behind;
use super::lab::{Lab, close};
use crate::conv::{Axis, Buffers, MOST_AXES, Shape};
use crate::depthwise;
use crate::element::Element;
use crate::launch::{Device, Prepared, Reject};

pub(super) fn axis(r: &mut Draw, most: u32) -> Axis {
    let (kernel, stride, dilation) = (r.within(1..=4), r.within(1..=3), r.within(1..=3));
    let reach = (kernel - 1) * dilation + 1;
    let (begin, end) = (r.within(0..=reach), r.within(0..=3));
    let input = r.within(1..=most).max(reach.saturating_sub(begin + end));
    let output = (input + begin + end - reach) / stride + 1;
    Axis { input, output, kernel, stride, dilation, begin }
}

/// One to three axes, groups, filters at the edges of a tile; the first case has many steps.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    if number == 0 {
        let axis = Axis { input: 9, output: 9, kernel: 3, stride: 1, dilation: 1, begin: 1 };
        let axes = [Axis::NONE, Axis::NONE, axis];
        let shape = Shape { element: Element::F32, images: 1, groups: 1, channels: 43, filters: 66, axes };
        return check(&shape, |buffers, device| shape.prepare(buffers, device), r, lab);
    }
    let rank = r.within(1..=3) as usize;
    let mut axes = [Axis::NONE; MOST_AXES];
    for axes in &mut axes[MOST_AXES - rank..] {
        *axes = axis(r, [70, 14, 6][rank - 1]);
    }
    let shape = Shape {
        element: r.pick(&[Element::F32, Element::F32, Element::F16, Element::BF16]),
        images: r.within(1..=3),
        groups: r.pick(&[1, 1, 1, 2, 3]),
        channels: r.within(1..=5),
        filters: r.edge(&[1, 8, 63, 64, 65], 1..=12),
        axes,
    };
    check(&shape, |buffers, device| shape.prepare(buffers, device), r, lab)
}

/// One channel to a group: planes smaller than a tile and larger, windows of one tap and of many.
pub(super) fn depthwise(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = (number % 3 + 1) as usize;
    let mut axes = [Axis::NONE; MOST_AXES];
    for axes in &mut axes[MOST_AXES - rank..] {
        let most = r.pick(&[[1100, 70, 20], [9, 7, 5], [64, 33, 9]])[rank - 1];
        *axes = axis(r, most);
    }
    if number < 3 {
        // Taps as far apart as positions, and rows as wide as a tile, one more, and less.
        let of = |input, stride| {
            let output = (input - 3) / stride + 1;
            Axis { input, output, kernel: 5, stride, dilation: stride, begin: 2 * stride - 1 }
        };
        axes = [
            [Axis::NONE, Axis::NONE, of(1026, 1)],
            [Axis::NONE, of(19, 1), of(67, 1)],
            [of(5, 1), of(9, 2), of(17, 2)],
        ][number as usize];
    }
    let shape = Shape {
        element: r.pick(&[Element::F32, Element::F32, Element::F16, Element::BF16]),
        images: r.within(1..=2),
        groups: if rank == 1 { r.within(1..=3) } else { r.edge(&[15, 16, 17], 1..=6) },
        channels: 1,
        filters: r.pick(&[1, 1, 1, 2, 3]),
        axes,
    };
    check(&shape, |buffers, device| depthwise::prepare(&shape, buffers, device), r, lab)
}

fn check<P: Copy + Send + Sync + 'static>(
    shape: &Shape,
    prepare: impl Fn(&Buffers, &Device) -> Result<Prepared<P>, Reject>,
    r: &mut Draw,
    lab: &mut Lab<'_>,
) -> Result<(), Failure> {
    let Shape { element, images, groups, channels, filters, axes } = *shape;
    let of = |f: fn(&Axis) -> u32| axes.iter().map(f).product::<u32>() as usize;
    let (inputs, outputs, taps) = (of(|a| a.input), of(|a| a.output), of(|a| a.kernel));
    let all = |n: u32| (groups * n) as usize;
    let x = r.floats(element, images as usize * all(channels) * inputs, 1.0);
    let w = r.floats(element, all(filters) * channels as usize * taps, 1.0);
    let mut space = vec![images.into(), u64::from(groups * filters)];
    space.extend(axes.iter().map(|axis| u64::from(axis.output)));
    let behind = Behind::draw(r, element, &space)?;
    let program = behind.as_ref().map(|behind| behind.upload(lab)).transpose()?;
    let of_y = behind.as_ref().map_or(element, |behind| behind.element);
    let y = lab.room("y", (images as usize * all(filters) * outputs) as u64 * of_y.bytes())?;
    let buffers = Buffers {
        x: lab.upload_floats("x", element, &x)?,
        w: lab.upload_floats("w", element, &w)?,
        y,
        program,
    };
    lab.run(prepare(&buffers, &lab.device())?)?;
    let got = decode(of_y, &lab.bytes(y)?);
    for (flat, &got) in got.iter().enumerate() {
        let (mut rest, mut p) = (flat, [0; MOST_AXES]);
        for i in (0..MOST_AXES).rev() {
            p[i] = rest % axes[i].output as usize;
            rest /= axes[i].output as usize;
        }
        let (image, filter) = (rest / all(filters), rest % all(filters));
        let group = filter / filters as usize;
        let (mut want, mut size) = (0.0, 0.0);
        for c in 0..channels as usize {
            let channel = image * all(channels) + group * channels as usize + c;
            for tap in 0..taps {
                if let Some(at) = source(&axes, p, tap) {
                    let weight = w[(filter * channels as usize + c) * taps + tap];
                    let term = f64::from(x[channel * inputs + at]) * f64::from(weight);
                    want += term;
                    size += f64::abs(term);
                }
            }
        }
        let want = behind.as_ref().map_or(want, |behind| behind.of(want, flat as u64));
        let what = || format!("{shape:?} [{flat}], {:?}", behind.as_ref().map(Behind::steps));
        // The error grows with the terms, not with what is left of them.
        close((f64::from(got) - want) / (1.0 + size + want.abs()), 0.0, of_y, 32.0, what)?;
    }
    Ok(())
}

/// The element of a channel that a tap of a position reads, where it lies inside.
pub(super) fn source(axes: &[Axis; MOST_AXES], position: [usize; MOST_AXES], tap: usize) -> Option<usize> {
    let (mut rest, mut at, mut step) = (tap, 0, 1);
    for i in (0..MOST_AXES).rev() {
        let t = rest % axes[i].kernel as usize;
        rest /= axes[i].kernel as usize;
        let place = position[i] * axes[i].stride as usize + t * axes[i].dilation as usize;
        let place = place.checked_sub(axes[i].begin as usize).filter(|&p| p < axes[i].input as usize)?;
        at += place * step;
        step *= axes[i].input as usize;
    }
    Some(at)
}
