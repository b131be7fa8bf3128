//! Convolutions against the formula in f64.

use super::Failure;
use super::draw::Draw;
use super::epilogue::Behind;
use super::gemm::nearest_tf32;
use super::lab::{Lab, close};
use super::{decode, encode};
use crate::conv::winograd::{self, Winograd};
use crate::conv::{Axis, Buffers, MOST_AXES, Shape, by_id};
use crate::depthwise;
use crate::element::Element;
use crate::epilogue::Program;
use crate::gemm::Factors;
use crate::launch::Buffer;

pub(super) fn axis(r: &mut Draw, most: u32) -> Axis {
    let (kernel, stride, dilation) = (r.within(1..=4), r.within(1..=3), r.within(1..=3));
    let reach = (kernel - 1) * dilation + 1;
    let (begin, end) = (r.within(0..=reach), r.within(0..=3));
    let input = r.within(1..=most).max(reach.saturating_sub(begin + end));
    let output = (input + begin + end - reach) / stride + 1;
    Axis { input, output, kernel, stride, dilation, begin }
}

/// One to three axes.
fn any_axes(r: &mut Draw, most: [u32; 3]) -> [Axis; MOST_AXES] {
    let rank = r.within(1..=3) as usize;
    let mut axes = [Axis::NONE; MOST_AXES];
    for axes in &mut axes[MOST_AXES - rank..] {
        *axes = axis(r, most[rank - 1]);
    }
    axes
}

/// One to three axes, groups, filters at the edges of a tile; the first case has many steps.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    if number == 0 {
        let axis = Axis { input: 9, output: 9, kernel: 3, stride: 1, dilation: 1, begin: 1 };
        let axes = [Axis::NONE, Axis::NONE, axis];
        let shape = Shape { element: Element::F32, images: 1, groups: 1, channels: 43, filters: 66, axes };
        return of_variant("scalar_f32", &shape, r, lab);
    }
    let element = r.pick(&[Element::F32, Element::F32, Element::F16, Element::BF16]);
    let shape = Shape {
        element,
        images: r.within(1..=3),
        groups: r.pick(&[1, 1, 1, 2, 3]),
        channels: r.within(1..=5),
        filters: r.edge(&[1, 8, 63, 64, 65], 1..=12),
        axes: any_axes(r, [70, 14, 6]),
    };
    let id = match element {
        Element::F32 => "scalar_f32",
        Element::F16 => "scalar_f16",
        Element::BF16 => "scalar_bf16",
    };
    of_variant(id, &shape, r, lab)
}

/// Tensor cores: every type in its turn, filters and positions at the edges of a tile, terms at those of a step.
pub(super) fn tensor(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let kinds = [("tensor_f16", Element::F16), ("tensor_bf16", Element::BF16), ("tensor_tf32", Element::F32)];
    let (id, element) = kinds[number as usize % kinds.len()];
    let axes = any_axes(r, [150, 13, 5]);
    let taps: u32 = axes.iter().map(|axis| axis.kernel).product();
    let piece = 16 / element.bytes() as u32;
    // The fewest channels of which a filter's terms are whole pieces, or some times as many; or any, as of first layers.
    let least = (1..=piece).find(|channels| (channels * taps).is_multiple_of(piece)).unwrap_or(piece);
    let least = if r.bool() { r.within(1..=3) } else { least };
    let shape = Shape {
        element,
        images: r.within(1..=3),
        groups: r.pick(&[1, 1, 1, 2, 3]),
        channels: least * if taps * least < 64 { r.within(1..=4) } else { 1 },
        filters: r.edge(&[1, 8, 127, 128, 129], 1..=12),
        axes,
    };
    of_variant(id, &shape, r, lab)
}

/// A kernel of the family, the terms in some parts.
fn of_variant(id: &str, shape: &Shape, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let variant = by_id(id)?;
    let splits = r.pick(&[1, 1, 2, 3]);
    let factors = if id == "tensor_tf32" { Factors::Tf32 } else { Factors::Own };
    let workspace = lab.room("workspace", variant.workspace_bytes(shape, splits).max(1))?;
    check(shape, factors, r, lab, |lab, operands| {
        let Operands { x, w, y, program } = *operands;
        let mut packed = vec![0; variant.weight_bytes(shape) as usize];
        variant.pack(shape, &encode(shape.element, w), &mut packed);
        let (x, w) = (lab.upload_floats("x", shape.element, x)?, lab.upload("w", &packed)?);
        let buffers = Buffers { x, w, y, workspace, program };
        let plan = variant.prepare(shape, (factors, splits), &buffers, &lab.device())?;
        lab.run(plan.product)?;
        plan.sum.map_or(Ok(()), |sum| lab.run(sum))
    })
}

/// Tiles of 2 × 2 positions: odd planes and even ones, any padding, tiles at the edges of those of the product.
pub(super) fn winograd(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let mut plane = || {
        let (input, begin, end) = (r.edge(&[1, 2, 3, 16, 17], 1..=23), r.within(0..=3), r.within(0..=3));
        let input = input.max(3u32.saturating_sub(begin + end));
        Axis { input, output: input + begin + end - 2, kernel: 3, stride: 1, dilation: 1, begin }
    };
    let axes = [Axis::NONE, plane(), plane()];
    let shape = Shape {
        element: Element::F32,
        images: r.within(1..=3),
        groups: 1,
        channels: r.edge(&[1, 8, 17], 1..=9),
        filters: if number == 0 { 66 } else { r.within(1..=9) },
        axes,
    };
    let winograd = Winograd::new(&shape, Factors::Own)?;
    let workspace = lab.room("workspace", winograd.workspace_bytes(&lab.device())?)?;
    check(&shape, Factors::Own, r, lab, |lab, operands| {
        let Operands { x, w, y, program } = *operands;
        let mut u = vec![0.0; winograd.packed_bytes() as usize / 4];
        winograd.pack(w, &mut u);
        let (x, u) = (lab.upload_floats("x", Element::F32, x)?, lab.upload_floats("u", Element::F32, &u)?);
        let buffers = winograd::Buffers { x, u, y, workspace, program };
        let plan = winograd.prepare(&buffers, &lab.device())?;
        lab.run(plan.input)?;
        lab.run(plan.product.product)?;
        plan.product.sum.map_or(Ok(()), |sum| lab.run(sum))?;
        lab.run(plan.output)
    })
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
    check(&shape, Factors::Own, r, lab, |lab, operands| {
        let Operands { x, w, y, program } = *operands;
        let (x, w) = (lab.upload_floats("x", shape.element, x)?, lab.upload_floats("w", shape.element, w)?);
        let buffers = Buffers { x, w, y, workspace: Buffer::default(), program };
        lab.run(depthwise::prepare(&shape, &buffers, &lab.device())?)
    })
}

/// What a case gives its kernel: values that are on the host yet, and memory.
struct Operands<'a> {
    x: &'a [f32],
    w: &'a [f32],
    y: Buffer,
    program: Option<Program>,
}

/// Draws operands and a program, lets `run` launch what makes Y of them, and holds it to the definition.
fn check(
    shape: &Shape,
    factors: Factors,
    r: &mut Draw,
    lab: &mut Lab<'_>,
    run: impl FnOnce(&mut Lab<'_>, &Operands<'_>) -> Result<(), Failure>,
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
    run(lab, &Operands { x: &x, w: &w, y, program })?;
    let factor = |value: f32| match factors {
        Factors::Own => value.into(),
        Factors::Tf32 => nearest_tf32(value.into()),
    };
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
                    let term = factor(x[channel * inputs + at]) * factor(weight);
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
