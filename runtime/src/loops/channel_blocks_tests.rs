//! Networks whose channels are put into blocks compute what they did.

use super::channel_blocks::{block_channels, block_islands};
use super::interpret::{Operand, interpret};
use super::program::read;
use super::sketch::Sketch;
use super::tests::{as_value, run};
use super::{BranchesOfShapes, fuse};
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, TensorFact, ValueId, infer};
use crate::memory::Budget;
use crate::ops::Accuracy;
use crate::ops::attributes::Attribute;
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::{Tensor, ValueRef};
use crate::testing::{Gen, Tolerance, compare_value};

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// A convolution with a bias; `groups` is 1 or the channels.
fn conv(
    s: &mut Sketch,
    g: &mut Gen,
    (x, shape): (ValueId, &[usize]),
    (filters, groups): (usize, usize),
    kernel: usize,
) -> Option<ValueId> {
    let w = g.tensor_in(DType::F32, &[filters, shape[1] / groups, kernel, kernel], -0.3, 0.3);
    let bias = g.tensor_in(DType::F32, &[filters], -0.5, 0.5);
    let (w, bias) = (s.constant(w), s.constant(bias));
    let (stride, pad) = (g.size(1, 2), if g.chance(0.7) { kernel / 2 } else { 0 });
    let mut attributes = vec![("strides", ints(&[stride, stride])), ("pads", ints(&[pad; 4]))];
    attributes.push(("group", Attribute::Int(groups as i64)));
    s.node("Conv", attributes, &[x, w, bias])
}

/// A node that works on channels, or ends with none where it does not fit.
fn grow(s: &mut Sketch, g: &mut Gen) -> Option<ValueId> {
    let made = |v: &&(ValueId, Vec<usize>)| s.graph.constant(v.0).is_none() && v.1.len() == 4;
    let (x, shape) = s.values.iter().rev().find(made)?.clone();
    let filters = 16 * g.size(1, 5);
    let constant = |s: &mut Sketch, g: &mut Gen, shape: &[usize]| {
        let tensor = g.tensor_in(DType::F32, shape, 0.5, 1.5);
        s.constant(tensor)
    };
    match g.size(0, 11) {
        0..=1 => conv(s, g, (x, &shape), (filters, 1), 3),
        2 => conv(s, g, (x, &shape), (filters, 1), 1),
        3 => conv(s, g, (x, &shape), (shape[1], shape[1]), 3),
        4 => s.node("Relu", vec![], &[x]),
        5 => {
            let factor = constant(s, g, &[shape[1], 1, 1]);
            s.node("Mul", vec![], &[x, factor])
        }
        6 => {
            let all = constant(s, g, &[]);
            s.node("Add", vec![], &[all, x])
        }
        7 => {
            // A line for all lines has no form in blocks.
            let line = constant(s, g, &[shape[3]]);
            s.node("Add", vec![], &[x, line])
        }
        8 => {
            let pool = *g.pick(&["MaxPool", "AveragePool"]);
            let attributes = vec![("kernel_shape", ints(&[3, 2])), ("pads", ints(&[1, 0, 1, 1]))];
            s.node(pool, attributes, &[x])
        }
        9 => {
            // An earlier value of the same shape, or of the same extents beside it.
            let alike = |v: &&(ValueId, Vec<usize>)| made(v) && v.1[2..] == shape[2..] && v.0 != x;
            let (other, of) = s.values.iter().rev().find(alike)?.clone();
            if of[1] == shape[1] {
                return s.node("Add", vec![], &[x, other]);
            }
            s.node("Concat", vec![("axis", Attribute::Int(1))], &[other, x])
        }
        10 => {
            // Each channel scaled by a function of its mean.
            let mean = s.node("GlobalAveragePool", vec![], &[x])?;
            let gate = s.node("Sigmoid", vec![], &[mean])?;
            s.node("Mul", vec![], &[x, gate])
        }
        _ => s.node("Transpose", vec![("perm", ints(&[0, 1, 3, 2]))], &[x]),
    }
}

