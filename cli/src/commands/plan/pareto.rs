//! The plans that no other beats in bytes of the GPU's memory and time: as a table, and drawn.

use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use recurve::FrontPoint;
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
    let row = |p: &FrontPoint| vec![quantity::bytes(p.device_bytes as f64), time(p.predicted_us)];
    let rows: Vec<_> = std::iter::once(header).chain(front.iter().map(row)).collect();
    format!("{}\n{}", terminal.heading("GPU memory against time"), table(&rows, &[0, 1]))
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
         <text x=\"{left}\" y=\"{:.1}\">predicted time, up to {}</text>\n\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">GPU memory, up to {}</text>\n",
        top - 12.0,
        time(us),
        bottom + 32.0,
        quantity::bytes(bytes)
    );
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
