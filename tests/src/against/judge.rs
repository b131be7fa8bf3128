//! The judgement of one model that both engines ran.

use super::Server;
use super::server::Answer;
use anyhow::Result;
use recurve::model::{Accuracy, Fact, TensorFact, read_test_data};
use recurve::testing::{
    Mismatch, OperatorInfo, SingleNode, Tolerance, check_operator, compare, single_node, test_data,
};
use recurve::{DType, Engine, Outputs, Session, Value};

/// What came of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Equal within the operator's accuracy class.
    Agree,
    /// Further apart than the class allows, but close, and ours is within the class of the reference in f64.
    Rounding,
    /// ONNX Runtime did not run it.
    Refused(String),
    /// The answers differ.
    Differ(String),
    /// The engine refused or failed.
    Failed(String),
}

/// Floats that are within this of each other, relative and absolute, are the same but for rounding.
fn rounding(dtype: DType) -> Tolerance {
    let bound = match dtype {
        DType::F16 => 2e-2,
        DType::BF16 => 1e-1,
        _ => 1e-3,
    };
    Tolerance { relative: bound, absolute: bound }
}

/// Draws the use of `operator` that belongs to `seed` and lets both run it.
///
/// # Returns
/// The verdict, and the use in words.
pub fn judge(
    operator: &OperatorInfo,
    seed: u64,
    engine: &Engine,
    server: &mut Server,
) -> Result<(Verdict, String)> {
    let name = operator.full_name();
    let made = match single_node(&name, seed) {
        Ok(made) => made,
        Err(error) => return Ok((Verdict::Failed(error.to_string()), String::new())),
    };
    let words = format!("{name}-{} seed {seed}: {}", made.opset, made.description);
    let inputs: Vec<Vec<u8>> = made.inputs.iter().map(|(_, value)| test_data(value)).collect();
    let verdict = match ours(&made, engine) {
        Err(error) => Verdict::Failed(format!("{error:?}")),
        Ok(got) => match server.run(&made.model, &inputs)? {
            Answer::Refused(reason) => Verdict::Refused(reason),
            Answer::Crashed => Verdict::Refused("the process crashed".into()),
            Answer::Outputs(outputs) => compared(operator, &name, seed, &got, &outputs),
        },
    };
    Ok((verdict, words))
}

fn ours(made: &SingleNode, engine: &Engine) -> Result<Outputs, recurve::Error> {
    let session = Session::builder().with_engine(engine).load_bytes(made.model.clone())?;
    session.run(made.inputs.iter().map(|(name, value)| (name.as_str(), value)))
}

fn compared(operator: &OperatorInfo, name: &str, seed: u64, got: &Outputs, outputs: &[Vec<u8>]) -> Verdict {
    let mut verdict = Verdict::Agree;
    for ((output, got), want) in got.iter().zip(outputs) {
        let want = match read_test_data(want, &kind_of(got)) {
            Ok(want) => want,
            Err(error) => return Verdict::Differ(format!("`{output}` cannot be read: {error}")),
        };
        let mismatch = match operator.accuracy {
            Accuracy::Random => same_form(got, &want),
            class => compare(got, &want, Tolerance::of(class, dtype_of(got))),
        };
        let Err(mismatch) = mismatch else { continue };
        let close = operator.accuracy != Accuracy::Exact
            && compare(got, &want, rounding(dtype_of(got))).is_ok()
            && check_operator(name, seed, 1).is_ok();
        if !close {
            return Verdict::Differ(format!("`{output}`: {mismatch}"));
        }
        verdict = Verdict::Rounding;
    }
    verdict
}

fn same_form(got: &Value, want: &Value) -> Result<(), Mismatch> {
    match (got.as_tensor(), want.as_tensor()) {
        (Some(got), Some(want)) if got.dtype() == want.dtype() && got.shape() == want.shape() => Ok(()),
        _ => Err(Mismatch::Kind),
    }
}

fn dtype_of(value: &Value) -> DType {
    match value {
        Value::Tensor(tensor) => tensor.dtype(),
        Value::Sequence(sequence) => sequence.items().first().map_or(DType::F32, dtype_of),
        Value::Optional(inner) => inner.as_ref().map_or(DType::F32, |inner| dtype_of(inner)),
    }
}

/// The kind of message that holds such a value.
fn kind_of(value: &Value) -> Fact {
    let tensor = || TensorFact::unranked(DType::F32).into();
    match value {
        Value::Tensor(_) => tensor(),
        Value::Sequence(_) => Fact::Sequence(Box::new(tensor())),
        Value::Optional(_) => Fact::Optional(Box::new(tensor())),
    }
}
