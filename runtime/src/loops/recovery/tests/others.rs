//! Cells that no operator computes become one Scan, with the products of its inputs made before it.

use super::near_misses::{BATCH, SIZE, Steps, steps};
use super::net::{Net, census};
use crate::graph::ValueId;
use crate::ops::Scan;
use crate::ops::attributes::Attribute;
use std::collections::BTreeMap;

const TIME: usize = 7;

/// The operators of the rewritten graph and those of its only Scan's body. The results are right.
fn scanned(s: &Steps, what: &str) -> (BTreeMap<&'static str, usize>, BTreeMap<&'static str, usize>) {
    let counts = s.check(what);
    assert_eq!(counts.get("Scan"), Some(&1), "{what}: {counts:?}");
    for op in ["LSTM", "GRU", "RNN", "Tanh", "Mul", "Sub"] {
        assert_eq!(counts.get(op), None, "{what}: {counts:?}");
    }
    let graph = s.net.simplified(true);
    let mut scans = graph.nodes.iter().filter_map(|n| n.op.as_any().downcast_ref::<Scan>());
    (counts, census(&scans.next().expect("a Scan").body.graph))
}

fn wide(s: &mut Steps, rows: usize, columns: usize) -> ValueId {
    let values = s.numbers.many(rows * columns, 0.7);
    s.net.floats(&[rows, columns], &values)
}

fn vector(s: &mut Steps, size: usize) -> ValueId {
    let values = s.numbers.many(size, 0.5);
    s.net.floats(&[size], &values)
}

fn split(net: &mut Net, x: ValueId, parts: usize) -> Vec<ValueId> {
    let attributes = vec![("axis", Attribute::Int(-1)), ("num_outputs", Attribute::Int(parts as i64))];
    net.with("Split", attributes, &[x], parts)
}

/// `f ⊙ c + i ⊙ g` and the output gate of the sums of an LSTM.
fn gated(net: &mut Net, sums: ValueId, c: ValueId) -> (ValueId, ValueId) {
    let gates = split(net, sums, 4);
    let [i, f, o] = [0, 1, 3].map(|g| net.op("Sigmoid", &[gates[g]]));
    let g = net.op("Tanh", &[gates[2]]);
    let (a, b) = (net.op("Mul", &[f, c]), net.op("Mul", &[i, g]));
    (net.op("Add", &[a, b]), o)
}

#[test]
fn a_layer_normalised_lstm() {
    let mut s = steps(TIME);
    let (w, r) = (wide(&mut s, SIZE, 4 * SIZE), wide(&mut s, SIZE, 4 * SIZE));
    let (scale, bias) = (vector(&mut s, 4 * SIZE), vector(&mut s, 4 * SIZE));
    let (cell_scale, cell_bias) = (vector(&mut s, SIZE), vector(&mut s, SIZE));
    let (mut h, mut c) = (s.zeros(), s.zeros());
    for x in s.x.clone() {
        let net = &mut s.net;
        let (a, b) = (net.op("MatMul", &[x, w]), net.op("MatMul", &[h, r]));
        let a = net.op("LayerNormalization", &[a, scale, bias]);
        let b = net.op("LayerNormalization", &[b, scale]);
        let sums = net.op("Add", &[a, b]);
        let o;
        (c, o) = gated(net, sums, c);
        let normal = net.op("LayerNormalization", &[c, cell_scale, cell_bias]);
        let shown = net.op("Tanh", &[normal]);
        h = net.op("Mul", &[o, shown]);
        net.output(h);
    }
    let (outer, body) = scanned(&s, "a layer-normalised LSTM");
    assert_eq!((outer.get("MatMul"), body.get("MatMul")), (Some(&1), Some(&1)), "{outer:?} {body:?}");
}