/// A random network, with some of its values as outputs.
fn network(seed: u64) -> Sketch {
    let mut g = Gen::new(seed);
    let mut s = Sketch::default();
    let shape = [g.size(1, 2), *g.pick(&[3, 16, 32]), g.size(3, 10), g.size(3, 10)];
    let x = g.tensor_in(DType::F32, &shape, -1.0, 1.0);
    s.input(x);
    for _ in 0..g.size(3, 9) {
        grow(&mut s, &mut g);
    }
    let made: Vec<ValueId> =
        s.graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
    s.graph.outputs = made.iter().copied().filter(|_| g.chance(0.2)).collect();
    s.graph.outputs.extend(made.last().filter(|id| !s.graph.outputs.contains(id)).copied());
    s
}

fn facts_of(inputs: &[Tensor], batch: bool) -> Vec<Fact> {
    let fact = |tensor: &Tensor| {
        let mut shape: Vec<Dim> = tensor.shape().iter().map(|&d| Dim::Known(d)).collect();
        if batch {
            shape[0] = Dim::symbol("batch");
        }
        Fact::from(TensorFact::new(tensor.dtype(), shape))
    };
    inputs.iter().map(fact).collect()
}

fn references(tensors: &[Tensor]) -> Vec<RefValue> {
    tensors.iter().map(|t| RefValue::from_value(&t.clone().into()).expect("a tensor")).collect()
}

/// Every convolution in blocks of `graph`: its nest and its reference give the same.
fn check_nests(graph: &Graph, facts: &[Option<Fact>], g: &mut Gen) {
    for node in graph.nodes.iter().filter(|node| node.def.name == "BlockedConv") {
        let drawn = |id: &Option<ValueId>| {
            let id = id.expect("an operand");
            let shape = facts[id.index()].as_ref()?.tensor()?.known_shape()?;
            Some(graph.constant(id).cloned().unwrap_or_else(|| g.tensor_in(DType::F32, &shape, -1.0, 1.0)))
        };
        let Some(inputs) = node.inputs.iter().map(drawn).collect::<Option<Vec<Tensor>>>() else { continue };
        let given: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let given: Vec<Option<&Fact>> = given.iter().map(Some).collect();
        let made = node.op.infer(Facts(&given)).expect("facts");
        let nest = node.op.nest(Facts(&given), &made).expect("a nest");
        let operand = |t: &Tensor| Operand {
            dtype: DType::F32,
            shape: t.shape().to_vec(),
            values: (0..t.len()).map(|at| read(DType::F32, t.bytes(), at)).collect(),
        };
        let operands: Vec<Operand> = inputs.iter().map(operand).collect();
        let shape = made[0].tensor().and_then(TensorFact::known_shape).expect("a shape");
        let got = interpret(&nest, &operands, vec![Operand::zeros(DType::F32, &shape)]);
        let references = references(&inputs);
        let given: Vec<Option<&RefValue>> = references.iter().map(Some).collect();
        let want = node.op.reference(&RefInputs(&given)).expect("a reference");
        let got = as_value(&got[0], DType::F32);
        compare_value(&got, &want[0], Tolerance::of(Accuracy::Reduction, DType::F32)).expect("equal");
    }
}

#[test]
fn networks_in_blocks_compute_what_they_did() {
    let mut blocked = 0;
    for seed in 0..40 {
        let Sketch { graph, inputs, .. } = network(seed);
        let want = run_graph(&graph, &references(&inputs)).expect("a reference");
        let declared = facts_of(&inputs, seed % 2 == 0);
        let mut whole = graph.clone();
        let facts = infer(&whole, &declared).expect("facts");
        if !block_islands(&mut whole, &facts, &|_| true) {
            continue;
        }
        blocked += usize::from(whole.nodes.iter().any(|node| node.def.name == "BlockedConv"));
        // The reference knows the operators in blocks, too.
        let again = run_graph(&whole, &references(&inputs)).expect("a reference");
        for (a, b) in again.iter().zip(&want) {
            let (RefValue::Tensor(a), RefValue::Tensor(b)) = (a, b) else { panic!("tensors") };
            assert_eq!(a.shape, b.shape, "seed {seed}");
            let pairs = || a.as_floats().expect("floats").iter().zip(b.as_floats().expect("floats"));
            assert!(pairs().all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + b.abs())), "seed {seed}");
        }
        let known = infer(&whole, &facts_of(&inputs, false)).expect("facts");
        check_nests(&whole, &known, &mut Gen::new(seed));
        let (fused, _) = fuse(whole, &declared, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
        for threads in [1, 2] {
            for (got, want) in run(fused.clone(), &inputs, threads).iter().zip(&want) {
                let (Some(got), RefValue::Tensor(want)) = (got.as_tensor(), want) else { panic!("tensors") };
                assert_eq!(got.shape(), want.shape, "seed {seed}");
                let (got, want) = (got.as_slice::<f32>().expect("f32"), want.as_floats().expect("floats"));
                // Errors of a layer reach all that follow it.
                let most = want.iter().fold(1.0f64, |most, v| most.max(v.abs()));
                let near = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs() <= 1e-5 * most;
                assert!(got.iter().zip(want).all(near), "seed {seed}");
            }
        }
    }
    assert!(blocked > 20, "{blocked} networks had convolutions in blocks");
}

