//! Random graphs of operators that fuse, run with and without fusion: the reference of the unfused graph judges.

use super::interpret::{Operand, interpret};
use super::program::{Kind, read, write};
use super::{Fused, fuse};
use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::exec::{BuildContext, Interrupt, Program, Team, fact_of};
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, ValueId, infer};
use crate::memory::{Budget, Buffer};
use crate::ops::attributes::{Attribute, NodeSpec};
use crate::ops::{Accuracy, NEWEST_OPSET, OPS, OpDef, find};
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::{Tensor, Value, ValueRef};
use crate::testing::{Gen, Tolerance, compare_value, parse};
use std::cell::Cell;

/// Every operator that has a nest: its nest, carried out from its definition, against its reference.
#[test]
fn nests_compute_what_their_operators_do() {
    let seeds = std::env::var("RECURVE_SEEDS").map_or(60, |s| s.parse().expect("a number of seeds"));
    let only = std::env::var("RECURVE_OPS").ok();
    let mut lowered = Vec::new();
    for def in OPS {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|n| n == def.full_name())) {
            continue;
        }
        let mut count = 0;
        for seed in 0..seeds {
            count += usize::from(check_nest(def, seed));
        }
        if count > 0 {
            lowered.push(def.name);
        }
    }
    println!("{} operators have nests: {}", lowered.len(), lowered.join(" "));
    assert!(
        only.is_some() || ["Add", "Transpose", "Slice", "MatMul", "Conv"].iter().all(|n| lowered.contains(n))
    );
}

/// Whether the case of `seed` has a nest, which was then found to be right.
fn check_nest(def: &'static OpDef, seed: u64) -> bool {
    let case = (def.case)(&mut Gen::new(seed));
    let op = parse(def, &case).expect("a valid case");
    let fact = |(i, value): (usize, &Option<Value>)| {
        let value = value.as_ref()?;
        Some(match value.as_tensor() {
            Some(t) if case.constant.contains(&i) => TensorFact::constant(t.clone()).into(),
            _ => fact_of(value.as_ref()),
        })
    };
    let facts: Vec<Option<Fact>> = case.inputs.iter().enumerate().map(fact).collect();
    let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let mut made = op.infer(Facts(&given)).expect("facts");
    made.truncate(1);
    if case.outputs != 1 || made[0].tensor().is_none_or(|t| t.known_shape().is_none()) {
        return false;
    }
    let Ok(nest) = op.nest(Facts(&given), &made) else { return false };
    let operand = |value: &Option<Value>| {
        let tensor = value.as_ref().and_then(Value::as_tensor);
        let tensor = tensor.filter(|t| Kind::of(t.dtype()).is_some());
        tensor.map_or_else(
            || Operand::zeros(DType::F32, &[0]),
            |t| Operand {
                dtype: t.dtype(),
                shape: t.shape().to_vec(),
                values: (0..t.len()).map(|i| read(t.dtype(), t.bytes(), i)).collect(),
            },
        )
    };
    let inputs: Vec<Operand> = case.inputs.iter().map(operand).collect();
    let fact = made[0].tensor().expect("a tensor");
    let shape = fact.known_shape().expect("known extents");
    let got = interpret(&nest, &inputs, vec![Operand::zeros(fact.dtype, &shape)]);
    let mut bytes = vec![0; fact.bytes().expect("known extents")];
    for (i, value) in got[0].values.iter().enumerate() {
        write(fact.dtype, &mut bytes, i, *value);
    }
    let mut buffer = Buffer::zeroed(bytes.len(), &Budget::unlimited()).expect("memory");
    buffer.bytes_mut().copy_from_slice(&bytes);
    let got = Tensor::from_buffer(fact.dtype, &shape, buffer).expect("a tensor").into();
    let references: Vec<Option<RefValue>> =
        case.inputs.iter().map(|v| v.as_ref().map(|v| RefValue::from_value(v).expect("a value"))).collect();
    let given: Vec<Option<&RefValue>> = references.iter().map(Option::as_ref).collect();
    let want = op.reference(&RefInputs(&given)).expect("a reference");
    let tolerance = Tolerance::of(def.accuracy, fact.dtype);
    if let Err(mismatch) = compare_value(&got, &want[0], tolerance) {
        panic!("{} seed {seed}: {mismatch:?}\n{case:?}\n{nest:#?}", def.full_name());
    }
    true
}

/// A graph that grows by random nodes over values of known shapes.
struct Sketch {
    graph: Graph,
    inputs: Vec<Tensor>,
    values: Vec<(ValueId, Vec<usize>)>,
}

