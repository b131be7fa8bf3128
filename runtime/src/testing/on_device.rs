//! One operator as a model of one node on any device, against its reference.

use super::compare::{Tolerance, compare_value};
use super::gen_case::Gen;
use super::operator::{Failure, parse, same_form};
use super::single_node::written;
use crate::dtype::DType;
use crate::error::{ErrorKind, OpError};
use crate::ops::{Accuracy, OPS};
use crate::reference::{RefInputs, RefValue};
use crate::session::SessionBuilder;

/// Draws the case of operator `name` that [`check_operator`](super::check_operator) draws from `seed`, runs it as a model
/// with `builder` and compares. Tells whether the device runs it: what it refuses as unsupported is no failure.
pub fn check_operator_on(builder: SessionBuilder, name: &str, seed: u64) -> Result<bool, Failure> {
    let def = OPS.iter().find(|d| d.full_name() == name);
    let case = |def: &&'static crate::ops::OpDef| Box::new((def.case)(&mut Gen::new(seed)));
    let Some((def, case)) = def.map(|def| (def, case(def))) else {
        let case = Box::new(super::Case::new([]));
        return Err(Failure::Error { stage: "look-up", source: OpError::unsupported(name), case });
    };
    let fail = |stage, source| Failure::Error { stage, source, case: case.clone() };
    let node = written(def, &case).map_err(|e| fail("model", e))?;
    let ran = builder
        .load_bytes(node.model)
        .and_then(|session| session.run(node.inputs.iter().map(|(name, value)| (name.as_str(), value))));
    let outputs = match ran {
        Ok(outputs) => outputs,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(false),
        Err(source) => return Err(Failure::Run { source: Box::new(source), case }),
    };
    let op = parse(def, &case).map_err(|e| fail("parse", e))?;
    let references: Result<Vec<Option<RefValue>>, OpError> =
        case.inputs.iter().map(|v| v.as_ref().map(RefValue::from_value).transpose()).collect();
    let references = references.map_err(|e| fail("reference inputs", e))?;
    let given: Vec<Option<&RefValue>> = references.iter().map(Option::as_ref).collect();
    let want = op.reference(&RefInputs(&given)).map_err(|e| fail("reference", e))?;
    for (output, ((_, got), want)) in outputs.iter().zip(&want).enumerate() {
        let dtype = got.as_tensor().map_or(DType::F32, crate::Tensor::dtype);
        let compared = match def.accuracy {
            Accuracy::Random => same_form(got, want),
            class => compare_value(got, want, Tolerance::of(class, dtype)),
        };
        compared.map_err(|mismatch| Failure::Mismatch { output, mismatch, case: case.clone() })?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Session};

    #[test]
    fn operators_run_on_the_cpu_and_on_the_emulated_gpu_or_are_refused() {
        let on = |device| Session::builder().with_threads(1).with_device(device);
        for name in ["Add", "Softmax", "MatMul"] {
            assert!(check_operator_on(on(Device::Cpu), name, 1).expect("right"), "{name}");
            check_operator_on(on(Device::Emulated), name, 1).expect("right, or refused");
        }
        let ran =
            (0..12).map(|seed| check_operator_on(on(Device::Emulated), "Softmax", seed).expect("right"));
        assert!(ran.filter(|&ran| ran).count() > 0);
        assert!(check_operator_on(on(Device::Cpu), "NoSuch", 1).is_err());
    }
}
