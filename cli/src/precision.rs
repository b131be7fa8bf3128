//! What a session stores weights in, and what that does to its outputs.

use crate::quantity::{self, plural};
use recurve::Session;
use recurve::weights::{Deviation, StoredWeights};
use serde::Serialize;

/// What `--precision` came to.
#[derive(Debug, Serialize)]
pub(crate) struct PrecisionEntry {
    format: String,
    /// Bytes of the weights that it is about, as the model has them and as they are stored.
    model_bytes: usize,
    stored_bytes: usize,
    weights: Vec<WeightsEntry>,
    /// How far each output is from that with the model's weights, on the same inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    deviations: Option<Vec<DeviationEntry>>,
}

/// The weights of one operator.
#[derive(Debug, Serialize)]
struct WeightsEntry {
    node: String,
    op: String,
    input: usize,
    weights: usize,
    model_bytes: usize,
    stored_bytes: usize,
    /// Why they are stored as the model has them, where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

#[derive(Debug, Serialize)]
struct DeviationEntry {
    output: String,
    /// `null` where one of two elements is no number.
    max_relative: Option<f64>,
    max_absolute: Option<f64>,
}

impl PrecisionEntry {
    /// Of `session`; `None` where weights are stored as the model has them.
    pub(crate) fn of(session: &Session, deviations: Option<Vec<Deviation>>) -> Option<Self> {
        let stored = session.stored_weights();
        if stored.precision == recurve::settings::Precision::F32 {
            return None;
        }
        let finite = |v: f64| v.is_finite().then_some(v);
        let entry = |d: Deviation| DeviationEntry {
            output: d.name.to_string(),
            max_relative: finite(d.relative),
            max_absolute: finite(d.absolute),
        };
        Some(Self {
            format: stored.precision.to_string(),
            model_bytes: stored.model_bytes(),
            stored_bytes: stored.bytes(),
            weights: stored.weights.iter().map(weights_entry).collect(),
            deviations: deviations.map(|all| all.into_iter().map(entry).collect()),
        })
    }

    /// What is said of it in text.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let bytes = |bytes: usize| quantity::bytes(bytes as f64);
        if self.is_tf32() {
            let rounded = self.weights.iter().filter(|weights| weights.kept.is_none()).count();
            let text = format!("{rounded} of {} multiplied as tf32", plural(self.weights.len(), "tensor"));
            let mut rows = vec![vec![self.format.clone(), text]];
            rows.extend(self.kept_rows());
            return rows;
        }
        if self.weights.is_empty() {
            let none = "nothing: the model has no weights of recurrences or products that it is about";
            return vec![vec![self.format.clone(), none.to_owned()]];
        }
        let of = plural(self.weights.len(), "tensor");
        let text = format!("{} of {}, {of}", bytes(self.stored_bytes), bytes(self.model_bytes));
        let mut rows = vec![vec![self.format.clone(), text]];
        rows.extend(self.kept_rows());
        rows
    }

    /// Weights that stay as the model has them, and why.
    fn kept_rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.weights.iter().filter_map(|WeightsEntry { node, op, input, kept, .. }| {
            let why = kept.as_ref()?;
            Some(vec![format!("{node} ({op}), input {input}"), format!("as in the model: {why}")])
        })
    }

    /// Whether products round what they read, of two computed matrices, too, and nothing is stored otherwise.
    fn is_tf32(&self) -> bool {
        self.format == recurve::settings::Precision::Tf32.to_string()
    }

    /// How far outputs are from those with the model's weights, in text; none where that was not asked for, or nothing is
    /// stored otherwise.
    pub(crate) fn deviation_rows(&self) -> Vec<Vec<String>> {
        let row = |DeviationEntry { output, max_relative, max_absolute }: &DeviationEntry| {
            let number = |v: &Option<f64>| v.map_or_else(|| "no number".to_owned(), |v| format!("{v:.2e}"));
            let (relative, absolute) = (number(max_relative), number(max_absolute));
            vec![output.clone(), format!("relative error {relative} at most, absolute {absolute}")]
        };
        let told = self.deviations.iter().flatten().filter(|_| self.is_tf32() || !self.weights.is_empty());
        told.map(row).collect()
    }
}

fn weights_entry(stored: &StoredWeights) -> WeightsEntry {
    WeightsEntry {
        node: stored.node.to_string(),
        op: stored.op.clone(),
        input: stored.input,
        weights: stored.weights,
        model_bytes: stored.model_bytes,
        stored_bytes: stored.bytes,
        kept: stored.kept.map(|kept| kept.to_string()),
    }
}