impl Sketch {
    fn node(&mut self, op: &str, attributes: Vec<(&str, Attribute)>, inputs: &[ValueId]) -> Option<ValueId> {
        let def = find("", op, NEWEST_OPSET).expect("an operator of the table");
        let spec = NodeSpec {
            attributes: attributes.into_iter().map(|(n, a)| (n.into(), a, Cell::new(false))).collect(),
            opset: NEWEST_OPSET,
            inputs: vec![true; inputs.len()],
            outputs: vec![true],
        };
        let op = (def.parse)(&spec).expect("valid attributes");
        let out = self.graph.add_value(format!("v{}", self.graph.values.len()));
        self.graph.nodes.push(Node {
            name: format!("{}_{}", def.name, self.graph.nodes.len()).into(),
            def: def.op_name(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(out)],
        });
        let facts = infer(&self.graph, &self.facts());
        let shape = facts.ok().and_then(|f| Some(f[out.index()].as_ref()?.tensor()?.known_shape()?.to_vec()));
        if shape.is_none() {
            self.graph.nodes.pop();
        }
        self.values.push((out, shape?));
        Some(out)
    }

    fn facts(&self) -> Vec<Fact> {
        self.inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect()
    }

    fn input(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(format!("x{}", self.inputs.len()));
        self.graph.inputs.push(id);
        self.values.push((id, tensor.shape().to_vec()));
        self.inputs.push(tensor);
        id
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let shape = tensor.shape().to_vec();
        let id = self.graph.add_constant(format!("c{}", self.graph.values.len()), tensor);
        self.values.push((id, shape));
        id
    }

    /// Some value, one of the latest more often than an old one.
    fn any(&self, g: &mut Gen) -> (ValueId, Vec<usize>) {
        let n = self.values.len();
        let back = g.size(0, n - 1).min(g.size(0, n - 1));
        self.values[n - 1 - back].clone()
    }
}

/// Adds one random node.
fn grow(s: &mut Sketch, g: &mut Gen) {
    let (x, shape) = s.any(g);
    match g.size(0, 12) {
        0..=3 => {
            let unary = ["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Softsign", "Erf", "Softplus"];
            s.node(*g.pick(&unary), vec![], &[x]);
        }
        4..=7 => {
            let binary = ["Add", "Sub", "Mul", "Max", "Min"];
            let (y, _) = if g.chance(0.5) {
                s.any(g)
            } else {
                let own = g.broadcastable(&shape);
                let tensor = g.tensor_in(DType::F32, &own, -1.0, 1.0);
                (if g.chance(0.5) { s.constant(tensor) } else { s.input(tensor) }, own)
            };
            let pair = if g.chance(0.5) { [x, y] } else { [y, x] };
            s.node(*g.pick(&binary), vec![], &pair);
        }
        8 => {
            let perm = g.permutation(shape.len()).into_iter().map(|a| a as i64).collect();
            s.node("Transpose", vec![("perm", Attribute::Ints(perm))], &[x]);
        }
        9 => {
            let count: usize = shape.iter().product();
            let mut to: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
            if g.chance(0.5) {
                to = vec![count as i64];
            } else {
                to.insert(g.size(0, to.len()), 1);
            }
            let target = s.constant(Tensor::new(&[to.len()], to).expect("a list"));
            s.node("Reshape", vec![], &[x, target]);
        }
        10 if !shape.is_empty() => {
            let axis = g.size(0, shape.len() - 1);
            let (start, step) = (g.int(0, 2), g.int(1, 2));
            let list = |v: i64| Tensor::new(&[1], vec![v]).expect("a list");
            let bounds = [start, i64::MAX, axis as i64, step].map(|v| s.constant(list(v)));
            s.node("Slice", vec![], &[x, bounds[0], bounds[1], bounds[2], bounds[3]]);
        }
        11 if shape.len() >= 2 => {
            let (k, n) = (shape[shape.len() - 1], g.positive_extent());
            let w = g.tensor_in(DType::F32, &[k, n], -0.5, 0.5);
            let w = s.constant(w);
            s.node("MatMul", vec![], &[x, w]);
        }
        12 if shape.len() == 4 => {
            let (channels, filters) = (shape[1], g.positive_extent());
            let grouped = channels > 1 && g.chance(0.3);
            let (per, filters) = if grouped { (1, channels) } else { (channels, filters) };
            let w = g.tensor_in(DType::F32, &[filters, per, 1, 1], -0.5, 0.5);
            let w = s.constant(w);
            let group = if grouped { channels as i64 } else { 1 };
            s.node("Conv", vec![("group", Attribute::Int(group))], &[x, w]);
        }
        _ => {}
    }
}

