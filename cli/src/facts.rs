//! What is known of a value, as text and in documents.

use recurve::model::{Dim, Fact, TensorFact, ValueSpec};
use serde::Serialize;

/// A value of the model in a document.
#[derive(Debug, Serialize)]
pub(crate) struct ValueEntry {
    name: String,
    /// `tensor`, `sequence` or `optional`.
    kind: &'static str,
    /// Element type of the tensor, or of the tensors inside.
    dtype: &'static str,
    shape: Option<Vec<Extent>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Extent {
    Known(usize),
    /// A symbol, or an expression of some.
    Symbolic(String),
    /// `null`: known only once the data is.
    Unknown,
}

impl ValueEntry {
    pub(crate) fn of(spec: &ValueSpec) -> Self {
        let kind = match spec.fact {
            Fact::Tensor(_) => "tensor",
            Fact::Sequence(_) => "sequence",
            Fact::Optional(_) => "optional",
        };
        let tensor = innermost(&spec.fact);
        let extent = |dim: &Dim| match dim {
            Dim::Known(n) => Extent::Known(*n),
            Dim::Unknown => Extent::Unknown,
            dim @ Dim::Expr(_) => Extent::Symbolic(dim.to_string()),
        };
        Self {
            name: spec.name.to_string(),
            kind,
            dtype: tensor.dtype.name(),
            shape: tensor.shape.as_ref().map(|dims| dims.iter().map(extent).collect()),
        }
    }
}

fn innermost(fact: &Fact) -> &TensorFact {
    match fact {
        Fact::Tensor(tensor) => tensor,
        Fact::Sequence(item) | Fact::Optional(item) => innermost(item),
    }
}

/// `float32 [batch, 64]`.
pub(crate) fn describe(fact: &Fact) -> String {
    match fact {
        Fact::Tensor(tensor) => match &tensor.shape {
            Some(dims) => format!("{} {dims:?}", tensor.dtype),
            None => format!("{} of any shape", tensor.dtype),
        },
        Fact::Sequence(item) => format!("sequence of {}", describe(item)),
        Fact::Optional(item) => format!("optional {}", describe(item)),
    }
}
