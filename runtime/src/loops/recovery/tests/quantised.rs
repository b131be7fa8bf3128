//! Recurrences between QuantizeLinear and DequantizeLinear, as quantising tools write them.

use super::near_misses::{BATCH, SIZE, Steps, steps};
use super::net::{Net, Numbers, assert_close, census};
use crate::graph::ValueId;
use crate::ops::Scan;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;

const TIME: usize = 5;

/// Random 8-bit weights, dequantised by one scale, or with `rows` by one for each of the rows along axis 1.
fn weights(net: &mut Net, numbers: &mut Numbers, shape: &[usize], rows: bool) -> ValueId {
    let count = shape.iter().product();
    let values = (0..count).map(|_| (numbers.next() * 100.0) as i8).collect();
    let values = net.constant(Tensor::new(shape, values).expect("fits"));
    if !rows {
        let (scale, zero) = (net.number(0.006), net.constant(Tensor::scalar(3i8)));
        return net.op("DequantizeLinear", &[values, scale, zero]);
    }
    let scales: Vec<f64> = (0..shape[1]).map(|row| 0.003 + 0.0005 * row as f64).collect();
    let scale = net.floats(&[shape[1]], &scales);
    let zero = net.constant(Tensor::new(&[shape[1]], vec![0i8; shape[1]]).expect("fits"));
    net.with("DequantizeLinear", vec![("axis", Attribute::Int(1))], &[values, scale, zero], 1)[0]
}

/// `x` to 8 bits and back.
fn there_and_back(net: &mut Net, x: ValueId) -> ValueId {
    let (scale, zero) = (net.number(1.0 / 120.0), net.constant(Tensor::scalar(128u8)));
    let bytes = net.op("QuantizeLinear", &[x, scale, zero]);
    net.op("DequantizeLinear", &[bytes, scale, zero])
}

#[test]
fn an_operator_takes_its_weights_dequantised_once() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for directions in [1, 2] {
            for rows in [false, true] {
                let (mut net, mut numbers) = (Net::default(), Numbers(23));
                let values = numbers.many(TIME * BATCH * SIZE, 1.0).into_iter().map(|v| v as f32).collect();
                let x = net.input(Tensor::new(&[TIME, BATCH, SIZE], values).expect("fits"));
                let x = there_and_back(&mut net, x);
                let shape = [directions, gates * SIZE, SIZE];
                let [w, r] = [0; 2].map(|_| weights(&mut net, &mut numbers, &shape, rows));
                let way = if directions == 2 { "bidirectional" } else { "forward" };
                let attributes = vec![
                    ("hidden_size", Attribute::Int(SIZE as i64)),
                    ("direction", Attribute::String(way.into())),
                ];
                let y = net.with(op, attributes, &[x, w, r], 2);
                let shown = there_and_back(&mut net, y[0]);
                net.output(shown);
                net.output(y[1]);
                let what = format!("{op}, {directions} directions, scales of rows: {rows}");
                let expected = net.run(net.simplified(false));
                let graph = net.simplified(true);
                let counts = census(&graph);
                let constant = graph.nodes.iter().find(|n| n.def.name == op).is_some_and(|n| {
                    [1, 2].iter().all(|&i| n.inputs[i].is_some_and(|id| graph.constant(id).is_some()))
                });
                assert!(constant, "weights that no step dequantises: {what}");
                assert_eq!(counts.get("DequantizeLinear"), Some(&2), "{what}: {counts:?}");
                assert_close(&net.run(graph), &expected, 2e-5, &what);
            }
        }
    }
}

/// Steps of `tanh(x·W + h·R)` with dequantised weights; the state is read as `held` leaves it.
fn unrolled(held: impl Fn(&mut Net, ValueId) -> ValueId) -> Steps {
    let mut s = steps(TIME);
    let mut numbers = Numbers(29);
    let (w, r) = (
        weights(&mut s.net, &mut numbers, &[SIZE, SIZE], false),
        weights(&mut s.net, &mut numbers, &[SIZE, SIZE], true),
    );
    let mut h = s.zeros();
    for x in s.x.clone() {
        let x = there_and_back(&mut s.net, x);
        let before = held(&mut s.net, h);
        h = s.step(x, before, w, r);
        s.net.output(h);
    }
    s
}

#[test]
fn steps_with_dequantised_weights_become_the_operator() {
    let counts = unrolled(|_, h| h).check("dequantised weights");
    assert_eq!((counts.get("RNN"), counts.get("Tanh")), (Some(&1), None), "{counts:?}");
}

#[test]
fn a_state_that_is_quantised_in_every_step_is_one_loop() {
    let s = unrolled(there_and_back);
    let counts = s.check("a quantised state");
    assert_eq!((counts.get("Scan"), counts.get("Tanh")), (Some(&1), None), "{counts:?}");
    let graph = s.net.simplified(true);
    let mut scans = graph.nodes.iter().filter_map(|n| n.op.as_any().downcast_ref::<Scan>());
    let body = census(&scans.next().expect("a Scan").body.graph);
    // W·x is made for all steps; R is dequantised before them.
    assert_eq!((body.get("MatMul"), counts.get("MatMul")), (Some(&1), Some(&1)), "{body:?} {counts:?}");
    assert_eq!(body.get("DequantizeLinear"), Some(&1), "{body:?}");
}
