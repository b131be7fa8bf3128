//! The plans that no other beats in bytes of the GPU's memory and time: as a table, and drawn.

use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use recurve::plans::FrontPoint;
use std::fmt::Write as _;
use std::time::Duration;

/// The drawing's size, and what is left free around it.
const SIZE: (f64, f64) = (560.0, 360.0);
const MARGIN: f64 = 60.0;

fn time(us: f64) -> String {
    quantity::time(Duration::from_secs_f64(us / 1e6))
}

/// A table of the points.
pub(super) fn text(front: &[FrontPoint], terminal: &Terminal) -> String {
    let header = vec!["GPU memory".to_owned(), "predicted".to_owned()];
    let column = |value: fn(&FrontPoint) -> f64, write| {
        quantity::told_apart(&front.iter().map(value).collect::<Vec<f64>>(), write)
    };
    let bytes = column(|p| p.device_bytes as f64, quantity::bytes_to);
    let times = column(|p| p.predicted_us, quantity::micros_to);
    let rows: Vec<_> =
        [header].into_iter().chain(bytes.into_iter().zip(times).map(|(b, t)| vec![b, t])).collect();
    format!("{}\n{}", terminal.heading("GPU memory against time"), table(&rows, &[0, 1]))
}

/// From 0 to at most `end`: about five numbers that are 1, 2 or 5 times a power of ten apart.
fn ticks(end: f64) -> Vec<f64> {
    let rough = end / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let whole = |value: f64| (value * 1e6).round() / 1e6;
    (0..=10).map(|i| whole(f64::from(i) * step)).take_while(|tick| *tick <= end).collect()
}

/// `<svg>…</svg>`: time over bytes, each point the corner of what it allows.
pub(super) fn svg(front: &[FrontPoint]) -> String {
    let most = |value: fn(&FrontPoint) -> f64| front.iter().map(value).fold(0.0, f64::max).max(1.0);
    let (bytes, us) = (most(|p| p.device_bytes as f64), most(|p| p.predicted_us));
    let x = |p: &FrontPoint| MARGIN + p.device_bytes as f64 / bytes * (SIZE.0 - 2.0 * MARGIN);
    let y = |p: &FrontPoint| SIZE.1 - MARGIN - p.predicted_us / us * (SIZE.1 - 2.0 * MARGIN);
    let (left, bottom) = (MARGIN, SIZE.1 - MARGIN);
    let (right, top) = (SIZE.0 - MARGIN, MARGIN);
    let mut body = format!(
        "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#444444\"/>\n\
         <text x=\"{left}\" y=\"{:.1}\">predicted time, µs</text>\n\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">GPU memory, KiB</text>\n",
        top - 12.0,
        bottom + 40.0,
    );
    for kib in ticks(bytes / 1024.0) {
        let at = left + kib * 1024.0 / bytes * (right - left);
        let _ = writeln!(
            body,
            "<path d=\"M{at:.1} {bottom}v5\" stroke=\"#444444\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{kib}</text>",
            bottom + 20.0
        );
    }
    for tick in ticks(us) {
        let at = bottom - tick / us * (bottom - top);
        let _ = writeln!(
            body,
            "<path d=\"M{left} {at:.1}h-5\" stroke=\"#444444\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            left - 8.0,
            at + 4.0
        );
    }
    let mut path = String::new();
    for (at, point) in front.iter().enumerate() {
        if at == 0 {
            let _ = write!(path, "M{:.1} {:.1}", x(point), y(point));
        } else {
            let _ = write!(path, "H{:.1}V{:.1}", x(point), y(point));
        }
    }
    let _ = writeln!(body, "<path d=\"{path}\" fill=\"none\" stroke=\"#3366aa\"/>");
    for point in front {
        let (cx, cy) = (x(point), y(point));
        let label = format!("{}, {}", quantity::bytes(point.device_bytes as f64), time(point.predicted_us));
        let _ = writeln!(
            body,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"#3366aa\"><title>{label}</title></circle>"
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        SIZE.0, SIZE.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_up_to_the_end() {
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(730.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(ticks(4.9), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }
}