#[test]
fn an_lstm_with_a_projection() {
    let mut s = steps(TIME);
    let (w, r) = (wide(&mut s, SIZE, 8 * SIZE), wide(&mut s, SIZE, 8 * SIZE));
    let (bias, projection) = (vector(&mut s, 8 * SIZE), wide(&mut s, 2 * SIZE, SIZE));
    let mut h = s.zeros();
    let mut c = s.net.floats(&[BATCH, 2 * SIZE], &[0.0; 2 * BATCH * SIZE]);
    for x in s.x.clone() {
        let net = &mut s.net;
        let a = net.op("MatMul", &[x, w]);
        let a = net.op("Add", &[a, bias]);
        let b = net.op("MatMul", &[h, r]);
        let sums = net.op("Add", &[a, b]);
        let o;
        (c, o) = gated(net, sums, c);
        let shown = net.op("Tanh", &[c]);
        let wide = net.op("Mul", &[o, shown]);
        h = net.op("MatMul", &[wide, projection]);
        net.output(h);
    }
    let (outer, body) = scanned(&s, "an LSTM with a projection");
    // The bias went with its product.
    assert_eq!((outer.get("MatMul"), outer.get("Add")), (Some(&1), Some(&1)), "{outer:?}");
    assert_eq!((body.get("MatMul"), body.get("Add")), (Some(&2), Some(&2)), "{body:?}");
}

#[test]
fn a_minimal_gated_unit() {
    let mut s = steps(TIME);
    let (wf, rf, w, r) = (s.matrix(), s.matrix(), s.w, s.r);
    let mut h = s.zeros();
    for x in s.x.clone() {
        let net = &mut s.net;
        let (a, b) = (net.op("MatMul", &[x, wf]), net.op("MatMul", &[h, rf]));
        let sum = net.op("Add", &[a, b]);
        let f = net.op("Sigmoid", &[sum]);
        let kept = net.op("Mul", &[f, h]);
        let (a, b) = (net.op("MatMul", &[x, w]), net.op("MatMul", &[kept, r]));
        let sum = net.op("Add", &[a, b]);
        let new = net.op("Tanh", &[sum]);
        let difference = net.op("Sub", &[new, h]);
        let step = net.op("Mul", &[f, difference]);
        h = net.op("Add", &[h, step]);
        net.output(h);
    }
    // One gate for both purposes is a GRU whose gates have equal weights, up to the sign of one.
    let counts = s.check("a minimal gated unit");
    let made = counts.get("GRU").or(counts.get("Scan"));
    assert_eq!((made, counts.get("Tanh")), (Some(&1), None), "{counts:?}");
}

#[test]
fn a_simple_recurrent_unit() {
    let mut s = steps(TIME);
    let (w, wf, wr) = (s.matrix(), s.matrix(), s.matrix());
    let (bf, br) = (vector(&mut s, SIZE), vector(&mut s, SIZE));
    let mut c = s.zeros();
    for x in s.x.clone() {
        let net = &mut s.net;
        let one = net.number(1.0);
        let new = net.op("MatMul", &[x, w]);
        let gate = |net: &mut Net, w: ValueId, b: ValueId| {
            let sum = net.op("MatMul", &[x, w]);
            let sum = net.op("Add", &[sum, b]);
            net.op("Sigmoid", &[sum])
        };
        let (f, r) = (gate(net, wf, bf), gate(net, wr, br));
        let rest = net.op("Sub", &[one, f]);
        let (a, b) = (net.op("Mul", &[f, c]), net.op("Mul", &[rest, new]));
        c = net.op("Add", &[a, b]);
        let shown = net.op("Tanh", &[c]);
        let rest = net.op("Sub", &[one, r]);
        let (a, b) = (net.op("Mul", &[r, shown]), net.op("Mul", &[rest, x]));
        let h = net.op("Add", &[a, b]);
        net.output(h);
    }
    s.net.output(c);
    // What is recurrent is one Scan without products; what only reads its states stays where it is.
    let counts = s.check("a simple recurrent unit");
    assert_eq!(counts.get("Scan"), Some(&1), "{counts:?}");
    let graph = s.net.simplified(true);
    let mut scans = graph.nodes.iter().filter_map(|n| n.op.as_any().downcast_ref::<Scan>());
    let body = census(&scans.next().expect("a Scan").body.graph);
    assert_eq!(body.get("MatMul"), None, "{body:?}");
}

