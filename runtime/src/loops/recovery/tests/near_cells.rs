//! Steps of an LSTM and of a GRU of which one gate of one step is another: no operator over all steps, and right.

use super::near_misses::{BATCH, SIZE, Steps, steps};
use crate::graph::ValueId;

const TIME: usize = 8;
/// The step of which something is different.
const ODD: usize = 4;

/// What is different about one gate of step [`ODD`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Odd {
    Nothing,
    InputWeights,
    RecurrentWeights,
    Bias,
    Function,
    /// It reads the input of the step behind.
    LaterInput,
    /// It reads the state of two steps ago.
    EarlierState,
}

impl Odd {
    /// Whether the step does something else with its state.
    fn is_recurrent(self) -> bool {
        matches!(self, Self::RecurrentWeights | Self::Function | Self::EarlierState)
    }
}

const ALL: [Odd; 6] =
    [Odd::InputWeights, Odd::RecurrentWeights, Odd::Bias, Odd::Function, Odd::LaterInput, Odd::EarlierState];

/// The matrices and the bias of a gate.
#[derive(Clone, Copy)]
struct Gate(ValueId, ValueId, ValueId);

fn gates(s: &mut Steps, count: usize) -> Vec<Gate> {
    (0..count)
        .map(|_| {
            let (w, r, bias) = (s.matrix(), s.matrix(), s.numbers.many(SIZE, 0.5));
            Gate(w, r, s.net.floats(&[SIZE], &bias))
        })
        .collect()
}

/// `function(x · W + h · R + b)`.
fn gate(s: &mut Steps, function: &str, x: ValueId, h: ValueId, Gate(w, r, bias): Gate) -> ValueId {
    let (a, b) = (s.net.op("MatMul", &[x, w]), s.net.op("MatMul", &[h, r]));
    let sum = s.net.op("Add", &[a, b]);
    let sum = s.net.op("Add", &[sum, bias]);
    s.net.op(function, &[sum])
}

/// The gates of step `t`, of which the one numbered `which` may be odd.
fn odd_gate(
    s: &mut Steps,
    functions: &[&str],
    own: &[Gate],
    (t, odd, which): (usize, Odd, usize),
    states: &[ValueId],
    k: usize,
) -> ValueId {
    let (mut function, mut x, mut h, mut with) = (functions[k], s.x[t], states[t], own[k]);
    if t == ODD && k == which {
        let other = gates(s, 1)[0];
        match odd {
            Odd::Nothing => {}
            Odd::InputWeights => with.0 = other.0,
            Odd::RecurrentWeights => with.1 = other.1,
            Odd::Bias => with.2 = other.2,
            Odd::Function => function = if function == "Tanh" { "Sigmoid" } else { "Tanh" },
            Odd::LaterInput => x = s.x[t + 1],
            Odd::EarlierState => h = states[t - 1],
        }
    }
    gate(s, function, x, h, with)
}

fn lstm(odd: Odd, which: usize) -> Steps {
    let mut s = steps(TIME);
    let own = gates(&mut s, 4);
    let (mut states, mut c) = (vec![s.zeros()], s.zeros());
    for t in 0..TIME {
        let functions = ["Sigmoid", "Sigmoid", "Sigmoid", "Tanh"];
        let made: Vec<ValueId> =
            (0..4).map(|k| odd_gate(&mut s, &functions, &own, (t, odd, which), &states, k)).collect();
        let (kept, new) = (s.net.op("Mul", &[made[1], c]), s.net.op("Mul", &[made[0], made[3]]));
        c = s.net.op("Add", &[kept, new]);
        let out = s.net.op("Tanh", &[c]);
        let h = s.net.op("Mul", &[made[2], out]);
        s.net.output(h);
        states.push(h);
    }
    s
}

fn gru(odd: Odd, which: usize) -> Steps {
    let mut s = steps(TIME);
    let own = gates(&mut s, 3);
    let mut states = vec![s.zeros()];
    for t in 0..TIME {
        let functions = ["Sigmoid", "Sigmoid", "Tanh"];
        let at = (t, odd, which);
        let z = odd_gate(&mut s, &functions, &own, at, &states, 0);
        let r = odd_gate(&mut s, &functions, &own, at, &states, 1);
        let reset: Vec<ValueId> = states.iter().map(|&h| s.net.op("Mul", &[r, h])).collect();
        let n = odd_gate(&mut s, &functions, &own, at, &reset, 2);
        let difference = s.net.op("Sub", &[states[t], n]);
        let kept = s.net.op("Mul", &[z, difference]);
        let h = s.net.op("Add", &[n, kept]);
        s.net.output(h);
        states.push(h);
    }
    s
}

fn check(operator: &str, build: impl Fn(Odd, usize) -> Steps, gates: usize) {
    let whole = build(Odd::Nothing, 0).check("the cell itself");
    assert_eq!(whole.get(operator), Some(&1), "{whole:?}");
    assert!(!whole.contains_key("Sigmoid") && !whole.contains_key("Tanh"), "{whole:?}");
    for odd in ALL {
        for which in 0..gates {
            let what = format!("{operator}: {odd:?} of gate {which}, batch {BATCH}");
            let counts = build(odd, which).check(&what);
            // Parts of the steps may each be one, the odd step alone, too, which is a step of a cell by itself.
            let parts = counts.get(operator).copied().unwrap_or(0);
            let apart = counts.contains_key("Sigmoid") && counts.contains_key("Tanh");
            // What a step reads besides its state may be made ahead of a loop over all of them, which is no operator.
            let looped = !odd.is_recurrent() && parts == 0 && counts.get("Scan") == Some(&1);
            assert!(parts > 1 || apart || looped, "{counts:?} for {what}");
        }
    }
}

#[test]
fn an_lstm_with_another_gate_in_one_step_is_none() {
    check("LSTM", lstm, 4);
}

#[test]
fn a_gru_with_another_gate_in_one_step_is_none() {
    check("GRU", gru, 3);
}
