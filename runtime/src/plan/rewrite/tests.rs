//! What is cut gives the values that it gave whole, whatever the operator; what may not be cut is not.

use super::columns::{columns, columns_of};
use super::division::division;
use super::halves::halves;
use super::{Rewrite, one};
use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::exec::{BuildContext, Interrupt, Program, Team, fact_of};
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, ValueId};
use crate::loops::{BranchesOfShapes, Fused};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::ops::{OPS, OpDef};
use crate::precision::Storing;
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::{Tensor, Value, ValueRef};
use crate::testing::{Gen, parse};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `count` slices of `axis` from `start` on.
fn slices(of: &RefTensor, axis: usize, [start, count]: [usize; 2]) -> RefTensor {
    let inner: usize = of.shape[axis + 1..].iter().product();
    let row = of.shape[axis] * inner;
    let wanted = |at: usize| (start..start + count).contains(&(at % row.max(1) / inner.max(1)));
    fn kept<T: Clone>(data: &[T], wanted: &dyn Fn(usize) -> bool) -> Vec<T> {
        data.iter().enumerate().filter(|(at, _)| wanted(*at)).map(|(_, x)| x.clone()).collect()
    }
    let data = match &of.data {
        RefData::Float(data) => RefData::Float(kept(data, &wanted)),
        RefData::Int(data) => RefData::Int(kept(data, &wanted)),
        RefData::Bool(data) => RefData::Bool(kept(data, &wanted)),
        RefData::Text(data) => RefData::Text(kept(data, &wanted)),
    };
    let mut shape = of.shape.clone();
    shape[axis] = count;
    RefTensor { dtype: of.dtype, shape, data }
}

fn is_close(a: &RefTensor, b: &RefTensor) -> bool {
    let floats = |a: &[f64], b: &[f64]| {
        let near = |(a, b): (&f64, &f64)| {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * (1.0 + a.abs())
        };
        a.len() == b.len() && a.iter().zip(b).all(near)
    };
    a.shape == b.shape
        && match (&a.data, &b.data) {
            (RefData::Float(a), RefData::Float(b)) => floats(a, b),
            (a, b) => a == b,
        }
}

/// By the reference: each part of what the case gives is what the parts of its inputs give. The number of divisions tried.
fn check_case(def: &'static OpDef, seed: u64) -> usize {
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
    let whole: Vec<Option<RefValue>> =
        case.inputs.iter().map(|v| v.as_ref().map(|v| RefValue::from_value(v).expect("a value"))).collect();
    let mut tried = 0;
    for (input, value) in whole.iter().enumerate() {
        let Some(RefValue::Tensor(tensor)) = value else { continue };
        for (axis, &extent) in tensor.shape.iter().enumerate().filter(|(_, extent)| **extent >= 2) {
            let parts = [extent.div_ceil(2), extent / 2];
            let Some(cut) = division(&*op, (&given, case.outputs), (input, axis), &parts) else { continue };
            tried += 1;
            assert_eq!(cut.inputs[input], Some(axis), "{}", def.full_name());
            let run = |given: &[Option<RefValue>]| {
                let given: Vec<Option<&RefValue>> = given.iter().map(Option::as_ref).collect();
                let made = op.reference(&RefInputs(&given));
                made.unwrap_or_else(|e| {
                    panic!("{} seed {seed}, {input} along {axis}: {e}\n{case:?}", def.full_name())
                })
            };
            let want = run(&whole);
            let mut start = 0;
            for part in parts {
                let own = |(value, axis): (&Option<RefValue>, &Option<usize>)| match (value, axis) {
                    (Some(RefValue::Tensor(t)), Some(axis)) => {
                        Some(RefValue::Tensor(slices(t, *axis, [start, part])))
                    }
                    (value, _) => value.clone(),
                };
                let got = run(&whole.iter().zip(&cut.inputs).map(own).collect::<Vec<_>>());
                for (at, (got, want)) in got.iter().zip(&want).enumerate().take(case.outputs) {
                    let (RefValue::Tensor(got), RefValue::Tensor(want)) = (got, want) else {
                        panic!("tensors")
                    };
                    let want = slices(want, cut.outputs[at], [start, part]);
                    assert!(
                        is_close(got, &want),
                        "{} seed {seed}, input {input} along {axis}: output {at} is\n{got:?} instead of\n{want:?}\n{case:?}",
                        def.full_name()
                    );
                }
                start += part;
            }
        }
    }
    tried
}

