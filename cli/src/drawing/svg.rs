//! A drawing as SVG: panels below one another, each laid out by [`super::layers`].

use super::layers::{Layout, layout};
use super::{Drawing, Panel, Role, printable};
use std::fmt::Write as _;

/// Width of a character of 12 pixels, with some to spare.
const LETTER: f64 = 7.8;
const LINE: f64 = 15.0;
const MARGIN: f64 = 20.0;
/// Between the layers; the labels of edges stand there.
const STEP: f64 = 44.0;
const TITLE: f64 = 26.0;
/// What the picture shows.
const KEY: &str = "Boxes: operator, what was fused into it (orange), name. At the lines: bytes of the value.";

/// Writes `<svg>…</svg>`.
pub(crate) fn svg(drawing: &Drawing) -> String {
    let mut body = String::new();
    let _ = writeln!(
        body,
        "<text class=\"key\" x=\"{MARGIN}\" y=\"{:.1}\" fill=\"#404040\">{KEY}</text>",
        MARGIN + LINE - 4.0
    );
    let (mut top, mut width) = (MARGIN + TITLE, KEY.chars().count() as f64 * LETTER);
    for panel in &drawing.panels {
        let (right, bottom) = draw(panel, top, &mut body);
        width = width.max(right);
        top = bottom + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{top:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        width + MARGIN
    )
}

/// Draws one panel from `top` on; returns its right and lower ends.
fn draw(panel: &Panel, top: f64, to: &mut String) -> (f64, f64) {
    let letters = |line: &String| line.chars().count() as f64;
    let wide = |v: &super::Vertex| v.lines.iter().map(letters).fold(4.0, f64::max) * LETTER + 16.0;
    let widths: Vec<f64> = panel.vertices.iter().map(wide).collect();
    let heights: Vec<f64> = panel.vertices.iter().map(|v| v.lines.len() as f64 * LINE + 10.0).collect();
    let ends: Vec<(usize, usize)> = panel.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let Layout { places, bends, layers, width } = layout(&widths, &ends);

    let mut tallest = vec![0.0f64; layers];
    for (&(layer, _), height) in places.iter().zip(&heights) {
        tallest[layer] = tallest[layer].max(*height);
    }
    let mut y = top;
    if !panel.title.is_empty() {
        let _ = writeln!(
            to,
            "<text x=\"{MARGIN}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
            y + LINE,
            escaped(&panel.title)
        );
        y += TITLE;
    }
    let mut rows = Vec::with_capacity(layers);
    for height in tallest {
        rows.push((y, y + height));
        y += height + STEP;
    }
    let bottom = rows.last().map_or(y, |row| row.1);

    for (edge, bends) in panel.edges.iter().zip(&bends) {
        let (from, end) = (places[edge.from], places[edge.to]);
        let start = (from.1 + MARGIN, rows[from.0].0 + heights[edge.from]);
        let mut points = vec![start];
        for &(layer, x) in bends {
            points.extend([(x + MARGIN, rows[layer].0), (x + MARGIN, rows[layer].1)]);
        }
        points.push((end.1 + MARGIN, rows[end.0].0));
        let mut path = format!("M{:.1} {:.1}", start.0, start.1);
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let half = f64::midpoint(y0, y1);
            let _ = write!(path, " C{x0:.1} {half:.1} {x1:.1} {half:.1} {x1:.1} {y1:.1}");
        }
        let (x, y) = (f64::midpoint(points[0].0, points[1].0), f64::midpoint(points[0].1, points[1].1));
        let _ = writeln!(
            to,
            "<path class=\"edge\" d=\"{path}\" fill=\"none\" stroke=\"#808080\"/>\n\
             <text class=\"bytes\" x=\"{:.1}\" y=\"{y:.1}\" font-size=\"10\" fill=\"#404040\" \
             stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            x + 4.0,
            escaped(&edge.label)
        );
    }
    for (v, vertex) in panel.vertices.iter().enumerate() {
        let (layer, x) = places[v];
        let (x, y) = (x + MARGIN, rows[layer].0);
        let (class, fill, round) = match vertex.role {
            Role::Input => ("input", "#e8e8e8", 12),
            Role::Output => ("output", "#d0d0d0", 12),
            Role::Node => ("node", "#ffffff", 3),
            Role::Fused => ("fused", "#f5d2b0", 3),
        };
        let _ = writeln!(
            to,
            "<g class=\"{class}\"><title>{}</title><rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
             rx=\"{round}\" fill=\"{fill}\" stroke=\"#404040\"/>",
            escaped(&vertex.name),
            x - widths[v] / 2.0,
            widths[v],
            heights[v]
        );
        for (at, line) in vertex.lines.iter().enumerate() {
            let (y, weight) = (y + (at + 1) as f64 * LINE, if at == 0 { "bold" } else { "normal" });
            let _ = writeln!(
                to,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-weight=\"{weight}\">{}</text>",
                escaped(line)
            );
        }
        to.push_str("</g>\n");
    }
    (width + MARGIN, bottom)
}

/// Text in which nothing of the model is markup.
fn escaped(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escaped("<a & \"b\">\u{1}"), "&lt;a &amp; &quot;b&quot;&gt;\u{fffd}");
    }
}
