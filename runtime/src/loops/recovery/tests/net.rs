//! Graphs for tests, written as exporters write them, and their execution.

use super::super::build;
use crate::cpu::{RunContext, Slot};
use crate::exec::{BuildContext, Interrupt, Program, Team};
use crate::graph::{Graph, Rewrites, TensorFact, ValueId, simplify};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::precision::Storing;
use crate::tensor::{Tensor, Value, ValueRef};
use std::collections::BTreeMap;

/// A graph under construction, and the values of its inputs.
#[derive(Default)]
pub(super) struct Net {
    pub(super) graph: Graph,
    pub(super) inputs: Vec<Tensor>,
}

pub(super) type Attributes = Vec<(&'static str, Attribute)>;

impl Net {
    pub(super) fn input(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(format!("input{}", self.inputs.len()));
        self.graph.values[id.index()].declared =
            Some(TensorFact::known(tensor.dtype(), tensor.shape()).into());
        self.graph.inputs.push(id);
        self.inputs.push(tensor);
        id
    }

    pub(super) fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_constant("constant", tensor)
    }

    pub(super) fn floats(&mut self, shape: &[usize], values: &[f64]) -> ValueId {
        let values = values.iter().map(|&v| v as f32).collect();
        self.constant(Tensor::new(shape, values).expect("as many values as the shape has"))
    }

    pub(super) fn number(&mut self, value: f32) -> ValueId {
        self.constant(Tensor::scalar(value))
    }

    pub(super) fn integers(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::new(&[values.len()], values.to_vec()).expect("a list"))
    }

    pub(super) fn with(
        &mut self,
        op: &str,
        attributes: Attributes,
        inputs: &[ValueId],
        outputs: usize,
    ) -> Vec<ValueId> {
        self.with_captures(op, attributes, inputs, 0, outputs)
    }

    /// The last `captures` inputs are those of the body.
    pub(super) fn with_captures(
        &mut self,
        op: &str,
        attributes: Attributes,
        inputs: &[ValueId],
        captures: usize,
        outputs: usize,
    ) -> Vec<ValueId> {
        let given = inputs.iter().copied().map(Some).collect();
        let node = build::node(&mut self.graph, op, attributes, given, captures, outputs);
        let node = node.expect("a valid node");
        let made = node.outputs.iter().copied().flatten().collect();
        self.graph.nodes.push(node);
        made
    }

    pub(super) fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.with(op, Vec::new(), inputs, 1)[0]
    }

    pub(super) fn output(&mut self, id: ValueId) {
        self.graph.outputs.push(id);
    }

    /// The graph after simplification.
    pub(super) fn simplified(&self, recover: bool) -> Graph {
        simplify(self.graph.clone(), Rewrites { recurrences: recover }, &Budget::unlimited())
            .expect("simplifies")
    }

    /// The outputs of `graph` on this net's inputs.
    pub(super) fn run(&self, graph: Graph) -> Vec<Vec<f64>> {
        let budget = Budget::unlimited();
        let context =
            BuildContext { budget: &budget, threads: 1, release: &|_| (), storing: &Storing::default() };
        let program = Program::build(graph, context).expect("builds");
        let (team, interrupt) = (Team::serial(), Interrupt::default());
        let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
        let given: Vec<ValueRef<'_>> = self.inputs.iter().map(ValueRef::from).collect();
        let mut made: Vec<Option<Value>> = vec![None; program.graph().outputs.len()];
        let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
        program.run(&given, &mut slots, context).expect("runs");
        drop(slots);
        made.into_iter()
            .map(|v| v.and_then(Value::into_tensor).and_then(|t| t.to_f64s()).expect("a float output"))
            .collect()
    }
}

/// How many nodes of each operator there are.
pub(super) fn census(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut census = BTreeMap::new();
    for node in &graph.nodes {
        *census.entry(node.def.name).or_insert(0) += 1;
    }
    census
}

/// Both within `tolerance` of the largest expected number.
pub(super) fn assert_close(got: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len(), "{what}, output {i}");
        let largest = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (at, (g, e)) in got.iter().zip(expected).enumerate() {
            assert!((g - e).abs() <= tolerance * largest, "{what}, output {i}[{at}]: {g} instead of {e}");
        }
    }
}

/// Pseudo-random numbers in [-1, 1).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(super) fn many(&mut self, count: usize, scale: f64) -> Vec<f64> {
        (0..count).map(|_| scale * self.next()).collect()
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) * (n as f64 / 2.0)) as usize % n
    }
}
