//! # SequenceEmpty
//! A sequence without items, of tensors of type `dtype` (`f32` when absent). Opset 11.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceEmpty",
    domain: "",
    since: &[11],
    until: None,
    dtypes: &[],
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceEmpty {
    dtype: DType,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceEmpty { dtype: spec.dtype("dtype")?.unwrap_or(DType::F32) }))
}

impl Op for SequenceEmpty {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(0, 0)?;
        Ok(vec![Fact::Sequence(Box::new(TensorFact::unranked(self.dtype).into()))])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let dtype = self.dtype;
        Ok(Kernel::new(move |io| io.make(0, Value::Sequence(Sequence::empty(dtype)))))
    }

    fn reference(&self, _: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![RefValue::Sequence(Vec::new())])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let case = Case::new([]);
    if g.chance(0.7) { case.dtype("dtype", *g.pick(MOVABLE)) } else { case }
}
