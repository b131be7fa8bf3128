//! Drawings of the table, with both axes by their logarithms: a straight line is a power.

use super::table::{Axis, Growth, GrowthError, Point};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

/// Of the drawing, and of the field in it.
const SIZE: [f64; 2] = [640.0, 400.0];
const LEFT: f64 = 60.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 350.0;
/// Of one thread, two, and more.
const COLOURS: [&str; 4] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"];

/// Draws every axis into `folder`.
pub fn draw_all(growth: &Growth, folder: &Path) -> Result<(), GrowthError> {
    Axis::ALL.into_iter().try_for_each(|axis| {
        let path = Growth::drawing(folder, axis);
        let failed = |source| GrowthError::Write { path: path.display().to_string(), source };
        std::fs::write(&path, drawing(growth, axis)?).map_err(failed)
    })
}

/// A logarithmic scale from `from` to positions from `to.0` on.
struct Scale {
    from: RangeInclusive<f64>,
    to: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let [low, high, value] = [*self.from.start(), *self.from.end(), value].map(f64::ln);
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        self.to[0] + share * (self.to[1] - self.to[0])
    }

    /// 1, 2 and 5 times the powers of ten in the range.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.from.start().log10().floor() as i32..=self.from.end().log10().ceil() as i32;
        let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(power)));
        all.filter(|tick| self.from.contains(tick)).collect()
    }
}

/// What was measured by `axis` as SVG, with its floors in dashes.
pub fn drawing(growth: &Growth, axis: Axis) -> Result<String, GrowthError> {
    let lines: Vec<(usize, Vec<Point>)> =
        growth.threads(axis).into_iter().map(|threads| (threads, growth.line(axis, threads))).collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let values = || points().map(|p| p.value as f64);
    let times = || points().flat_map(|p| [p.ms, p.floor_ms]);
    if lines.is_empty() {
        return Err(GrowthError::Empty(axis.name()));
    }
    let range = |all: &mut dyn Iterator<Item = f64>| {
        let (least, most) = all.fold((f64::INFINITY, 0f64), |(a, b), v| (a.min(v), b.max(v)));
        least / 1.1..=most * 1.1
    };
    let x = Scale { from: range(&mut values()), to: [LEFT, RIGHT] };
    let y = Scale { from: range(&mut times()), to: [BOTTOM, TOP] };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let title = match axis {
        Axis::Units => "LSTM, T = 25, batch 1: milliseconds by units",
        Axis::Steps => "LSTM, H = 512, batch 1: milliseconds by steps",
        Axis::Batch => "LSTM, H = 512, T = 25: milliseconds by rows of the batch",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>");
    let grid = "stroke=\"#dddddd\" stroke-width=\"1\"";
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{BOTTOM}\" {grid}/>");
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"368\" text-anchor=\"middle\">{tick}</text>");
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" {grid}/>");
        let label = (tick * 1e6).round() / 1e6;
        let _ = writeln!(svg, "<text x=\"54\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", at + 4.0);
    }
    for (index, (threads, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index.min(COLOURS.len() - 1)];
        let path = |time: fn(&Point) -> f64| {
            let places = points.iter().map(|p| format!("{:.1} {:.1}", x.at(p.value as f64), y.at(time(p))));
            places.collect::<Vec<_>>().join("L")
        };
        let line = |path: String, style: &str| {
            format!("<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" {style}/>\n")
        };
        svg += &line(path(|p| p.ms), "stroke-width=\"2\"");
        svg += &line(path(|p| p.floor_ms), "stroke-dasharray=\"4 4\"");
        for point in points {
            let [cx, cy] = [x.at(point.value as f64), y.at(point.ms)];
            let _ = writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let (at, many) = (62.0 + 18.0 * index as f64, if *threads == 1 { "" } else { "s" });
        svg += &line(format!("72 {}H96", at - 4.0), "stroke-width=\"2\"");
        let _ = writeln!(svg, "<text x=\"102\" y=\"{at}\">{threads} thread{many}</text>");
    }
    svg += "</svg>\n";
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_a_line_and_a_floor_for_each_number_of_threads() {
        let of = |value, threads| Point { axis: Axis::Units, value, threads, ms: 2.0, floor_ms: 1.0 };
        let growth = Growth { points: vec![of(64, 1), of(128, 1), of(64, 2), of(128, 2)] };
        let svg = drawing(&growth, Axis::Units).expect("it is drawn");
        assert_eq!(svg.matches("stroke-dasharray").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        for words in [">1 thread<", ">2 threads<", "by units", ">100<"] {
            assert!(svg.contains(words), "{words} in {svg}");
        }
        let error = drawing(&growth, Axis::Batch).expect_err("nothing was measured");
        assert!(matches!(error, GrowthError::Empty("batch")), "{error}");
    }

    #[test]
    fn a_power_is_a_straight_line() {
        let scale = Scale { from: 1.0..=10_000.0, to: [0.0, 400.0] };
        for (value, place) in [(1.0, 0.0), (10.0, 100.0), (1000.0, 300.0), (10_000.0, 400.0)] {
            assert!((scale.at(value) - place).abs() < 1e-9, "{value}");
        }
        assert_eq!(scale.ticks().len(), 13);
    }
}
