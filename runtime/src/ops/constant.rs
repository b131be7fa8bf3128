//! # Constant
//! The tensor that the node holds: any type as `value`; `f32`, `int64` or text, a scalar or a list, by the other
//! attributes. Opsets 1, 9, 11, 12 (scalars and lists), 13, 19, 21, 23, 24, 25. Sparse tensors are not taken.

use super::attributes::{Attribute, NodeSpec};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Constant",
    domain: "",
    since: &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
    until: None,
    dtypes: &[],
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Constant {
    value: Tensor,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let mut found = spec.tensor("value")?;
    if spec.has("sparse_value") {
        return Err(OpError::unsupported("a sparse constant"));
    }
    let mut more = |tensor: Option<Tensor>| {
        if tensor.is_some() && found.is_some() {
            return Err(OpError::attribute("value", "is given twice"));
        }
        found = found.take().or(tensor);
        Ok(())
    };
    let text = |shape: &[usize], v: Vec<Arc<str>>| {
        Tensor::strings(shape, v.iter().map(ToString::to_string).collect()).ok()
    };
    if spec.opset >= 12 {
        more(spec.float("value_float")?.map(Tensor::scalar))?;
        more(spec.floats("value_floats")?.and_then(|v| Tensor::new(&[v.len()], v).ok()))?;
        more(spec.int("value_int")?.map(Tensor::scalar))?;
        more(spec.ints("value_ints")?.and_then(|v| Tensor::new(&[v.len()], v).ok()))?;
        more(spec.string("value_string")?.and_then(|v| text(&[], vec![v])))?;
        more(spec.strings("value_strings")?.and_then(|v| text(&[v.len()], v)))?;
    }
    let value = found.ok_or_else(|| OpError::attribute("value", "is missing"))?;
    Ok(Arc::new(Constant { value }))
}

impl Op for Constant {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(0, 0)?;
        Ok(vec![TensorFact::constant(self.value.clone()).into()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let value = self.value.clone();
        Ok(Kernel::new(move |io| io.copy(0, value.view())))
    }

    fn reference(&self, _: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![RefTensor::from_tensor(&self.value)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let case = Case::new([]);
    let count = g.size(0, 4);
    match g.size(0, 9) {
        0 => case.float("value_float", g.float(-1.0, 1.0) as f32),
        1 => case.with("value_floats", Attribute::Floats((0..count).map(|i| i as f32).collect())),
        2 => case.int("value_int", g.int(-9, 9)),
        3 => case.ints("value_ints", &(0..count as i64).collect::<Vec<_>>()),
        4 => case.string("value_string", "text"),
        5 => case.with("value_strings", Attribute::Strings(vec!["a".into(); count])),
        _ => {
            let rank = g.size(0, 3);
            let shape = g.shape(rank);
            let dtype = *g.pick(MOVABLE);
            let value = g.any_tensor(dtype, &shape);
            case.with("value", Attribute::Tensor(value)).opset(*g.pick(&[7, 11, 25]))
        }
    }
}
