//! Random uses of one operator as ONNX models of one node, for other engines to run.

use super::case::Case;
use super::gen_case::Gen;
use super::operator::parse;
use crate::error::OpError;
use crate::exec::fact_of;
use crate::graph::fact::{Fact, Facts};
use crate::onnx::{NodeModel, node_model};
use crate::ops::attributes::Attribute;
use crate::ops::{OLDEST_OPSET, OPS, OpDef};
use crate::tensor::Value;
use std::fmt::Write as _;

/// Newest version of the file format that the models need: it has every element type.
const IR_VERSION: i64 = 13;

/// A random valid use of one operator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SingleNode {
    /// The ONNX model.
    pub model: Vec<u8>,
    /// Its inputs by name.
    pub inputs: Vec<(String, Value)>,
    /// Version of the operator set that it imports.
    pub opset: i64,
    /// Attributes, element types and shapes in words.
    pub description: String,
}

/// The use of operator `name` (with its domain and a colon, where it has one) that `seed` draws, which is the
/// one that [`super::check_operator`] checks. It imports the oldest operator set in which that version of the
/// operator is.
pub fn single_node(name: &str, seed: u64) -> Result<SingleNode, OpError> {
    let def = OPS.iter().find(|d| d.full_name() == name).ok_or_else(|| OpError::unsupported(name))?;
    written(def, &(def.case)(&mut Gen::new(seed)))
}

/// A value in the form of the ONNX test data, which [`crate::model::read_test_data`] reads.
pub fn test_data(value: &Value) -> Vec<u8> {
    crate::onnx::test_data(value)
}

pub(crate) fn written(def: &'static OpDef, case: &Case) -> Result<SingleNode, OpError> {
    let op = parse(def, case)?;
    let facts: Vec<Option<Fact>> =
        case.inputs.iter().map(|v| v.as_ref().map(|v| fact_of(v.as_ref()))).collect();
    let given: Vec<Option<Fact>> =
        facts.iter().zip(&case.inputs).map(|(f, v)| f.clone().map(|f| known(f, v.as_ref()))).collect();
    let outputs = op.infer(Facts(&given.iter().map(Option::as_ref).collect::<Vec<_>>()))?;
    let captures: usize = case.attributes.iter().map(|(name, _)| case.captures_of(name)).sum();
    let named = |i: usize| format!("in{i}");
    let inputs: Vec<_> = facts.into_iter().enumerate().map(|(i, f)| f.map(|f| (named(i), f))).collect();
    let mut constants = Vec::new();
    let mut fed = Vec::new();
    for (i, value) in case.inputs.iter().enumerate() {
        match value {
            Some(Value::Tensor(t)) if case.constant.contains(&i) => constants.push((named(i), t.clone())),
            Some(value) => fed.push((named(i), value.clone())),
            None => {}
        }
    }
    let oldest = def.since.iter().copied().filter(|&v| v <= case.opset).max().unwrap_or(case.opset);
    let opset = if def.domain.is_empty() { oldest.max(OLDEST_OPSET) } else { oldest };
    let outputs: Vec<_> =
        outputs.into_iter().take(case.outputs).enumerate().map(|(i, f)| (format!("out{i}"), f)).collect();
    let model = node_model(&NodeModel {
        domain: def.domain,
        op: def.name,
        opset,
        ir_version: IR_VERSION,
        attributes: &case.attributes,
        formal_inputs: inputs.len() - captures,
        inputs: &inputs,
        constants: &constants,
        outputs: &outputs,
    });
    Ok(SingleNode { model, inputs: fed, opset, description: described(case) })
}

/// With the content, which the model or the run will tell.
fn known(fact: Fact, value: Option<&Value>) -> Fact {
    match (fact, value) {
        (Fact::Tensor(_), Some(Value::Tensor(t))) => crate::graph::TensorFact::constant(t.clone()).into(),
        (fact, _) => fact,
    }
}

fn described(case: &Case) -> String {
    let mut text = String::new();
    for (name, value) in &case.attributes {
        // Writing to a string cannot fail.
        let _ = match value {
            Attribute::Int(v) => write!(text, "{name}={v} "),
            Attribute::Float(v) => write!(text, "{name}={v} "),
            Attribute::String(v) => write!(text, "{name}={v} "),
            Attribute::Ints(v) => write!(text, "{name}={v:?} "),
            Attribute::Floats(v) => write!(text, "{name}={v:?} "),
            Attribute::Strings(v) => write!(text, "{name}={v:?} "),
            Attribute::Tensor(v) => write!(text, "{name}={} {:?} ", v.dtype(), v.shape()),
            Attribute::Type(v) => write!(text, "{name}={v:?} "),
            Attribute::Body(_) => write!(text, "{name}=a body "),
        };
    }
    text += "(";
    for (i, value) in case.inputs.iter().enumerate() {
        let constant = if case.constant.contains(&i) { "constant " } else { "" };
        let _ = match value {
            None => write!(text, "-, "),
            Some(Value::Tensor(t)) => write!(text, "{constant}{} {:?}, ", t.dtype(), t.shape()),
            Some(Value::Sequence(s)) => write!(text, "sequence of {}, ", s.items().len()),
            Some(Value::Optional(o)) => write!(text, "{}, ", if o.is_some() { "optional" } else { "none" }),
        };
    }
    let _ = write!(text, ") -> {}", case.outputs);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::ops::Accuracy;
    use crate::precision::Storing;
    use crate::testing::{Tolerance, compare};

    /// What the reader makes of a written model gives the same results as the operator that the case parses to.
    #[test]
    fn every_operator_runs_as_a_model() {
        for def in OPS {
            for seed in 0..3 {
                let name = def.full_name();
                let case = (def.case)(&mut Gen::new(seed));
                let context = || format!("{name} {seed}: {case:?}");
                let made = written(def, &case).unwrap_or_else(|e| panic!("{}: {e}", context()));
                let session = Session::builder().with_threads(1).load_bytes(made.model);
                let session = session.unwrap_or_else(|e| panic!("{}: {e:?}", context()));
                let named = made.inputs.iter().map(|(name, value)| (name.as_str(), value));
                let outputs = session.run(named).unwrap_or_else(|e| panic!("{}: {e:?}", context()));
                let op = parse(def, &case).unwrap_or_else(|e| panic!("{}: {e}", context()));
                let wanted = crate::testing::operator::run(def, &op, &case, 1, &Storing::default());
                let wanted = wanted.unwrap_or_else(|e| panic!("{}: {e}", context()));
                assert_eq!(outputs.len(), wanted.len(), "{}", context());
                if def.accuracy == Accuracy::Random {
                    continue;
                }
                for ((_, got), want) in outputs.iter().zip(&wanted) {
                    let exact = Tolerance { relative: 0.0, absolute: 0.0 };
                    compare(got, want, exact).unwrap_or_else(|e| panic!("{}: {e}", context()));
                }
            }
        }
    }
}