/// What [`block_channels`] makes of `graph` by names.
fn names(s: &Sketch, outputs: &[ValueId]) -> Option<Vec<&'static str>> {
    let mut graph = s.graph.clone();
    graph.outputs = outputs.to_vec();
    let facts = infer(&graph, &facts_of(&s.inputs, true)).expect("facts");
    let made = block_channels(&mut graph, &facts);
    made.then(|| graph.nodes.iter().map(|node| node.def.name).collect())
}

fn image(g: &mut Gen, shape: &[usize]) -> Sketch {
    let mut s = Sketch::default();
    let x = g.tensor_in(DType::F32, shape, -1.0, 1.0);
    s.input(x);
    s
}

fn three_by_three(s: &mut Sketch, g: &mut Gen, filters: usize) -> ValueId {
    let (x, shape) = s.values.last().cloned().expect("a value");
    let w = g.tensor_in(DType::F32, &[filters, shape[1], 3, 3], -0.3, 0.3);
    let w = s.constant(w);
    s.node("Conv", vec![("pads", ints(&[1; 4]))], &[x, w]).expect("fits")
}

#[test]
fn a_network_is_changed_at_its_edges_alone() {
    let mut g = Gen::new(1);
    let mut s = image(&mut g, &[1, 3, 16, 16]);
    three_by_three(&mut s, &mut g, 32);
    let first = s.values.last().expect("a value").0;
    let x = s.node("Relu", vec![], &[first]).expect("fits");
    three_by_three(&mut s, &mut g, 32);
    let sum = s.node("Add", vec![], &[s.values.last().expect("a value").0, x]).expect("fits");
    let pooled = s.node("MaxPool", vec![("kernel_shape", ints(&[2, 2]))], &[sum]).expect("fits");
    let mean = s.node("GlobalAveragePool", vec![], &[pooled]).expect("fits");
    let names = names(&s, &[mean]).expect("blocks");
    assert_eq!(names, ["BlockedConv", "Relu", "BlockedConv", "Add", "MaxPool", "ReduceMean", "Reshape"]);
}

#[test]
fn what_does_not_pay_keeps_its_layout() {
    let mut g = Gen::new(2);
    // One convolution is changed at both ends.
    let mut s = image(&mut g, &[1, 32, 16, 16]);
    let y = three_by_three(&mut s, &mut g, 32);
    assert_eq!(names(&s, &[y]), None);
    // Two of few channels save less than their edges cost.
    let mut s = image(&mut g, &[1, 16, 16, 16]);
    three_by_three(&mut s, &mut g, 16);
    let y = three_by_three(&mut s, &mut g, 16);
    assert_eq!(names(&s, &[y]), None);
    // Channels that fill no blocks.
    let mut s = image(&mut g, &[1, 24, 16, 16]);
    three_by_three(&mut s, &mut g, 40);
    let y = three_by_three(&mut s, &mut g, 40);
    assert_eq!(names(&s, &[y]), None);
    // Extents that are not known.
    let mut s = image(&mut g, &[1, 64, 16, 16]);
    three_by_three(&mut s, &mut g, 64);
    three_by_three(&mut s, &mut g, 64);
    let y = three_by_three(&mut s, &mut g, 64);
    assert!(names(&s, &[y]).is_some());
    let mut graph = s.graph.clone();
    graph.outputs = vec![y];
    let shape = [Dim::Known(1), Dim::Known(64), Dim::symbol("height"), Dim::Known(16)];
    let facts = infer(&graph, &[TensorFact::new(DType::F32, shape.to_vec()).into()]).expect("facts");
    assert!(!block_channels(&mut graph, &facts));
}