#[test]
fn parts_of_every_operator_are_those_of_the_whole() {
    let seeds = std::env::var("RECURVE_SEEDS").map_or(12, |s| s.parse().expect("a number of seeds"));
    let only = std::env::var("RECURVE_OPS").ok();
    let mut cut: BTreeSet<&str> = BTreeSet::new();
    for def in OPS {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|n| n == def.full_name())) {
            continue;
        }
        if (0..seeds).map(|seed| check_case(def, seed)).sum::<usize>() > 0 {
            cut.insert(def.name);
        }
    }
    for name in
        ["Add", "Relu", "MatMul", "Gemm", "Conv", "LSTM", "GRU", "RNN", "Softmax", "Transpose", "Concat"]
    {
        assert!(only.is_some() || cut.contains(name), "{name} is never cut: {cut:?}");
    }
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct Sketch {
    pub(super) graph: Graph,
    nodes: Vec<Node>,
}

impl Sketch {
    fn input(&mut self, shape: &[Dim]) -> ValueId {
        self.input_of(DType::F32, shape)
    }

    pub(super) fn input_of(&mut self, dtype: DType, shape: &[Dim]) -> ValueId {
        let id = self.graph.add_value(format!("x{}", self.graph.inputs.len()));
        self.graph.values[id.index()].declared = Some(TensorFact::new(dtype, shape.to_vec()).into());
        self.graph.inputs.push(id);
        id
    }

    fn constant(&mut self, g: &mut Gen, shape: &[usize]) -> ValueId {
        let tensor = g.tensor_in(DType::F32, shape, -0.2, 0.2);
        self.graph.add_constant(format!("c{}", self.graph.values.len()), tensor)
    }

    pub(super) fn op(&mut self, op: &str, attributes: Vec<(&str, Attribute)>, inputs: &[ValueId]) -> ValueId {
        one(&mut self.graph, &mut self.nodes, op, 17, attributes, inputs).expect("an operator")
    }

    pub(super) fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.nodes = self.nodes;
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

pub(super) fn known(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|&n| Dim::Known(n)).collect()
}

pub(super) fn declared(graph: &Graph) -> Vec<Fact> {
    graph.inputs.iter().map(|&id| graph.value(id).declared.clone().expect("declared")).collect()
}

pub(super) fn outputs(graph: Graph, inputs: &[Tensor], storing: &Storing) -> Vec<Tensor> {
    let budget = Budget::unlimited();
    let build = BuildContext { budget: &budget, threads: 2, release: &|_| (), storing };
    let count = graph.outputs.len();
    let program = Program::build(graph, build).expect("a program");
    let (team, interrupt) = (Team::new(2, false), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut made: Vec<Option<Value>> = vec![None; count];
    let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
    let given: Vec<ValueRef<'_>> = inputs.iter().map(|t| ValueRef::Tensor(t.view())).collect();
    program.run(&given, &mut slots, context).expect("a run");
    drop(slots);
    made.into_iter().map(|value| value.expect("made").into_tensor().expect("a tensor")).collect()
}

fn run(graph: Graph, inputs: &[Tensor]) -> Vec<Vec<f32>> {
    let made = outputs(graph, inputs, &Storing::default());
    made.iter().map(|tensor| tensor.to_vec::<f32>().expect("floats")).collect()
}

/// Whether both graphs give the same up to the rounding of sums in another order.
fn agree(a: Graph, b: Graph, g: &mut Gen, shapes: &[Vec<usize>]) {
    let inputs: Vec<Tensor> = shapes.iter().map(|s| g.tensor_in(DType::F32, s, -1.0, 1.0)).collect();
    let (want, got) = (run(a, &inputs), run(b, &inputs));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{got} instead of {want}");
        }
    }
}

fn count(graph: &Graph, op: &str) -> usize {
    let of = |node: &Node| match node.op.as_any().downcast_ref::<Fused>() {
        Some(fused) => fused.members().nodes.iter().filter(|n| n.def.name == op).count(),
        None => usize::from(node.def.name == op),
    };
    graph.nodes.iter().map(of).sum()
}

/// Dense layers with what fuses behind them, a row-wise fold, a residual, and an operator that needs the whole batch.
fn dense(g: &mut Gen, [batch, inner, outer]: [usize; 3], cumulative: bool) -> Graph {
    let mut s = Sketch::default();
    let x = s.input(&known(&[batch, inner]));
    let other = s.input(&known(&[batch, outer]));
    let (w, b, v) = (s.constant(g, &[inner, outer]), s.constant(g, &[outer]), s.constant(g, &[outer, outer]));
    let product = s.op("MatMul", vec![], &[x, w]);
    let product = s.op("Add", vec![], &[product, b]);
    let product = s.op("Relu", vec![], &[product]);
    let joined = s.op("Add", vec![], &[product, other]);
    let soft = s.op("Softmax", vec![("axis", Attribute::Int(1))], &[joined]);
    let mut y = s.op("Gemm", vec![("alpha", Attribute::Float(0.5))], &[soft, v, b]);
    if cumulative {
        let axis = s.graph.add_constant("axis", Tensor::new(&[], vec![0i64]).expect("a scalar"));
        y = s.op("CumSum", vec![], &[y, axis]);
    }
    s.finish(&[y, joined])
}

