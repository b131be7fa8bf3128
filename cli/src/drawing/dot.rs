//! A drawing in the language of Graphviz.

use super::{Drawing, Role, printable};
use std::fmt::Write as _;

/// Writes `digraph model { … }`, every panel a cluster.
pub(crate) fn dot(drawing: &Drawing) -> String {
    let mut text =
        String::from("digraph model {\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n");
    for (p, panel) in drawing.panels.iter().enumerate() {
        let _ = writeln!(text, "  subgraph cluster_{p} {{\n    label={};", quoted(&panel.title));
        for (v, vertex) in panel.vertices.iter().enumerate() {
            let (label, tooltip) = (quoted(&vertex.lines.join("\n")), quoted(&vertex.name));
            let look = match vertex.role {
                Role::Input => "fillcolor=\"#e8e8e8\", shape=ellipse",
                Role::Output => "fillcolor=\"#d0d0d0\", shape=ellipse",
                Role::Node => "fillcolor=\"#ffffff\"",
                Role::Fused => "fillcolor=\"#f5d2b0\"",
            };
            let _ = writeln!(text, "    p{p}v{v} [label={label}, tooltip={tooltip}, {look}];");
        }
        for edge in &panel.edges {
            let label = quoted(&edge.label);
            let _ = writeln!(text, "    p{p}v{} -> p{p}v{} [label={label}];", edge.from, edge.to);
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

/// A quoted string in which nothing of the model ends the string or begins an escape.
fn quoted(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| printable(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"];\\x\u{7}\nb"), "\"a\\\"];\\\\x\u{fffd}\\nb\"");
    }
}