/// A random graph, all of whose unread values and some others are outputs.
fn sketch(seed: u64) -> Sketch {
    let mut g = Gen::new(seed);
    let mut s = Sketch { graph: Graph::default(), inputs: Vec::new(), values: Vec::new() };
    for _ in 0..g.size(1, 2) {
        let rank = *g.pick(&[1, 2, 3, 4, 4]);
        let shape = g.shape(rank);
        let tensor = g.tensor_in(DType::F32, &shape, -2.0, 2.0);
        s.input(tensor);
    }
    for _ in 0..g.size(2, 14) {
        grow(&mut s, &mut g);
    }
    let read: Vec<ValueId> = s.graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten().copied()).collect();
    let made: Vec<ValueId> = s.graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
    s.graph.outputs = made.into_iter().filter(|id| !read.contains(id) || g.chance(0.1)).collect();
    s
}

fn run(graph: Graph, inputs: &[Tensor], threads: usize) -> Vec<Value> {
    let budget = Budget::unlimited();
    let build = BuildContext { budget: &budget, threads, release: &|_| () };
    let count = graph.outputs.len();
    let program = Program::build(graph, build).expect("a program");
    let (team, interrupt) = (Team::new(threads, false), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut made: Vec<Option<Value>> = vec![None; count];
    let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
    let given: Vec<ValueRef<'_>> = inputs.iter().map(|t| ValueRef::Tensor(t.view())).collect();
    program.run(&given, &mut slots, context).expect("a run");
    drop(slots);
    made.into_iter().map(|v| v.expect("an output")).collect()
}

/// `RECURVE_SEEDS` sets how many graphs are drawn.
#[test]
fn fused_graphs_compute_what_their_operators_do() {
    let seeds: u64 = std::env::var("RECURVE_SEEDS").map_or(5000, |s| s.parse().expect("a number of seeds"));
    let (mut nodes, mut left, mut contractions) = (0, 0, 0);
    for seed in 0..seeds {
        let Sketch { graph, inputs, .. } = sketch(seed);
        if graph.outputs.is_empty() {
            continue;
        }
        let given: Vec<RefValue> =
            inputs.iter().map(|t| RefValue::from_value(&t.clone().into()).expect("a tensor")).collect();
        let want = run_graph(&graph, &given).expect("a reference");
        let facts: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        nodes += graph.nodes.len();
        let text =
            format!("{:?}", graph.nodes.iter().map(|n| (&n.name, &n.inputs, &n.outputs)).collect::<Vec<_>>());
        let (fused, _) = fuse(graph, &facts);
        left += fused.nodes.len();
        contractions += fused.nodes.iter().filter(|n| n.def.name == "FusedContraction").count();
        assert!(
            fused.nodes.iter().all(|n| {
                n.op.as_any().downcast_ref::<Fused>().is_none_or(|f| f.members().nodes.len() > 1)
            })
        );
        for (output, (got, want)) in
            run(fused, &inputs, 1 + (seed % 2) as usize).iter().zip(&want).enumerate()
        {
            let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
            if let Err(mismatch) = compare_value(got, want, tolerance) {
                panic!("seed {seed}, output {output}: {mismatch:?} in {text}");
            }
        }
    }
    println!("{nodes} nodes became {left}, {contractions} of them contractions with an epilogue");
    assert!(seeds < 100 || left * 10 < nodes * 9 && contractions > 0, "{nodes} nodes became {left}");
}

/// A free batch keeps nothing apart: a convolution and what follows it are one node for every batch.
#[test]
fn a_symbolic_batch_is_fused() {
    let mut g = Gen::new(1);
    let mut s = Sketch { graph: Graph::default(), inputs: Vec::new(), values: Vec::new() };
    let x = g.tensor_in(DType::F32, &[2, 3, 4, 5], -1.0, 1.0);
    let x = s.input(x);
    let w = g.tensor_in(DType::F32, &[6, 3, 3, 3], -0.5, 0.5);
    let w = s.constant(w);
    let y = s.node("Conv", vec![("pads", Attribute::Ints(vec![1; 4]))], &[x, w]).expect("a node");
    let y = s.node("Relu", vec![], &[y]).expect("a node");
    s.graph.outputs = vec![y];
    let Sketch { graph, inputs, .. } = s;
    let given = [RefValue::from_value(&inputs[0].clone().into()).expect("a tensor")];
    let want = run_graph(&graph, &given).expect("a reference");
    let mut shape: Vec<Dim> = [2, 3, 4, 5].map(Dim::Known).to_vec();
    shape[0] = Dim::symbol("batch");
    let (fused, _) = fuse(graph, &[TensorFact::new(DType::F32, shape).into()]);
    assert_eq!(fused.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), ["FusedContraction"]);
    let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
    compare_value(&run(fused, &inputs, 2)[0], &want[0], tolerance).expect("equal");
}
