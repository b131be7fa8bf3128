//! # Where
//! `y = x` where the condition is true, `y = z` elsewhere; all three broadcast to one shape. Opsets 9, 16.

use super::attributes::NodeSpec;
use super::elementwise::{broadcast_at, broadcast_fact, draw_numbers, draw_shape};
use super::{Accuracy, Op, OpDef};
use crate::cpu::broadcast::Plan;
use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{Bool, DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Where",
    domain: "",
    since: &[9, 16],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse: |_: &NodeSpec| Ok(Arc::new(Where)),
    case,
};

#[derive(Debug)]
struct Where;

impl Op for Where {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let condition = inputs.typed(0, &[DType::Bool])?;
        let x = inputs.typed(1, MOVABLE)?;
        let z = inputs.typed(2, &[x.dtype])?;
        let fact = broadcast_fact(x.dtype, &[condition, x, z])?;
        Ok(vec![chosen(fact.clone(), condition, x, z).unwrap_or(fact).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let dtype = site.inputs.tensor(1)?.dtype;
        if dtype == DType::String {
            return strings(site);
        }
        operator_kernel(self, site)
    }

    fn scalar(&self, _: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let [Some(condition), Some(x), Some(z)] = *operands else { return None };
        Some(b.select(condition, x, z))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (condition, x, z) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let shape = RefTensor::broadcast_shape(&[&condition.shape, &x.shape, &z.shape])?;
        let chosen = condition.broadcast_to(&shape);
        let (x, z) = (x.broadcast_to(&shape), z.broadcast_to(&shape));
        // Both one after the other, of which each place takes one.
        let both = x.followed_by(&z)?;
        let truth = chosen.as_bools()?;
        Ok(vec![both.gathered(&shape, |i| if truth[i] { i } else { x.len() + i }).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The choice among shape arithmetic by a condition that is known.
fn chosen(fact: TensorFact, condition: &TensorFact, x: &TensorFact, z: &TensorFact) -> Option<TensorFact> {
    let truth = condition.as_constant().filter(|c| c.shape().len() <= 1)?.to_vec::<Bool>()?;
    let (x, z) = (x.as_integers()?, z.as_integers()?);
    let len = fact.element_count().filter(|&n| n <= truth.len().max(x.len()).max(z.len()))?;
    let element = |i| broadcast_at(if broadcast_at(&truth, i)?.get() { &x } else { &z }, i).cloned();
    Some(fact.with_integers((0..len).map(element).collect::<Option<_>>()?))
}

fn strings(site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let shape = site.output_shape(0)?;
    let inputs = [site.input_shape(0)?, site.input_shape(1)?, site.input_shape(2)?];
    let plan = Plan::<3>::new(&shape, [&inputs[0], &inputs[1], &inputs[2]])?;
    Ok(Kernel::new(move |io| {
        let (condition, x, z) = (io.input::<Bool>(0)?, io.text(1)?, io.text(2)?);
        let mut y = vec![String::new(); shape.iter().product()];
        plan.zip(0, (condition, x, z), &mut y, |c, x, z| if c.get() { x.clone() } else { z.clone() });
        let made = Tensor::strings(&shape, y).map_err(|_| OpError::internal("text of another size"))?;
        io.make(0, made.into())
    }))
}

fn case(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(MOVABLE), draw_shape(g));
    let [c, x, z] = [(); 3].map(|()| g.broadcastable(&shape));
    let condition = g.tensor(DType::Bool, &c);
    let [x, z] = [x, z].map(|shape| draw_numbers(g, dtype, &shape, (-10.0, 10.0)));
    Case::new([condition, x, z]).opset(*g.pick(&[9, 16, 28]))
}
