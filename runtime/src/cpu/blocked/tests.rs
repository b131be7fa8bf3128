//! Blocked convolutions beside the sum of the specification in f64.
#![cfg(test)]

use super::*;
use crate::cpu::row_epilogue::{EpilogueInput, RowEpilogue};
use crate::dtype::DType;
use crate::exec::{Interrupt, Team};
use crate::loops::program::{Builder, Kind};
use crate::testing::Gen;

/// Element `channel`, `at` of planes of `plane` elements in blocks.
fn in_blocks(channel: usize, at: usize, plane: usize) -> usize {
    (channel / BLOCK * plane + at) * BLOCK + channel % BLOCK
}

fn span(g: &mut Gen, kernel: usize, stride: usize) -> Span {
    let dilation = if kernel > 1 && stride == 1 && g.chance(0.2) { 2 } else { 1 };
    let reach = (kernel - 1) * dilation + 1;
    let (begin, end) = (g.size(0, kernel - 1), g.size(0, kernel - 1));
    let input = reach.saturating_sub(begin + end).max(1) + g.size(0, 20);
    let output = (input + begin + end - reach) / stride + 1;
    Span { input, output, kernel, stride, dilation, begin, end }
}

/// Cases for the matrix unit: single elements over a plane whose parts would not stay in the second cache, and windows of many
/// terms.
fn large(g: &mut Gen, windows: bool) -> (usize, Channels, [Span; 2]) {
    let (kernel, channels, extent) = if windows { (3, 320, 5) } else { (1, 112, 40) };
    let spans = [0, 1].map(|_| {
        let input = extent + g.size(0, 6);
        Span { input, output: input + 1 - kernel, kernel, stride: 1, dilation: 1, begin: 0, end: 0 }
    });
    (1, Channels::All { channels, filters: BLOCK * g.size(1, 5) }, spans)
}

/// A case: images, channels, spans.
fn draw(g: &mut Gen) -> (usize, Channels, [Span; 2]) {
    let images = g.size(1, 2);
    if g.chance(0.3) {
        let spans = if g.chance(0.5) {
            // Windows of 3×3, which have tiles of their own.
            let stride = g.size(1, 3);
            [(3, stride), (3, stride)]
        } else {
            [g.size(1, 5), g.size(1, 3)].map(|kernel| (kernel, g.size(1, 2)))
        };
        let spans = spans.map(|(kernel, stride)| span(g, kernel, stride));
        return (images, Channels::Each(BLOCK * g.size(1, 3)), spans);
    }
    let filters = BLOCK * g.size(1, 7);
    let channels = if g.chance(0.3) { g.size(1, BLOCK - 1) } else { BLOCK * g.size(1, 10) };
    let spans = match g.size(0, 2) {
        // Winograd's windows.
        0 => [(3, 1), (3, 1)].map(|(kernel, stride)| Span { dilation: 1, ..span(g, kernel, stride) }),
        1 => [(1, 1), (1, 1)].map(|(kernel, stride)| span(g, kernel, stride)),
        _ => [g.size(1, 4), g.size(1, 3)].map(|kernel| (kernel, g.size(1, 2))).map(|(k, s)| span(g, k, s)),
    };
    let fixed = spans.map(|s| {
        let reach = (s.kernel - 1) * s.dilation + 1;
        Span { output: (s.input + s.begin + s.end).saturating_sub(reach) / s.stride + 1, ..s }
    });
    (images, Channels::All { channels, filters }, fixed)
}

/// An epilogue that holds values between two bounds, and the same in f64.
fn held_between(low: f64, high: f64) -> (RowEpilogue, impl Fn(f64) -> f64) {
    let mut builder = Builder::new(&[DType::F32]);
    let (x, bounds) = (builder.input(0), [low, high].map(|bound| builder.constant(Kind::F32, bound)));
    let above = builder.max(x, bounds[0]);
    let between = builder.min(above, bounds[1]);
    let program = builder.finish(&[(between, DType::F32)]).expect("valid");
    let epilogue = RowEpilogue::new(&program, vec![EpilogueInput::Result], &[1 << 20], 0);
    (epilogue.expect("valid").expect("fits"), move |value| value.clamp(low, high))
}

