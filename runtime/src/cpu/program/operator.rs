//! The kernel of an operator that is an expression: a program of one operator.

use super::{Layout, MapKernel};
use crate::cpu::{CpuSite, Kernel};
use crate::error::OpError;
use crate::graph::Content;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Kind, Reg};
use crate::ops::Op;
use smallvec::SmallVec;

/// Output 0 as [`Op::scalar`] says. Inputs of one known element become constants.
pub(crate) fn operator_kernel(op: &dyn Op, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let output = site.output_shape(0)?;
    let dtype =
        site.outputs[0].tensor().ok_or_else(|| OpError::internal("an output that is no tensor"))?.dtype;
    let mut builder = Builder::new(&[]);
    let mut operands: SmallVec<[Option<Reg>; 4]> = SmallVec::new();
    let mut given: SmallVec<[usize; 8]> = SmallVec::new();
    for index in 0..site.inputs.len() {
        if !site.inputs.has(index) {
            operands.push(None);
            continue;
        }
        let fact = site.inputs.tensor(index)?;
        if let Some(known) = one_known(&mut builder, fact) {
            operands.push(Some(known));
            continue;
        }
        operands.push(Some(builder.add_input(fact.dtype)));
        given.push(index);
    }
    let result = op
        .scalar(site.inputs, &mut builder, &operands)
        .ok_or_else(|| OpError::internal(format!("{op:?} is no expression of these types")))?;
    let (program, read) = builder.finish_read(&[(result, dtype)])?;
    let read: SmallVec<[usize; 8]> = read.into_iter().map(|k| given[k]).collect();
    let layout = |&index: &usize| Layout::broadcast(&output, &site.input_shape(index)?);
    let layouts: Vec<Layout> = read.iter().map(layout).collect::<Result<_, _>>()?;
    Ok(MapKernel::new(&program, &output, &layouts, site.threads)?.into_kernel(read))
}

/// The constant that a tensor of one known element is.
fn one_known(builder: &mut Builder, fact: &TensorFact) -> Option<Reg> {
    let Content::Constant(tensor) = &fact.content else { return None };
    if tensor.shape().iter().product::<usize>() != 1 {
        return None;
    }
    Some(builder.stored(Kind::of(fact.dtype)?, fact.dtype, tensor.bytes()))
}