fn fused(graph: &Graph) -> Graph {
    crate::loops::fuse(graph.clone(), &declared(graph), &Budget::unlimited(), BranchesOfShapes::AsTheyAre).0
}

#[test]
fn a_batch_in_halves_gives_the_same_and_one_row_has_no_halves() {
    let g = &mut Gen::new(3);
    for round in 0..24 {
        let [batch, inner, outer] = [g.size(2, 9), g.size(1, 40), g.size(2, 40)];
        let cumulative = round % 3 == 0;
        for fuse in [false, true] {
            let own = dense(g, [batch, inner, outer], cumulative);
            let own = if fuse { fused(&own) } else { own };
            let cut = halves(&own, &declared(&own)).expect("a batch");
            assert_eq!(count(&cut, "Gemm"), 2, "{cut:?}");
            assert_eq!(count(&cut, "CumSum"), usize::from(cumulative), "it needs all rows");
            agree(own, cut, g, &[vec![batch, inner], vec![batch, outer]]);
        }
    }
    let own = dense(g, [1, 8, 8], false);
    assert!(halves(&own, &declared(&own)).is_none(), "one row");
}

/// LSTM layers over `[time, batch, features]`, from an initial state that is an input.
fn recurrent(g: &mut Gen, [time, batch, hidden]: [usize; 3]) -> Graph {
    let mut s = Sketch::default();
    let x = s.input(&known(&[time, batch, hidden]));
    let h = s.input(&known(&[1, batch, hidden]));
    let size = || vec![("hidden_size", Attribute::Int(hidden as i64))];
    let axes = s.graph.add_constant("axes", Tensor::new(&[1], vec![1i64]).expect("axes"));
    let mut top = x;
    for from in [None, Some(h)] {
        let weights = [[1, 3 * hidden, hidden], [1, 3 * hidden, hidden]].map(|shape| s.constant(g, &shape));
        let mut inputs = vec![Some(top), Some(weights[0]), Some(weights[1])];
        if from.is_some() {
            inputs.extend([None, None, from]);
        }
        let name: Vec<ValueId> = vec![top, weights[0], weights[1]];
        let made = s.op("GRU", size(), &name);
        s.nodes.last_mut().expect("a node").inputs = inputs;
        top = s.op("Squeeze", vec![], &[made, axes]);
    }
    s.finish(&[top])
}

#[test]
fn rows_of_recurrences_go_their_own_ways() {
    let g = &mut Gen::new(5);
    for _ in 0..12 {
        let [time, batch, hidden] = [g.size(1, 7), g.size(2, 7), g.size(1, 20)];
        let own = recurrent(g, [time, batch, hidden]);
        let cut = halves(&own, &declared(&own)).expect("a batch");
        assert_eq!(count(&cut, "GRU"), 4, "{cut:?}");
        agree(own, cut, g, &[vec![time, batch, hidden], vec![1, batch, hidden]]);
    }
    // The steps of one sequence are no batch.
    let own = recurrent(g, [6, 1, 8]);
    assert!(halves(&own, &declared(&own)).is_none());
}

#[test]
fn pieces_of_recurrences_read_what_the_whole_packed() {
    let own = recurrent(&mut Gen::new(13), [64, 1, 16]);
    let budget = Budget::unlimited();
    let pieces = Rewrite::Pieces { apart: false, count: 4 }.apply(&own, None, &declared(&own), &budget);
    let build = BuildContext { budget: &budget, threads: 2, release: &|_| (), storing: &Storing::default() };
    let whole = Arc::new(Program::build(own, build).expect("a program"));
    let pieces = pieces.expect("two recurrences");
    let pieces = Program::build_like(pieces, std::slice::from_ref(&whole), build).expect("a program");
    let packed = |program: &Program| -> Vec<usize> {
        let nodes = program.graph().nodes.iter().enumerate().filter(|(_, node)| node.def.name == "GRU");
        let data = nodes.map(|(at, _)| program.packed_of(at).expect("constant weights").data.clone());
        data.map(|data| Arc::as_ptr(&data).cast::<()>() as usize).collect()
    };
    let (of_whole, of_pieces) = (packed(&whole), packed(&pieces));
    assert_eq!((of_whole.len(), of_pieces.len()), (2, 8));
    assert!(
        of_pieces.iter().all(|data| of_whole.contains(data)),
        "the first piece has no state, as one whole"
    );
}

