//! What looks like a recurrence and is none, or is one that no operator computes, stays right.

use super::net::{Net, Numbers, assert_close, census};
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;

pub(super) const BATCH: usize = 2;
pub(super) const SIZE: usize = 4;

pub(super) struct Steps {
    pub(super) net: Net,
    pub(super) numbers: Numbers,
    pub(super) x: Vec<ValueId>,
    pub(super) w: ValueId,
    pub(super) r: ValueId,
}

pub(super) fn steps(time: usize) -> Steps {
    let (mut net, mut numbers) = (Net::default(), Numbers(3));
    let values = numbers.many(time * BATCH * SIZE, 1.0).into_iter().map(|v| v as f32).collect();
    let all = net.input(Tensor::new(&[time, BATCH, SIZE], values).expect("fits"));
    let x = (0..time as i64)
        .map(|t| {
            let t = net.constant(Tensor::scalar(t));
            net.with("Gather", vec![("axis", Attribute::Int(0))], &[all, t], 1)[0]
        })
        .collect();
    let mut matrix = |net: &mut Net| {
        let values = numbers.many(SIZE * SIZE, 0.7);
        net.floats(&[SIZE, SIZE], &values)
    };
    let (w, r) = (matrix(&mut net), matrix(&mut net));
    Steps { net, numbers, x, w, r }
}

impl Steps {
    pub(super) fn matrix(&mut self) -> ValueId {
        let values = self.numbers.many(SIZE * SIZE, 0.7);
        self.net.floats(&[SIZE, SIZE], &values)
    }

    pub(super) fn zeros(&mut self) -> ValueId {
        self.net.floats(&[BATCH, SIZE], &[0.0; BATCH * SIZE])
    }

    /// `tanh(x·W + h·R)`.
    pub(super) fn step(&mut self, x: ValueId, h: ValueId, w: ValueId, r: ValueId) -> ValueId {
        let (a, b) = (self.net.op("MatMul", &[x, w]), self.net.op("MatMul", &[h, r]));
        let sum = self.net.op("Add", &[a, b]);
        self.net.op("Tanh", &[sum])
    }

    /// Both ways give the same; the operators of the rewritten graph.
    pub(super) fn check(&self, what: &str) -> std::collections::BTreeMap<&'static str, usize> {
        let expected = self.net.run(self.net.simplified(false));
        let graph = self.net.simplified(true);
        let counts = census(&graph);
        assert_close(&self.net.run(graph), &expected, 2e-5, what);
        counts
    }
}

#[test]
fn weights_that_differ_between_steps_are_no_recurrence() {
    let mut s = steps(6);
    let mut h = s.zeros();
    for x in s.x.clone() {
        let (w, r) = (s.matrix(), s.matrix());
        h = s.step(x, h, w, r);
    }
    s.net.output(h);
    let counts = s.check("weights that differ");
    assert_eq!((counts.get("RNN"), counts.get("Scan")), (None, None), "{counts:?}");
    assert_eq!(counts.get("Tanh"), Some(&6));
}

#[test]
fn input_weights_that_differ_between_steps_are_no_recurrence() {
    let mut s = steps(6);
    let mut h = s.zeros();
    for x in s.x.clone() {
        let (w, r) = (s.matrix(), s.r);
        h = s.step(x, h, w, r);
    }
    s.net.output(h);
    let counts = s.check("input weights that differ");
    assert_eq!(counts.get("RNN"), None, "{counts:?}");
}

#[test]
fn one_step_of_other_weights_ends_the_recurrence() {
    let mut s = steps(8);
    let mut h = s.zeros();
    let odd = s.matrix();
    for (t, x) in s.x.clone().into_iter().enumerate() {
        let r = if t == 4 { odd } else { s.r };
        h = s.step(x, h, s.w, r);
        s.net.output(h);
    }
    s.check("one step of other weights");
}

#[test]
fn a_step_that_reads_a_later_input_stays_right() {
    let mut s = steps(6);
    let mut h = s.zeros();
    let order = [0, 1, 4, 3, 2, 5];
    for t in order {
        let x = s.x[t];
        h = s.step(x, h, s.w, s.r);
    }
    s.net.output(h);
    s.check("steps out of order");
}

#[test]
fn a_gate_that_reads_a_later_step_is_no_recurrence() {
    // The second layer's step reads the first layer's next step in one place.
    let mut s = steps(6);
    let (mut h, mut first) = (s.zeros(), Vec::new());
    for x in s.x.clone() {
        h = s.step(x, h, s.w, s.r);
        first.push(h);
    }
    let (w, r) = (s.matrix(), s.matrix());
    let mut g = s.zeros();
    for t in 0..6 {
        let from = if t == 2 { 3 } else { t };
        g = s.step(first[from], g, w, r);
        s.net.output(g);
    }
    s.check("a later step");
}

#[test]
fn the_state_of_two_steps_ago_stays_right() {
    let mut s = steps(8);
    let (mut h, mut before) = (s.zeros(), s.zeros());
    for x in s.x.clone() {
        let next = s.step(x, before, s.w, s.r);
        (before, h) = (h, next);
        s.net.output(next);
    }
    s.net.output(h);
    s.check("a state of two steps ago");
}

