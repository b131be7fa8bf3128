//! Against the sum of the specification, in f64, on every instruction set of this processor.
#![cfg(test)]

use super::*;
use crate::exec::{Interrupt, Team};
use crate::memory::Budget;
use crate::testing::Gen;

/// Draws a window along one axis that gives at least one position.
fn span(g: &mut Gen, most: usize) -> Span {
    let (kernel, stride, dilation) = (g.size(1, 4), g.size(1, 3), g.size(1, 2));
    let reach = (kernel - 1) * dilation + 1;
    let (begin, end) = (g.size(0, reach - 1), g.size(0, reach - 1));
    let input = reach.saturating_sub(begin + end).max(1) + g.size(0, most);
    let output = (input + begin + end - reach) / stride + 1;
    Span { input, output, kernel, stride, dilation, begin, end }
}

fn pointwise(input: usize) -> Span {
    Span { input, output: input, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 }
}

struct Case {
    spans: Vec<Span>,
    images: usize,
    groups: usize,
    channels: usize,
    filters: usize,
}

impl Case {
    fn draw(g: &mut Gen) -> Self {
        let rank = g.size(1, 3);
        // Lines of many vectors, lines that vectors run on over, and planes of less than a vector.
        let most = [0, 300, 40, 9][rank];
        let whole = g.chance(0.3);
        let spans: Vec<Span> =
            (0..rank).map(|_| if whole { pointwise(g.size(1, most)) } else { span(g, most) }).collect();
        let groups = *g.pick(&[1, 1, 2, 5]);
        let channels = *g.pick(&[1, 2, 7]);
        Self { spans, images: g.size(1, 2), groups, channels, filters: *g.pick(&[1, 2, 3, 4, 8, 11, 17]) }
    }

    fn extent(&self, of: impl Fn(&Span) -> usize) -> usize {
        self.spans.iter().map(of).product()
    }

    /// The specification's sum, and that of the terms' sizes.
    fn expected(&self, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<(f64, f64)> {
        let (inputs, outputs) = (self.extent(|s| s.input), self.extent(|s| s.output));
        let taps = self.extent(|s| s.kernel);
        let rows = self.groups * self.filters;
        let place = |mut flat: usize, of: &dyn Fn(&Span) -> usize| {
            let mut at = vec![0; self.spans.len()];
            for (at, span) in at.iter_mut().zip(&self.spans).rev() {
                (*at, flat) = (flat % of(span), flat / of(span));
            }
            at
        };
        let mut all = Vec::new();
        for (image, filter) in (0..self.images * rows).map(|at| (at / rows, at % rows)) {
            for position in 0..outputs {
                let position = place(position, &|s| s.output);
                let (mut sum, mut size) = (f64::from(bias[filter]), f64::from(bias[filter].abs()));
                for (channel, tap) in (0..self.channels * taps).map(|at| (at / taps, at % taps)) {
                    let tap_at = place(tap, &|s| s.kernel);
                    let mut from = 0;
                    let inside = self.spans.iter().zip(position.iter().zip(&tap_at)).all(|(s, (p, t))| {
                        let at =
                            (p * s.stride + t * s.dilation).checked_sub(s.begin).filter(|&at| at < s.input);
                        from = from * s.input + at.unwrap_or(0);
                        at.is_some()
                    });
                    if inside {
                        let plane = (image * self.groups + filter / self.filters) * self.channels + channel;
                        let weight = w[(filter * self.channels + channel) * taps + tap];
                        let term = f64::from(x[plane * inputs + from]) * f64::from(weight);
                        (sum, size) = (sum + term, size + term.abs());
                    }
                }
                all.push((sum, size));
            }
        }
        all
    }
}

#[test]
fn equals_the_sum_of_the_specification() {
    let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
    let team = Team::new(2, false);
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut g = Gen::new(11);
    let seeds = std::env::var("RECURVE_SEEDS").map_or(150, |n| n.parse().expect("a number"));
    let (mut in_place, mut few) = (0, 0);
    for seed in 0..seeds {
        let mut case = Case::draw(&mut g);
        // Few positions, of more filters than a vector has.
        if seed % 5 == 0 {
            let output = 1 + seed / 5 % 6;
            let input = 2 * output - seed % 2;
            case.spans = vec![Span { input, output, kernel: 3, stride: 2, dilation: 1, begin: 1, end: 1 }];
            (case.channels, case.filters) = (g.size(1, 9), g.size(4, 90));
        }
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| g.float(-1.0, 1.0) as f32).collect() };
        let rows = case.groups * case.filters;
        let x = draw(case.images * case.groups * case.channels * case.extent(|s| s.input));
        let depth = case.channels * case.extent(|s| s.kernel);
        let (w, bias) = (draw(rows * depth), draw(rows));
        let expected = case.expected(&x, &w, &bias);
        let form = (case.channels, case.filters);
        let direct = DirectConvolution::new(case.images, case.groups, form, &case.spans).expect("fits");
        in_place += usize::from(direct.planes.in_place);
        few += usize::from(direct.planes.positions() <= FEW && !is_few(case.filters));
        for level in Level::all() {
            let form = (case.groups, case.filters, depth);
            let packed = pack(level, bytemuck::cast_slice(&w), form, &budget, &|_| {}).expect("room");
            for weights in packed.iter().map(Weights::Packed).chain([Weights::Rows(&w)]) {
                let operands = Operands { x: &x, made: None, weights, bias: Some(&bias) };
                let mut out = vec![f32::NAN; expected.len()];
                let mut scratch = vec![0xa5a5_a5a5_a5a5_a5a5_u64; direct.scratch(2).div_ceil(8) + 8];
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
                let aligned = bytes.as_ptr().align_offset(64);
                let bytes = &mut bytes[aligned..];
                direct.run(context, operands, (&mut out, bytes), &Finish::nothing()).expect("runs");
                for (at, (got, (want, size))) in out.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*got) - want).abs();
                    let bound = (depth + 2) as f64 * f64::from(f32::EPSILON) * size;
                    assert!(error <= bound, "seed {seed}, {level:?}, {at}: {got} for {want}; {direct:?}");
                }
            }
        }
    }
    assert!(seeds < 100 || in_place > 5 && few > 25, "{in_place} in place, {few} of few positions");
}