#[test]
fn large_products_by_columns_give_the_same_and_small_ones_stay() {
    let g = &mut Gen::new(9);
    let budget = Budget::unlimited();
    for parts in [2, 3] {
        for batch in [1, 5, 40] {
            for fuse in [false, true] {
                let own = dense(g, [batch, 300, 250], false);
                let own = if fuse { fused(&own) } else { own };
                let cut = columns(&own, parts, &budget).expect("large products");
                // A softmax behind a product, where it is fused to it, needs all its columns.
                assert!(count(&cut, "Gemm") == parts || count(&cut, "MatMul") == parts, "{cut:?}");
                agree(own, cut, g, &[vec![batch, 300], vec![batch, 250]]);
            }
        }
    }
    let own = dense(g, [4, 64, 64], false);
    assert!(columns(&own, 2, &budget).is_none(), "nothing is large");
    let own = dense(g, [4, 300, 250], false);
    assert!(columns(&own, 2, &Budget::new(1 << 12)).is_none(), "no memory for copies of weights");
}

#[test]
fn products_with_transposed_weights_and_convolutions_are_cut_without_copies() {
    let g = &mut Gen::new(11);
    let mut s = Sketch::default();
    let x = s.input(&known(&[3, 256]));
    let (w, b) = (s.constant(g, &[320, 256]), s.constant(g, &[1, 320]));
    let y = s.op("Gemm", vec![("transB", Attribute::Int(1)), ("beta", Attribute::Float(0.5))], &[x, w, b]);
    let dense = s.finish(&[y]);
    let mut s = Sketch::default();
    let x = s.input(&known(&[2, 64, 6, 5]));
    let (w, b) = (s.constant(g, &[128, 64, 3, 3]), s.constant(g, &[128]));
    let y = s.op("Conv", vec![("pads", Attribute::Ints(vec![1; 4]))], &[x, w, b]);
    let y = s.op("Relu", vec![], &[y]);
    let convolution = s.finish(&[y]);
    // A bias of [1, n] alone is copied, and it is small.
    for (own, shape) in [(dense, vec![3, 256]), (fused(&convolution), vec![2, 64, 6, 5])] {
        let cut = columns(&own, 2, &Budget::new(1 << 13)).expect("a large contraction");
        assert!(cut.nodes.len() > own.nodes.len());
        agree(own, cut, g, &[shape]);
    }
}

#[test]
fn columns_are_cut_whatever_the_symbols_stand_for() {
    let g = &mut Gen::new(13);
    let budget = Budget::unlimited();
    let mut s = Sketch::default();
    let x = s.input(&[Dim::symbol("batch"), Dim::Known(256)]);
    let w = s.constant(g, &[256, 256]);
    let y = s.op("MatMul", vec![], &[x, w]);
    let own = s.finish(&[y]);
    let cut = columns(&own, 2, &budget).expect("a large product");
    for batch in [1, 2, 7] {
        agree(own.clone(), cut.clone(), g, &[vec![batch, 256]]);
    }
    // What is added may be one column or as many as there are: that is not known.
    let mut s = Sketch::default();
    let x = s.input(&known(&[4, 256]));
    let other = s.input(&[Dim::Known(4), Dim::symbol("n")]);
    let w = s.constant(g, &[256, 256]);
    let y = s.op("Gemm", vec![], &[x, w, other]);
    assert!(columns(&s.finish(&[y]), 2, &budget).is_none());
}

#[test]
fn columns_of_a_tensor_are_those_elements() {
    let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let tensor = Tensor::new(&[2, 4, 3], data).expect("a tensor");
    let budget = Budget::unlimited();
    let part = |axis, range| {
        columns_of(&tensor, axis, range, &budget).expect("columns").to_vec::<f32>().expect("floats")
    };
    assert_eq!(part(1, [1, 2]), [3., 4., 5., 6., 7., 8., 15., 16., 17., 18., 19., 20.]);
    assert_eq!(part(2, [2, 1]), [2., 5., 8., 11., 14., 17., 20., 23.]);
    assert_eq!(part(0, [1, 1]), (12..24).map(|i| i as f32).collect::<Vec<_>>());
}

#[test]
fn rewrites_have_names_of_their_own() {
    let names: Vec<String> = Rewrite::all(2).map(|r| r.to_string()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
    for name in ["pieces 4", "directions, pieces 2", "directions", "batch halves", "columns 2"] {
        assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
    }
    let exact: Vec<String> = Rewrite::all(2).filter(|r| r.keeps_bits()).map(|r| r.to_string()).collect();
    assert!(exact.iter().all(|name| !name.contains("halves") && !name.contains("columns")), "{exact:?}");
    assert!(
        Rewrite::all(20).any(|r| r == Rewrite::Columns(8))
            && Rewrite::all(5).any(|r| r == Rewrite::Columns(5))
    );
}