#[test]
fn one_step_without_its_function_stays_right() {
    let mut s = steps(7);
    let mut h = s.zeros();
    for (t, x) in s.x.clone().into_iter().enumerate() {
        if t == 3 {
            let (a, b) = (s.net.op("MatMul", &[x, s.w]), s.net.op("MatMul", &[h, s.r]));
            let sum = s.net.op("Add", &[a, b]);
            h = s.net.op("Relu", &[sum]);
        } else {
            h = s.step(x, h, s.w, s.r);
        }
        s.net.output(h);
    }
    s.check("one step with another function");
}

#[test]
fn outputs_in_the_middle_of_steps_stay_there() {
    let mut s = steps(5);
    let mut h = s.zeros();
    for x in s.x.clone() {
        let (a, b) = (s.net.op("MatMul", &[x, s.w]), s.net.op("MatMul", &[h, s.r]));
        let sum = s.net.op("Add", &[a, b]);
        h = s.net.op("Tanh", &[sum]);
        s.net.output(sum);
    }
    let counts = s.check("sums as outputs");
    // The sums are no output of an RNN.
    assert_eq!((counts.get("Scan"), counts.get("RNN")), (Some(&1), None), "{counts:?}");
}

#[test]
fn other_cells_become_a_loop() {
    // A layer-normalised cell with a skip: no operator, but one loop.
    let mut s = steps(9);
    let mut h = s.zeros();
    let (scale, bias) = (s.net.floats(&[SIZE], &[1.0; SIZE]), s.net.floats(&[SIZE], &[0.1; SIZE]));
    for x in s.x.clone() {
        let (a, b) = (s.net.op("MatMul", &[x, s.w]), s.net.op("MatMul", &[h, s.r]));
        let sum = s.net.op("Add", &[a, b]);
        let normal = s.net.op("LayerNormalization", &[sum, scale, bias]);
        let new = s.net.op("Tanh", &[normal]);
        h = s.net.op("Add", &[new, x]);
        s.net.output(h);
    }
    let counts = s.check("a layer-normalised cell");
    assert_eq!(counts.get("Scan"), Some(&1), "{counts:?}");
    assert_eq!(counts.get("Tanh"), None, "{counts:?}");
}

#[test]
fn a_weight_transposed_in_one_step_ends_the_recurrence() {
    let mut s = steps(8);
    let mut h = s.zeros();
    let turned = s.net.op("Transpose", &[s.r]);
    for (t, x) in s.x.clone().into_iter().enumerate() {
        let r = if t == 4 { turned } else { s.r };
        h = s.step(x, h, s.w, r);
        s.net.output(h);
    }
    let counts = s.check("a weight transposed in one step");
    // Each piece of the legal part at most.
    assert!(counts.get("RNN").is_none_or(|n| *n <= 2), "{counts:?}");
    assert!(counts.contains_key("Tanh"), "{counts:?}");
}

#[test]
fn a_step_that_skips_a_state_stays_right() {
    let mut s = steps(8);
    let mut all = vec![s.zeros()];
    for (t, x) in s.x.clone().into_iter().enumerate() {
        let h = if t == 5 { all[t - 1] } else { all[t] };
        let next = s.step(x, h, s.w, s.r);
        s.net.output(next);
        all.push(next);
    }
    let counts = s.check("a step that skips a state");
    // Not all steps are one recurrence.
    assert!(counts.get("RNN") != Some(&1) || counts.contains_key("Tanh"), "{counts:?}");
}

#[test]
fn a_gate_read_between_steps_is_no_operator() {
    // What the update gate of each step is, is an output: a GRU does not give it.
    let mut s = steps(6);
    let mut h = s.zeros();
    let (w, r) = (s.matrix(), s.matrix());
    for x in s.x.clone() {
        let (a, b) = (s.net.op("MatMul", &[x, w]), s.net.op("MatMul", &[h, r]));
        let sum = s.net.op("Add", &[a, b]);
        let z = s.net.op("Sigmoid", &[sum]);
        s.net.output(z);
        let n = s.step(x, h, s.w, s.r);
        let difference = s.net.op("Sub", &[h, n]);
        let kept = s.net.op("Mul", &[z, difference]);
        h = s.net.op("Add", &[n, kept]);
    }
    s.net.output(h);
    let counts = s.check("gates as outputs");
    assert_eq!((counts.get("GRU"), counts.get("LSTM"), counts.get("RNN")), (None, None, None), "{counts:?}");
}

#[test]
fn steps_whose_states_end_in_one_sum_stay_right() {
    // The state of every step is added to a sum that the next step reads too: more is carried than a cell's.
    let mut s = steps(7);
    let (mut h, mut sum) = (s.zeros(), s.zeros());
    for x in s.x.clone() {
        let both = s.net.op("Add", &[h, sum]);
        h = s.step(x, both, s.w, s.r);
        sum = s.net.op("Add", &[sum, h]);
    }
    s.net.output(sum);
    let counts = s.check("a sum of states");
    assert_eq!(counts.get("RNN"), None, "{counts:?}");
}
