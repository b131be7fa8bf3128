//! Transposed convolutions against their definition in f64: every product is added where it goes.

use super::draw::Draw;
use super::gemm::nearest_tf32;
use super::lab::{Lab, close};
use super::{Failure, encode};
use crate::conv::{self, Axis, MOST_AXES};
use crate::conv_transpose::phases::Phases;
use crate::conv_transpose::{Buffers, Shape};
use crate::element::Element;
use crate::gemm::Factors;
use crate::launch::Buffer;

fn axis(r: &mut Draw, most: u32) -> Axis {
    let (kernel, stride, dilation) = (r.within(1..=4), r.within(1..=3), r.within(1..=3));
    let (output, begin) = (r.within(1..=most), r.within(0..=3));
    let full = (output - 1) * stride + (kernel - 1) * dilation + 1;
    // With padding at the end, or positions that no tap reaches.
    let input = (full + r.within(0..=3)).saturating_sub(begin + r.within(0..=3)).max(1);
    Axis { input, output, kernel, stride, dilation, begin }
}

/// Up to three axes, groups, bias or none.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(1..=3) as usize;
    let mut axes = [Axis::NONE; MOST_AXES];
    for slot in &mut axes[MOST_AXES - rank..] {
        *slot = axis(r, if rank == 1 { 90 } else { 6 });
    }
    let element = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let shape = Shape {
        element,
        images: r.within(1..=2),
        groups: r.within(1..=3),
        channels: r.within(1..=5),
        filters: r.within(1..=4),
        axes,
    };
    let bias = r.bool().then(|| r.floats(element, (shape.groups * shape.filters) as usize, 1.0));
    check(&shape, Factors::Own, bias.as_deref(), r, lab, |lab, operands| {
        let buffers = Buffers {
            x: lab.upload("x", operands.x)?,
            w: lab.upload("w", operands.w)?,
            bias: match &bias {
                Some(bias) => lab.upload_floats("bias", element, bias)?,
                None => Buffer::default(),
            },
            y: operands.y,
        };
        shape.prepare(&buffers, &lab.device())?.map_or(Ok(()), |prepared| lab.run(prepared))
    })
}

/// Convolutions for each phase: filters at the edges of tiles, every type, factors rounded or not.
pub(super) fn phases(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let kinds = [
        (Element::F16, Factors::Own),
        (Element::BF16, Factors::Own),
        (Element::F32, Factors::Tf32),
        (Element::F32, Factors::Own),
    ];
    let (element, factors) = kinds[number as usize % kinds.len()];
    let rank = r.within(1..=3) as usize;
    loop {
        let mut axes = [Axis::NONE; MOST_AXES];
        for slot in &mut axes[MOST_AXES - rank..] {
            *slot = axis(r, [60, 6, 3][rank - 1]);
        }
        let shape = Shape {
            element,
            images: r.within(1..=2),
            groups: r.pick(&[1, 1, 2]),
            channels: r.within(1..=9),
            filters: r.pick(&[16, 17, 63, 65, 127, 129]),
            axes,
        };
        // Windows that leave some elements out of reach are left to the other kernel.
        let Some(phases) = Phases::choose(&shape, factors, &lab.device()) else { continue };
        return check(&shape, factors, None, r, lab, |lab, operands| {
            let mut packed = vec![0; phases.packed_bytes() as usize];
            phases.pack(operands.w, &mut packed);
            let (x, w) = (lab.upload("x", operands.x)?, lab.upload("w", &packed)?);
            let (workspace, program) = (Buffer::default(), None);
            let buffers = conv::Buffers { x, w, y: operands.y, workspace, program };
            let launches = phases.prepare(&buffers, &lab.device())?;
            launches.into_iter().try_for_each(|launch| lab.run(launch))
        });
    }
}

/// What a case gives its kernels.
struct Operands<'a> {
    x: &'a [u8],
    w: &'a [u8],
    y: Buffer,
}

/// Draws operands, lets `run` launch what makes Y of them, and holds it to the definition.
fn check(
    shape: &Shape,
    factors: Factors,
    bias: Option<&[f32]>,
    r: &mut Draw,
    lab: &mut Lab<'_>,
    run: impl FnOnce(&mut Lab<'_>, &Operands<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Shape { element, axes, .. } = *shape;
    let factor = |value: f32| match factors {
        Factors::Own => f64::from(value),
        Factors::Tf32 => nearest_tf32(value.into()),
    };
    let extent = |of: fn(&Axis) -> u32| axes.iter().map(|a| of(a) as usize).product::<usize>();
    let (plane, taps, positions) = (extent(|a| a.output), extent(|a| a.kernel), extent(|a| a.input));
    let [images, groups, channels, filters] =
        [shape.images, shape.groups, shape.channels, shape.filters].map(|n| n as usize);
    let x = r.floats(element, images * groups * channels * plane, 1.0);
    let w = r.floats(element, groups * channels * filters * taps, 1.0);
    let y = lab.room("y", element.bytes() * (images * groups * filters * positions) as u64)?;
    run(lab, &Operands { x: &encode(element, &x), w: &encode(element, &w), y })?;
    let mut want: Vec<f64> = (0..images * groups * filters * positions)
        .map(|at| bias.map_or(0.0, |b| b[at / positions % (groups * filters)].into()))
        .collect();
    let unravel = |mut flat: usize, of: fn(&Axis) -> u32| {
        let mut at = [0i64; MOST_AXES];
        for i in (0..MOST_AXES).rev() {
            at[i] = (flat % of(&axes[i]) as usize) as i64;
            flat /= of(&axes[i]) as usize;
        }
        at
    };
    for (flat, &x) in x.iter().enumerate() {
        let (channel, position) = (flat / plane, unravel(flat % plane, |a| a.output));
        let (image, group) = (channel / channels / groups, channel / channels % groups);
        for filter in 0..filters {
            for tap in 0..taps {
                let t = unravel(tap, |a| a.kernel);
                let mut place = Some(0usize);
                for (i, axis) in axes.iter().enumerate() {
                    let at = position[i] * i64::from(axis.stride) + t[i] * i64::from(axis.dilation)
                        - i64::from(axis.begin);
                    let at = usize::try_from(at).ok().filter(|&at| at < axis.input as usize);
                    place = place.zip(at).map(|(place, at)| place * axis.input as usize + at);
                }
                let Some(place) = place else { continue };
                let weight = w[((channel % (groups * channels)) * filters + filter) * taps + tap];
                let to = (image * groups + group) * filters + filter;
                want[to * positions + place] += factor(weight) * factor(x);
            }
        }
    }
    for (at, got) in lab.floats(y, element, 0, want.len())?.into_iter().enumerate() {
        close(got.into(), want[at], element, 64.0, || format!("{shape:?}, element {at}"))?;
    }
    Ok(())
}