/// SRU layers whose gates look at the state of the step before, and whose outputs, the next layer's inputs, read states
/// besides.
#[test]
fn simple_recurrent_units_that_look_at_their_states() {
    for layers in 1..=2 {
        let mut s = steps(TIME);
        let mut rows = s.x.clone();
        for _ in 0..layers {
            let (w, wf, wr) = (s.matrix(), s.matrix(), s.matrix());
            let [vf, vr, bf, br] = [0; 4].map(|_| vector(&mut s, SIZE));
            let mut c = s.zeros();
            for row in &mut rows {
                let (net, x) = (&mut s.net, *row);
                let one = net.number(1.0);
                let new = net.op("MatMul", &[x, w]);
                let gate = |net: &mut Net, w: ValueId, v: ValueId, b: ValueId| {
                    let (product, seen) = (net.op("MatMul", &[x, w]), net.op("Mul", &[c, v]));
                    let sum = net.op("Add", &[product, seen]);
                    let sum = net.op("Add", &[sum, b]);
                    net.op("Sigmoid", &[sum])
                };
                let (f, r) = (gate(net, wf, vf, bf), gate(net, wr, vr, br));
                let rest = net.op("Sub", &[one, f]);
                let (a, b) = (net.op("Mul", &[f, c]), net.op("Mul", &[rest, new]));
                c = net.op("Add", &[a, b]);
                let rest = net.op("Sub", &[one, r]);
                let (a, b) = (net.op("Mul", &[r, c]), net.op("Mul", &[rest, x]));
                *row = net.op("Add", &[a, b]);
            }
        }
        rows.into_iter().for_each(|h| s.net.output(h));
        let what = format!("{layers} layers of simple recurrent units");
        let counts = s.check(&what);
        assert_eq!(counts.get("Scan"), Some(&layers), "{what}: {counts:?}");
        let graph = s.net.simplified(true);
        for scan in graph.nodes.iter().filter_map(|n| n.op.as_any().downcast_ref::<Scan>()) {
            let body = census(&scan.body.graph);
            assert_eq!(body.get("MatMul"), None, "{what}: {body:?}");
        }
    }
}

#[test]
fn a_quasi_recurrent_layer() {
    // Gates made by what is not recurrent, then f ⊙ c + (1 − f) ⊙ z.
    let mut s = steps(TIME);
    let (z, f) = (s.x.clone(), s.x.clone());
    let mut c = s.zeros();
    for (z, f) in z.into_iter().zip(f) {
        let net = &mut s.net;
        let one = net.number(1.0);
        let (z, f) = (net.op("Tanh", &[z]), net.op("Sigmoid", &[f]));
        let rest = net.op("Sub", &[one, f]);
        let (a, b) = (net.op("Mul", &[f, c]), net.op("Mul", &[rest, z]));
        c = net.op("Add", &[a, b]);
        net.output(c);
    }
    scanned(&s, "a quasi-recurrent layer");
}

#[test]
fn a_decoder_with_attention() {
    // Scores of the state against a memory of the model's input, a context, and a cell over both.
    let mut s = steps(TIME);
    let values = s.numbers.many(BATCH * 3 * SIZE, 1.0).into_iter().map(|v| v as f32).collect();
    let memory = s.net.input(crate::tensor::Tensor::new(&[BATCH, 3, SIZE], values).expect("fits"));
    let (key, w, r, u) = (s.matrix(), s.w, s.r, s.matrix());
    let mut h = s.zeros();
    for x in s.x.clone() {
        let net = &mut s.net;
        let (one, two) = (net.integers(&[1]), net.integers(&[2]));
        let query = net.op("MatMul", &[h, key]);
        let query = net.op("Unsqueeze", &[query, two]);
        let scores = net.op("MatMul", &[memory, query]);
        let weights = net.with("Softmax", vec![("axis", Attribute::Int(1))], &[scores], 1)[0];
        let weighted = net.op("Mul", &[weights, memory]);
        let context = net.with("ReduceSum", vec![("keepdims", Attribute::Int(0))], &[weighted, one], 1)[0];
        let (a, b) = (net.op("MatMul", &[x, w]), net.op("MatMul", &[h, r]));
        let sum = net.op("Add", &[a, b]);
        let c = net.op("MatMul", &[context, u]);
        let sum = net.op("Add", &[sum, c]);
        h = net.op("Tanh", &[sum]);
        net.output(h);
    }
    let (outer, body) = scanned(&s, "a decoder with attention");
    assert_eq!((outer.get("MatMul"), body.get("MatMul")), (Some(&1), Some(&4)), "{outer:?} {body:?}");
}
