//! Random graphs of operators that fuse, run with and without fusion: the reference of the unfused graph judges.

use super::interpret::{Operand, interpret};
use super::program::{Kind, read, write};
use super::quantised::to_integers;
use super::sketch::{Sketch, sketch};
use super::{BranchesOfShapes, Fused, fuse};
use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::exec::{BuildContext, Interrupt, Program, Team, fact_of};
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, infer};
use crate::memory::{Budget, Buffer};
use crate::ops::attributes::Attribute;
use crate::ops::{Accuracy, OPS, OpDef};
use crate::precision::Storing;
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::{Tensor, Value, ValueRef};
use crate::testing::{Gen, Tolerance, compare_value, parse};

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
        only.is_some()
            || ["Add", "Transpose", "Slice", "MatMul", "Conv", "LSTM", "GRU", "RNN"]
                .iter()
                .all(|n| lowered.contains(n))
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
    // Nests make one output, but for recurrences, which end with their states.
    made.truncate(case.outputs);
    let shapes: Option<Vec<_>> = made.iter().map(|f| f.tensor()?.known_shape()).collect();
    let Some(shapes) = shapes.filter(|_| case.outputs == 1 || op.recurrence().is_some()) else {
        return false;
    };
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
    let dtype = |at: usize| made[at].tensor().expect("a tensor").dtype;
    let outputs = shapes.iter().enumerate().map(|(at, shape)| Operand::zeros(dtype(at), shape)).collect();
    let got = interpret(&nest, &inputs, outputs);
    let references: Vec<Option<RefValue>> =
        case.inputs.iter().map(|v| v.as_ref().map(|v| RefValue::from_value(v).expect("a value"))).collect();
    let given: Vec<Option<&RefValue>> = references.iter().map(Option::as_ref).collect();
    let want = op.reference(&RefInputs(&given)).expect("a reference");
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let tolerance = Tolerance::of(def.accuracy, dtype(at));
        if let Err(mismatch) = compare_value(&as_value(got, dtype(at)), want, tolerance) {
            panic!("{} seed {seed}, output {at}: {mismatch:?}\n{case:?}\n{nest:#?}", def.full_name());
        }
    }
    true
}

/// What the interpreter made, stored as `dtype`.
pub(super) fn as_value(made: &Operand, dtype: DType) -> Value {
    let mut buffer =
        Buffer::zeroed(made.values.len() * dtype.bits() / 8, &Budget::unlimited()).expect("memory");
    for (i, value) in made.values.iter().enumerate() {
        write(dtype, buffer.bytes_mut(), i, *value);
    }
    Tensor::from_buffer(dtype, &made.shape, buffer).expect("a tensor").into()
}

pub(super) fn run(graph: Graph, inputs: &[Tensor], threads: usize) -> Vec<Value> {
    let budget = Budget::unlimited();
    let build = BuildContext { budget: &budget, threads, release: &|_| (), storing: &Storing::default() };
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

/// The difference of each element; infinite where they cannot be compared.
fn errors(got: &Value, want: &RefValue) -> std::vec::IntoIter<f64> {
    let (Some(got), RefValue::Tensor(want)) = (got.as_tensor(), want) else {
        return vec![f64::INFINITY].into_iter();
    };
    if let Ok(want) = want.as_floats() {
        let error = |(i, want): (usize, &f64)| (got.f64_at(i).unwrap_or(f64::NAN) - want).abs();
        return want.iter().enumerate().map(error).collect::<Vec<_>>().into_iter();
    }
    // Quantised: a rounding that falls the other way is one unit.
    let (Ok(want), Ok(got)) = (want.as_ints(), got.view().to_i64s()) else {
        return vec![f64::INFINITY].into_iter();
    };
    let error = |(want, got): (&i128, &i64)| (want - i128::from(*got)).abs() as f64;
    want.iter().zip(&got).map(error).collect::<Vec<_>>().into_iter()
}

/// The largest difference of an element.
fn largest_error(got: &Value, want: &RefValue) -> f64 {
    errors(got, want).fold(0.0, f64::max)
}

/// What a fused node shows of the rewrites around convolutions and pools.
fn forms(node: &Node) -> Vec<&'static str> {
    let Some(fused) = node.op.as_any().downcast_ref::<Fused>() else { return Vec::new() };
    let Some(anchor) = fused.anchor.map(|at| &fused.members().nodes[at]) else { return Vec::new() };
    let pools = anchor.def.name.ends_with("Pool");
    let behind = fused.members().nodes.last().is_some_and(|last| last.name != anchor.name);
    let mut all = Vec::new();
    if !fused.operand.is_empty() && (pools || anchor.def.name == "Conv") {
        all.push(if pools { "pool of made planes" } else { "convolution of made planes" });
    }
    if pools && behind {
        all.push("pool with an epilogue");
    }
    if node.outputs.len() > 1 {
        all.push("sums stored beside an epilogue");
    }
    all
}

/// The largest element.
fn largest(want: &RefValue) -> f64 {
    let RefValue::Tensor(want) = want else { return 0.0 };
    want.as_floats().map_or(0.0, |all| all.iter().fold(0.0, |most, v| v.abs().max(most)))
}

