//! Against the sum of the specification, in f64, on every instruction set of this processor.
#![cfg(test)]

use super::*;
use crate::exec::{Interrupt, Team};
use crate::memory::Budget;
use crate::testing::Gen;

fn span(g: &mut Gen, most: usize) -> Span {
    let (begin, end) = (g.size(0, 2), g.size(0, 2));
    let input = 3usize.saturating_sub(begin + end).max(1) + g.size(0, most);
    Span { input, output: input + begin + end - 2, kernel: 3, stride: 1, dilation: 1, begin, end }
}

/// The specification's sums, and the largest of the sums of sizes.
fn expected(
    spans: &[Span],
    (images, channels, filters): (usize, usize, usize),
    (x, w, bias): (&[f32], &[f32], &[f32]),
) -> (Vec<f64>, f64) {
    let [height, width] = spans else { return (Vec::new(), 0.0) };
    let (mut all, mut largest) = (Vec::new(), 0.0f64);
    for (image, filter) in (0..images * filters).map(|at| (at / filters, at % filters)) {
        for (y, at) in (0..height.output * width.output).map(|at| (at / width.output, at % width.output)) {
            let (mut sum, mut size) = (f64::from(bias[filter]), f64::from(bias[filter].abs()));
            for (channel, tap) in (0..channels * 9).map(|at| (at / 9, at % 9)) {
                let from = (y + tap / 3)
                    .checked_sub(height.begin)
                    .zip((at + tap % 3).checked_sub(width.begin))
                    .filter(|&(y, x)| y < height.input && x < width.input);
                if let Some((y, at)) = from {
                    let plane = (image * channels + channel) * height.input + y;
                    let term = f64::from(x[plane * width.input + at])
                        * f64::from(w[(filter * channels + channel) * 9 + tap]);
                    (sum, size) = (sum + term, size + term.abs());
                }
            }
            all.push(sum);
            largest = largest.max(size);
        }
    }
    (all, largest)
}

#[test]
fn equals_the_sum_of_the_specification() {
    let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
    let team = Team::new(2, false);
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut g = Gen::new(23);
    let seeds = std::env::var("RECURVE_SEEDS").map_or(60, |n| n.parse().expect("a number"));
    let mut worst = [0.0f64; 2];
    for seed in 0..seeds {
        // Lines of one tile, of several chunks, and what is between.
        let most = *g.pick(&[3, 18, 70]);
        let spans = [span(&mut g, 20), span(&mut g, most)];
        let (images, channels, filters) = (g.size(1, 2), *g.pick(&[1, 3, 16, 40]), *g.pick(&[1, 8, 32, 37]));
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| g.float(-1.0, 1.0) as f32).collect() };
        let x = draw(images * channels * spans[0].input * spans[1].input);
        let (w, bias) = (draw(filters * channels * 9), draw(filters));
        let (want, size) = expected(&spans, (images, channels, filters), (&x, &w, &bias));
        for (level, tile) in Level::all().into_iter().flat_map(|level| [(level, 2), (level, 4)]) {
            let form = (filters, channels, tile);
            let packed = pack(level, bytemuck::cast_slice(&w), form, &budget, &|_| {}).expect("room");
            let winograd = Winograd::new(images, &spans, &packed).expect("fits");
            let operands = Operands { x: &x, made: None, weights: &packed, bias: Some(&bias) };
            let mut out = vec![f32::NAN; want.len()];
            // What is read before it was written would be seen.
            let mut scratch = vec![f64::NAN; winograd.scratch(2).div_ceil(8) + 8];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
            let aligned = bytes.as_ptr().align_offset(64);
            winograd
                .run(context, operands, (&mut out, &mut bytes[aligned..]), &Finish::nothing())
                .expect("runs");
            for (at, (got, want)) in out.iter().zip(&want).enumerate() {
                // Relative to the largest sum of sizes: neighbours in a tile share their errors.
                let error = (f64::from(*got) - want).abs() / size / f64::from(f32::EPSILON);
                worst[tile / 4] = worst[tile / 4].max(error);
                assert!(
                    error <= [4.0, 16.0][tile / 4],
                    "seed {seed}, {level:?}, {tile}, {at}: {got} for {want}"
                );
            }
        }
    }
    println!("largest errors in units of 2^-23 of the largest sum of sizes: {worst:?}");
}

#[test]
fn large_windows_of_many_channels_are_computed_by_tiles() {
    let plain = |input| Span { input, output: input, kernel: 3, stride: 1, dilation: 1, begin: 1, end: 1 };
    let level = Level::detect();
    assert_eq!(choose(level, 64, 64, &[plain(56), plain(56)]), Some(4));
    assert_eq!(choose(level, 8, 64, &[plain(56), plain(56)]), None, "few channels");
    let strided = Span { stride: 2, output: 28, ..plain(56) };
    assert_eq!(choose(level, 64, 64, &[strided, strided]), None);
    assert_eq!(choose(level, 64, 64, &[plain(56)]), None, "one axis");
}