#[test]
fn equals_the_sum_of_the_specification() {
    let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
    let team = Team::new(2, false);
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut g = Gen::new(31);
    let mut ways = [0; 4];
    for seed in 0..300 {
        let (images, form, spans) = if seed % 40 < 4 { large(&mut g, seed % 4 < 2) } else { draw(&mut g) };
        let (channels, filters) = (form.channels(), form.filters());
        let depth = if matches!(form, Channels::Each(_)) { 1 } else { channels };
        let [down, across] = &spans;
        let taps = down.kernel * across.kernel;
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| g.float(-1.0, 1.0) as f32).collect() };
        let plane = down.input * across.input;
        let mut plain = values(images * channels * plane);
        if seed % 8 == 2 {
            // What the matrix unit may not be given.
            plain[0] = 1e20;
        }
        let (w, bias) = (values(filters * depth * taps), values(filters));
        let bias = (seed % 3 > 0).then_some(&bias[..]);
        let mut x = plain.clone();
        if form.in_blocks() {
            for (at, value) in plain.iter().enumerate() {
                let (image, rest) = (at / (channels * plane), at % (channels * plane));
                x[image * channels * plane + in_blocks(rest / plane, rest % plane, plane)] = *value;
            }
        }
        let windows = (taps, Some(spans).filter(|_| seed % 5 > 0));
        // Where the unit is, it computes what it would not be chosen for, and the other ways what it would be.
        let unit = Unit::detect().filter(|_| seed % 2 == 0 && form.in_blocks());
        let source = bytemuck::cast_slice(&w);
        let packed = match (unit, form) {
            (Some(unit), Channels::All { .. }) => {
                pack::matrix(unit, source, (filters, channels, taps), &budget, &|_| ()).expect("room")
            }
            _ => None,
        };
        let rest = || pack_for(None, source, form, windows, &budget, &|_| ()).expect("room");
        let weights = packed.unwrap_or_else(rest);
        let made = BlockedConvolution::new(images, form, spans, &weights).expect("fits");
        ways[match made.way {
            Way::Direct(_) => 0,
            Way::Points(_) => 1,
            Way::Depthwise(_) => 2,
            Way::Matrix(_) => 3,
        }] += 1;
        let positions = down.output * across.output;
        let (mut sums, mut sizes) =
            (vec![0.0f64; images * filters * positions], vec![0.0f64; images * filters * positions]);
        for (at, (sum, size)) in sums.iter_mut().zip(&mut sizes).enumerate() {
            let (image, rest) = (at / (filters * positions), at % (filters * positions));
            let (filter, position) = (rest / positions, rest % positions);
            let (y, x) = (position / across.output, position % across.output);
            let mut add = |value: f64| {
                *sum += value;
                *size += value.abs();
            };
            add(bias.map_or(0.0, |bias| f64::from(bias[filter])));
            for tap_y in down.taps(y) {
                for tap_x in across.taps(x) {
                    let at = down.index(y, tap_y) * across.input + across.index(x, tap_x);
                    for k in 0..depth {
                        let channel = if depth == 1 && channels > 1 { filter } else { k };
                        let weight = w[(filter * depth + k) * taps + tap_y * across.kernel + tap_x];
                        let value = plain[(image * channels + channel) * plane + at];
                        add(f64::from(weight) * f64::from(value));
                    }
                }
            }
        }
        // Sums that are held between two bounds, or not.
        let held = seed % 4 == 1;
        let (epilogue, hold) = if held { held_between(-0.4, 0.9) } else { held_between(f64::MIN, f64::MAX) };
        let finish = if held { Finish::of(&epilogue) } else { Finish::nothing() };
        for level in Level::all() {
            let made = made.clone().on(level);
            let mut scratch = vec![[f32::NAN; 16]; made.scratch(2).div_ceil(64) + 1];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(scratch.as_flattened_mut());
            let aligned = bytes.as_ptr().align_offset(64);
            let mut out = vec![f32::NAN; sums.len()];
            let operands = Operands { x: &x, weights: &weights, bias };
            made.run(context, operands, (&mut out, &mut bytes[aligned..]), &finish).expect("runs");
            // Tiles of four lose some digits of the largest sum nearby.
            let around = sizes.iter().fold(0.0f64, |a, b| a.max(*b));
            for (at, (sum, size)) in sums.iter().zip(&sizes).enumerate() {
                let (image, rest) = (at / (filters * positions), at % (filters * positions));
                let place = in_blocks(rest / positions, rest % positions, positions);
                let got = f64::from(out[image * filters * positions + place]);
                let sum = hold(*sum);
                let scale = if matches!(weights.form, Form::Points(_)) {
                    8.0 * around
                } else {
                    (depth * taps + 2) as f64 * size
                };
                let bound = scale * f64::from(f32::EPSILON);
                assert!(
                    (got - sum).abs() <= bound,
                    "seed {seed}, {level:?}, {form:?}, {spans:?}, {at}: {got} for {sum}"
                );
            }
        }
    }
    let here = if Unit::detect().is_some() { 4 } else { 3 };
    assert!(ways[..here].iter().all(|&n| n > 10), "{ways:?}");
}