/// How near an output is to its reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// Within the class of sums.
    Same,
    /// An integer is the next one, or what was made of it is.
    Flipped,
    /// What is left of large terms is as far off as the operators by themselves leave it.
    Cancelled,
}

/// Judges output `output` of a graph that was run with these inputs; panics where it is wrong.
pub(super) fn judged(
    got: &Value,
    want: &RefValue,
    (graph, inputs, output): (&Graph, &[Tensor], usize),
    what: &dyn Fn() -> String,
) -> Judged {
    let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
    let Err(mismatch) = compare_value(got, want, tolerance) else { return Judged::Same };
    // Sums of sums may cancel so far that the operators by themselves leave the class, too: then fusion may not be further
    // off than they are, but for the order of its sums.
    let apart = &run(graph.clone(), inputs, 1)[output];
    let same = compare_value(apart, want, tolerance).is_ok();
    let (error, least) = (largest_error(got, want), largest_error(apart, want));
    // A product that ends half way between two units may be rounded to either: what is made of that element is off by a unit,
    // and what reads it, such as a mean, by a share of one.
    let quantised = graph.nodes.iter().any(|n| n.def.name == "QuantizeLinear");
    let of_units = matches!(want, RefValue::Tensor(t) if t.as_ints().is_ok());
    let few = errors(got, want).filter(|error| *error > 1e-3).count() <= 2;
    if quantised && error <= if of_units { 1.0 } else { 0.25 } && few {
        return Judged::Flipped;
    }
    // Where by luck they do not, what cancels is a small part of what it was made of.
    let little = error <= 1e-5 * largest(want);
    assert!(!same && error <= 4.0 * least || little, "{}: {mismatch:?}", what());
    Judged::Cancelled
}

/// `RECURVE_SEEDS` sets how many graphs are drawn.
#[test]
fn fused_graphs_compute_what_their_operators_do() {
    let seeds: u64 = std::env::var("RECURVE_SEEDS").map_or(5000, |s| s.parse().expect("a number of seeds"));
    let (mut nodes, mut left, mut cancelled, mut flipped) = (0, 0, 0, 0);
    let mut made = std::collections::BTreeMap::<&str, usize>::new();
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
        let mut whole = graph.clone();
        let known = infer(&whole, &facts).expect("facts");
        to_integers(&mut whole, &known);
        *made.entry("integers").or_default() +=
            whole.nodes.iter().filter(|n| n.def.name.starts_with("QLinear")).count();
        let (fused, _) = fuse(whole, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
        left += fused.nodes.len();
        for node in &fused.nodes {
            if node.op.as_any().is::<Fused>() {
                *made.entry(node.def.name).or_default() += 1;
                *made.entry("several outputs").or_default() += usize::from(node.outputs.len() > 1);
                let members = &node.op.as_any().downcast_ref::<Fused>().expect("fused").members().nodes;
                *made.entry("groups of channels").or_default() +=
                    usize::from(members.iter().any(|m| m.def.name == "GroupNormalization"));
                for kind in forms(node) {
                    *made.entry(kind).or_default() += 1;
                }
            }
        }
        assert!(
            fused.nodes.iter().all(|n| {
                n.op.as_any().downcast_ref::<Fused>().is_none_or(|f| f.members().nodes.len() > 1)
            })
        );
        for (output, (got, want)) in
            run(fused, &inputs, 1 + (seed % 2) as usize).iter().zip(&want).enumerate()
        {
            let what = || format!("seed {seed}, output {output}, in {text}");
            match judged(got, want, (&graph, &inputs, output), &what) {
                Judged::Same => {}
                Judged::Flipped => flipped += 1,
                Judged::Cancelled => cancelled += 1,
            }
        }
    }
    assert!(flipped * 1000 <= seeds.max(1000), "a unit of {flipped} outputs of {seeds} graphs is another");
    assert!(cancelled * 200 <= seeds, "{cancelled} outputs of {seeds} graphs cancel");
    println!("{nodes} nodes of {seeds} graphs became {left}: {made:?}; {cancelled} outputs cancel");
    let all = [
        "FusedMap",
        "FusedRows",
        "FusedContraction",
        "several outputs",
        "integers",
        "convolution of made planes",
        "pool of made planes",
        "pool with an epilogue",
        "sums stored beside an epilogue",
        "groups of channels",
    ];
    assert!(
        seeds < 100 || left * 10 < nodes * 9 && all.iter().all(|kind| made.get(kind).is_some_and(|&n| n > 0)),
        "{nodes} nodes became {left}: {made:?}"
    );
}

/// A free batch keeps nothing apart: a convolution and what follows it are one node for every batch.
#[test]
fn a_symbolic_batch_is_fused() {
    let mut g = Gen::new(1);
    let mut s = Sketch::default();
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
    let declared = [TensorFact::new(DType::F32, shape).into()];
    let (fused, _) = fuse(graph, &declared, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
    assert_eq!(fused.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), ["FusedContraction"]);
    let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
    compare_value(&run(fused, &inputs, 2)[0], &want[0], tolerance).expect("equal");
}
