//! Drawings of the table, with both axes by their logarithms: a straight line is a power.

use super::table::{Axis, Growth, GrowthError, Point};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (640, 420);
/// Of one thread, two, and more.
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];

/// Draws every axis into `folder`.
pub fn draw_all(growth: &Growth, folder: &Path) -> Result<(), GrowthError> {
    Axis::ALL.into_iter().try_for_each(|axis| draw(growth, axis, &Growth::drawing(folder, axis)))
}

/// Draws what was measured by `axis`, and its floors in dashes.
pub fn draw(growth: &Growth, axis: Axis, path: &Path) -> Result<(), GrowthError> {
    let lines: Vec<(usize, Vec<Point>)> =
        growth.threads(axis).into_iter().map(|threads| (threads, growth.line(axis, threads))).collect();
    let all: Vec<Point> = lines.iter().flat_map(|(_, points)| points.iter().copied()).collect();
    let (Some(first), Some(last)) = (all.iter().map(|p| p.value).min(), all.iter().map(|p| p.value).max())
    else {
        return Err(GrowthError::Empty(axis.name()));
    };
    let least = all.iter().map(|p| p.ms.min(p.floor_ms)).fold(f64::INFINITY, f64::min);
    let most = all.iter().map(|p| p.ms.max(p.floor_ms)).fold(0.0, f64::max);
    let failed = |problem: String| GrowthError::Draw { path: path.display().to_string(), problem };
    let drawn = || -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = match axis {
            Axis::Units => "LSTM, T = 25, batch 1, by units",
            Axis::Steps => "LSTM, H = 512, batch 1, by steps",
            Axis::Batch => "LSTM, H = 512, T = 25, by rows of the batch",
        };
        let (x, y) = ((first as f64 * 0.9)..(last as f64 * 1.1), (least * 0.8)..(most * 1.25));
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        let label = |value: &f64| if *value < 10.0 { format!("{value}") } else { format!("{value:.0}") };
        let mesh = &mut chart.configure_mesh();
        mesh.x_desc(axis.name()).y_desc("ms").x_label_formatter(&label).y_label_formatter(&label).draw()?;
        for (index, (threads, points)) in lines.iter().enumerate() {
            let colour = COLOURS[index.min(COLOURS.len() - 1)];
            let place = |value: usize, ms: f64| (value as f64, ms);
            let measured =
                LineSeries::new(points.iter().map(|p| place(p.value, p.ms)), colour.stroke_width(2));
            let what = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(measured.point_size(3))?.label(what).legend(key);
            let floor = points.iter().map(|p| place(p.value, p.floor_ms));
            chart.draw_series(DashedLineSeries::new(floor, 4, 4, colour.stroke_width(1)))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        root.present()?;
        Ok(())
    };
    drawn().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_a_line_and_a_floor_for_each_number_of_threads() {
        let of = |value, threads| Point { axis: Axis::Units, value, threads, ms: 2.0, floor_ms: 1.0 };
        let growth = Growth { points: vec![of(64, 1), of(128, 1), of(64, 2), of(128, 2)] };
        let folder = tempfile::tempdir().expect("a folder");
        let path = Growth::drawing(folder.path(), Axis::Units);
        draw(&growth, Axis::Units, &path).expect("it is drawn");
        let text = std::fs::read_to_string(&path).expect("the drawing");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for words in ["1 thread", "2 threads", "units", "ms"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        let error = draw(&growth, Axis::Batch, &path).expect_err("nothing was measured");
        assert!(matches!(error, GrowthError::Empty("batch")), "{error}");
    }
}
