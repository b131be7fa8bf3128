//! Recurrent models with branches, as exporters write them: what several workers can share.

use crate::recurrences::Model;

/// Steps of a model whose input may have any number of them.
pub const ANY: usize = usize::MAX;

/// Extents of the recurrent layers of a model.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// Steps.
    pub time: usize,
    /// Rows.
    pub batch: usize,
    /// Features of the input and of the state.
    pub hidden: usize,
}

impl Extents {
    /// Shape of the input `x`, and of `y` where it is a sequence of as many features.
    pub fn sequence(self) -> [usize; 3] {
        [self.time, self.batch, self.hidden]
    }
}

/// A model by its name.
pub type Named = (&'static str, fn(Extents) -> Vec<u8>);

/// Every model here.
pub const MODELS: &[Named] = &[
    ("bidirectional", bidirectional),
    ("four layers", |of| stacked(of, 4)),
    ("four branches", |of| branches(of, 4)),
    ("ensemble", ensemble),
    ("encoder and decoder", encoder_decoder),
];

/// One LSTM of both directions, and the joined states through a dense layer.
pub fn bidirectional(of: Extents) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &of.sequence());
    let joined = m.both_directions("x", of);
    let weight = m.weights(&[2 * of.hidden, of.hidden], 2 * of.hidden);
    m.node("MatMul", &[&joined, &weight], &[], &["y"]);
    m.value(12, "y", &of.sequence());
    m.finish()
}

/// LSTMs one on the other.
pub fn stacked(of: Extents, layers: usize) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &of.sequence());
    let top = (0..layers).fold("x".to_owned(), |x, _| m.layer("LSTM", &x, of));
    m.node("Relu", &[&top], &[], &["y"]);
    m.value(12, "y", &of.sequence());
    m.finish()
}

/// LSTMs and GRUs beside each other on one input, their states joined.
pub fn branches(of: Extents, count: usize) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &of.sequence());
    let all: Vec<String> =
        (0..count).map(|i| m.layer(if i % 2 == 0 { "LSTM" } else { "GRU" }, "x", of)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let joined = m.op("Concat", &all, &[("axis", 2)]);
    let weight = m.weights(&[count * of.hidden, of.hidden], count * of.hidden);
    m.node("MatMul", &[&joined, &weight], &[], &["y"]);
    m.value(12, "y", &of.sequence());
    m.finish()
}

/// Three models of their own, an LSTM, a GRU and dense layers, whose answers are added.
pub fn ensemble(of: Extents) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &of.sequence());
    let lstm = m.layer("LSTM", "x", of);
    let gru = m.layer("GRU", "x", of);
    let mut dense = "x".to_owned();
    for _ in 0..2 {
        let weight = m.weights(&[of.hidden, of.hidden], of.hidden);
        let product = m.op("MatMul", &[&dense, &weight], &[]);
        dense = m.op("Tanh", &[&product], &[]);
    }
    let sum = m.op("Add", &[&lstm, &gru], &[]);
    m.node("Add", &[&sum, &dense], &[], &["y"]);
    m.value(12, "y", &of.sequence());
    m.finish()
}

/// An encoder of both directions whose last states, brought to one size, begin a decoder on another input.
pub fn encoder_decoder(of: Extents) -> Vec<u8> {
    let Extents { batch, hidden, .. } = of;
    let mut m = Model::default();
    m.value(11, "x", &of.sequence());
    let encoded = m.both_directions("x", of);
    let axis = m.integers(&[0]);
    let mean = m.op("ReduceMean", &[&encoded, &axis], &[("keepdims", 1)]);
    let weight = m.weights(&[2 * hidden, hidden], 2 * hidden);
    let product = m.op("MatMul", &[&mean, &weight], &[]);
    let state = m.op("Tanh", &[&product], &[]);
    let decoded = m.layer_from("GRU", "x", Some(&state), of);
    m.node("Relu", &[&decoded], &[], &["y"]);
    m.value(12, "y", &[of.time, batch, hidden]);
    m.finish()
}

/// Running sums of a few elements, one behind the other: `count` kernels that do next to nothing.
pub fn chain(count: usize) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &[1, 1, 8]);
    let axis = m.integers(&[2]);
    let sums = (0..count).fold("x".to_owned(), |x, _| m.op("CumSum", &[&x, &axis], &[]));
    m.node("Relu", &[&sums], &[], &["y"]);
    m.value(12, "y", &[1, 1, 8]);
    m.finish()
}

/// Chains of `links` running sums of a few elements beside each other, each of something else, joined by a product: small
/// kernels of which as many chains can run side by side as there are.
pub fn lattice(chains: usize, links: usize) -> Vec<u8> {
    let mut m = Model::default();
    m.value(11, "x", &[1, 1, 8]);
    let axis = m.integers(&[2]);
    let ends: Vec<String> = (0..chains)
        .map(|_| {
            let factor = m.weights(&[1, 1, 8], 8);
            let own = m.op("Mul", &["x", &factor], &[]);
            (0..links).fold(own, |x, _| m.op("CumSum", &[&x, &axis], &[]))
        })
        .collect();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    let joined = m.op("Concat", &ends, &[("axis", 2)]);
    let weight = m.weights(&[8 * chains, 8], 8 * chains);
    m.node("MatMul", &[&joined, &weight], &[], &["y"]);
    m.value(12, "y", &[1, 1, 8]);
    m.finish()
}
