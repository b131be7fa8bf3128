//! # SequenceMap
//! Runs a body for every item of the first input, a sequence; every output is the sequence of what the body gives.
//! Other inputs give the body their item of the same position when they are sequences, of as many items, and
//! themselves when they are tensors. Opset 17.

use super::attributes::{Body, NodeSpec};
use super::sequence_construct::without_content;
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::body::{BodyPrograms, pack_bodies, run_body};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::NodeError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::{Sequence, Value, ValueRef};
use crate::testing::bodies::BodyBuilder;
use crate::testing::{Case, Gen};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceMap",
    domain: "",
    since: &[17],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Elementwise,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceMap {
    body: Body,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let body = spec.body("body")?.ok_or_else(|| OpError::attribute("body", "is missing"))?;
    if body.formal_inputs != spec.inputs.len() || spec.inputs.is_empty() {
        let problem = format!("has {} inputs; the node has {}", body.formal_inputs, spec.inputs.len());
        return Err(OpError::attribute("body", problem));
    }
    if body.graph.outputs.len() < spec.outputs.len() {
        return Err(OpError::attribute("body", "has fewer outputs than the node"));
    }
    Ok(Arc::new(SequenceMap { body }))
}

/// Number of items of the first of `inputs`, which the other sequences among them must have too.
fn item_count<'v>(inputs: impl Iterator<Item = Option<&'v [Value]>>) -> Result<usize, OpError> {
    let mut count = None;
    for (index, items) in inputs.enumerate() {
        match (items, count) {
            (None, None) => return Err(OpError::input(0, "is not a sequence")),
            (Some(items), None) => count = Some(items.len()),
            (Some(items), Some(count)) if items.len() != count => {
                let problem = format!("has {} items where the first input has {count}", items.len());
                return Err(OpError::input(index, problem));
            }
            _ => {}
        }
    }
    Ok(count.unwrap_or(0))
}

impl Op for SequenceMap {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let formal = self.body.formal_inputs;
        let mut given = Vec::with_capacity(inputs.len());
        for index in 0..inputs.len() {
            given.push(match inputs.value(index)? {
                Fact::Sequence(item) if index < formal => without_content((**item).clone()),
                _ if index == 0 => return Err(OpError::input(0, "is not a sequence")),
                other => other.clone(),
            });
        }
        let made = self.body.graph.infer_outputs(&given)?;
        let sequence = |fact: Fact| match fact {
            fact @ Fact::Tensor(_) => Ok(Fact::Sequence(Box::new(without_content(fact)))),
            _ => Err(OpError::shape("an output of the body is no tensor")),
        };
        made.into_iter().map(sequence).collect()
    }

    fn body_cost(&self, _: Facts<'_>) -> Option<Cost> {
        // The number of items is never known before it runs.
        None
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        pack_bodies(&self.bodies(), site)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let programs =
            site.packed_as::<BodyPrograms>().ok_or_else(|| OpError::internal("bodies not packed"))?;
        let formal = self.body.formal_inputs;
        // What an output without items is of.
        let dtypes: Vec<DType> = site
            .outputs
            .iter()
            .map(|fact| match fact {
                Fact::Sequence(item) => item.tensor().map_or(DType::F32, |t| t.dtype),
                _ => DType::F32,
            })
            .collect();
        Ok(Kernel::new(move |io| {
            let sequences = io.values()[..formal].iter().map(|value| match value {
                Some(ValueRef::Sequence(sequence)) => Some(sequence.items()),
                _ => None,
            });
            let count = item_count(sequences)?;
            let mut made: Vec<Vec<Value>> = vec![Vec::new(); dtypes.len()];
            for at in 0..count {
                io.check_interrupt()?;
                let mut items: SmallVec<[Option<Value>; 4]> = SmallVec::new();
                for index in 0..formal {
                    items.push(match io.value(index)? {
                        ValueRef::Sequence(sequence) => {
                            let item = sequence.items().get(at);
                            let item = item.ok_or_else(|| OpError::internal("items were counted"))?;
                            Some(item.aligned(io.context.budget)?)
                        }
                        _ => None,
                    });
                }
                let mut given: SmallVec<[ValueRef<'_>; 8]> = SmallVec::new();
                for index in 0..io.input_count() {
                    given.push(match items.get(index) {
                        Some(Some(item)) => item.as_ref(),
                        _ => io.value(index)?,
                    });
                }
                for (list, value) in made.iter_mut().zip(run_body(&programs.0[0], &given, io.context)?) {
                    list.push(value);
                }
            }
            for (index, (items, dtype)) in made.into_iter().zip(&dtypes).enumerate() {
                io.make(index, Value::Sequence(Sequence::empty(*dtype).with_items(items)))?;
            }
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let formal = self.body.formal_inputs;
        let RefValue::Sequence(first) = inputs.value(0)? else {
            return Err(OpError::input(0, "is not a sequence"));
        };
        let mut made: Vec<Vec<RefValue>> = vec![Vec::new(); self.body.graph.outputs.len()];
        for at in 0..first.len() {
            let mut given = Vec::with_capacity(inputs.len());
            for index in 0..inputs.len() {
                given.push(match inputs.value(index)? {
                    RefValue::Sequence(items) if index < formal => {
                        let item = items.get(at);
                        item.ok_or_else(|| OpError::input(index, "has too few items"))?.clone()
                    }
                    other => other.clone(),
                });
            }
            let outputs = run_graph(&self.body.graph, &given).map_err(NodeError::in_body)?;
            made.iter_mut().zip(outputs).for_each(|(list, value)| list.push(value));
        }
        Ok(made.into_iter().map(RefValue::Sequence).collect())
    }

    fn bodies(&self) -> Vec<&Body> {
        vec![&self.body]
    }

    fn with_bodies(&self, bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        let [body] = bodies.try_into().ok()?;
        Some(Arc::new(SequenceMap { body }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A body `x, y → x + y, relu(x · c)` of a sequence, a sequence or a tensor, and a captured value.
fn case(g: &mut Gen) -> Case {
    let mut b = BodyBuilder::new();
    let (x, y) = (b.input("x"), b.input("y"));
    let c = b.capture("c");
    let sum = b.node("Add", &[x, y]);
    let product = b.node("Mul", &[x, c]);
    let positive = b.node("Relu", &[product]);
    let body = b.finish(&[sum, positive]);

    let shape = g.shape(2);
    let count = g.size(0, 4);
    let sequence = |g: &mut Gen| {
        let items = (0..count).map(|_| g.tensor(DType::F32, &shape).into()).collect();
        Value::Sequence(Sequence::empty(DType::F32).with_items(items))
    };
    let first = sequence(g);
    let second = if g.chance(0.5) { sequence(g) } else { g.tensor(DType::F32, &[1]).into() };
    let mut case = Case::new([]).with("body", body).outputs(2);
    case.inputs.extend([Some(first), Some(second)]);
    case.input(g.tensor(DType::F32, &[]))
}
