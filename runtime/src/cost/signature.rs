//! Signatures: what two steps have in common that cost the same.

use crate::exec::{Form, StepForm};
use crate::graph::Graph;
use crate::loops::Fused;
use crate::ops::Op;
use crate::precision::Precision;
use std::fmt::Write as _;

/// The signature of a step.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct StepSignature(pub(crate) String);

impl StepSignature {
    /// Of a step whose forms are known: `LSTM f32[50,1,64] const f32[1,512,64] … > f32[50,1,1,128] #` and a hash of its
    /// attributes, and ` weights f16` where weights are stored so, or ` weights compact` where they lie in fewer bits.
    pub(crate) fn of(step: &StepForm<'_>) -> Self {
        let mut text = step.node.map_or_else(|| "Copy".to_owned(), |node| node.def.full_name());
        for input in &step.inputs {
            match input {
                Some((form, constant)) => {
                    text.push_str(if *constant { " const " } else { " " });
                    write_form(&mut text, form);
                }
                None => text.push_str(" -"),
            }
        }
        text.push_str(" >");
        for output in &step.outputs {
            text.push(' ');
            match output {
                Some(form) => write_form(&mut text, form),
                None => text.push('-'),
            }
        }
        let attributes = step.node.map_or_else(String::new, |node| attributes(&*node.op));
        let _ = write!(text, " #{}", hash_text(&attributes));
        if step.precision != Precision::F32 {
            let _ = write!(text, " weights {}", step.precision);
        }
        if step.compact {
            text.push_str(" weights compact");
        }
        Self(text)
    }
}

fn write_form(text: &mut String, (dtype, shape): &Form) {
    let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let _ = write!(text, "{dtype}[{}]", extents.join(","));
}

/// The attributes as text. A fused operator has those of its members, whose values have numbers instead of names.
fn attributes(op: &dyn Op) -> String {
    match op.as_any().downcast_ref::<Fused>() {
        Some(fused) => graph_text(fused.members()),
        None => without_addresses(&format!("{op:?}")),
    }
}

/// Operators, attributes, wiring, and the forms and first elements of constants.
fn graph_text(graph: &Graph) -> String {
    let mut text = String::new();
    let ids = |ids: &[Option<crate::graph::ValueId>]| -> String {
        ids.iter().map(|id| id.map_or_else(|| "- ".to_owned(), |id| format!("{} ", id.index()))).collect()
    };
    for (index, value) in graph.values.iter().enumerate() {
        if let Some(constant) = &value.constant {
            let _ = write!(text, "{index}={constant:?};");
        }
    }
    for node in &graph.nodes {
        let (inputs, outputs) = (ids(&node.inputs), ids(&node.outputs));
        let _ = write!(text, "{}({inputs}>{outputs}){};", node.def.full_name(), attributes(&*node.op));
    }
    let inputs: Vec<_> = graph.inputs.iter().map(|id| Some(*id)).collect();
    let outputs: Vec<_> = graph.outputs.iter().map(|id| Some(*id)).collect();
    let _ = write!(text, "{}>{}", ids(&inputs), ids(&outputs));
    text
}

/// A short name of a model's graph: of its operators, attributes, wiring, and the forms and first elements of its constants.
pub(crate) fn graph_hash(graph: &Graph) -> String {
    hash_text(&graph_text(graph))
}

/// `text` without the addresses of functions, which differ from process to process.
fn without_addresses(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = rest.find("0x") {
        kept.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    kept + rest
}

/// 64 bits of FNV-1a, finished as MurmurHash3 finishes, in hexadecimal.
pub(crate) fn hash_text(text: &str) -> String {
    let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let mut h = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    format!("{:016x}", h ^ (h >> 33))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_left_out_and_nothing_else() {
        assert_eq!(without_addresses("Unary { f: 0x55d3c0a1, n: 10 }"), "Unary { f: , n: 10 }");
        assert_eq!(without_addresses("Pad(3)"), "Pad(3)");
    }

    #[test]
    fn equal_texts_alone_have_equal_hashes() {
        assert_eq!(hash_text("LSTM"), hash_text("LSTM"));
        assert_ne!(hash_text("LSTM"), hash_text("LSTN"));
        assert_eq!(hash_text("").len(), 16);
    }
}
