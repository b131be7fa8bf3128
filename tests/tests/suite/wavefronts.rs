//! Layers of recurrences that run behind each other on threads of their own: the same bits as on one thread, and what each
//! makes whether or not others read it.

use super::precision::{drawn, load};
use recurve::settings::Precision;
use recurve::times::NodeTimes;
use recurve::{ErrorKind, RunOptions, Session, Tensor};
use recurve_tests::wire::{Message, code, fixed, floats, graph, ints, model, node, untyped};
use std::time::Duration;

const INPUT: i64 = 12;

/// A stack of layers of one operator.
#[derive(Clone, Copy, Debug)]
struct Stack {
    op: &'static str,
    layers: usize,
    steps: i64,
    batch: i64,
    hidden: i64,
    /// Whether each layer begins with the last state of the one before it.
    chained: bool,
    /// Whether all layers' outputs are outputs of the model.
    shown: bool,
}

impl Stack {
    fn gates(&self) -> i64 {
        match self.op {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        }
    }

    fn model(&self) -> Vec<u8> {
        let Self { op, layers, steps, batch, hidden, .. } = *self;
        let (mut constants, mut nodes, mut outputs) = (vec![ints("one", &[1], &[1])], Vec::new(), Vec::new());
        for layer in 0..layers {
            let input = if layer == 0 { INPUT } else { hidden };
            let rows = self.gates() * hidden;
            let mut weights = |name: &str, shape: &[i64], seed: usize| {
                let name = format!("{name}{layer}");
                let count = shape.iter().product::<i64>() as usize;
                constants.push(floats(&name, shape, &drawn(count, (10 * layer + seed) as u64)));
                name
            };
            let w = weights("w", &[1, rows, input], 1);
            let r = weights("r", &[1, rows, hidden], 2);
            let b = weights("b", &[1, 2 * rows], 3);
            let before = |of: &str| if layer == 0 { String::new() } else { format!("{of}{}", layer - 1) };
            let x = if layer == 0 { "x".to_owned() } else { before("s") };
            let first = if self.chained { before("h") } else { String::new() };
            let (y, h, s) = (format!("y{layer}"), format!("h{layer}"), format!("s{layer}"));
            let cell = node(op, &[&x, &w, &r, &b, "", &first], &[&y, &h]).named(&format!("layer{layer}"));
            let cell = cell.with_int("hidden_size", hidden);
            // The last form of a GRU takes two barriers a step where it shares its units.
            nodes.push(if op == "GRU" {
                cell.with_int("linear_before_reset", layer as i64 % 2)
            } else {
                cell
            });
            nodes.push(node("Squeeze", &[&y, "one"], &[&s]));
            let last = layer + 1 == layers;
            outputs.extend((last || self.shown).then(|| [s, h]).into_iter().flatten());
        }
        let outputs: Vec<Message> = outputs.iter().map(|name| untyped(name)).collect();
        let inputs = [fixed("x", code::F32, &[steps, batch, INPUT])];
        model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes()
    }

    fn x(&self) -> Tensor {
        let shape = [self.steps, self.batch, INPUT].map(|extent| extent as usize);
        Tensor::new(&shape, drawn(shape.iter().product(), 99)).expect("a tensor")
    }

    fn session(&self, threads: usize) -> Session {
        load(self.model(), Precision::F32, threads)
    }

    /// The bits of all outputs, twice over, and how many layers ran beside the one before them.
    fn run(&self, threads: usize) -> (Vec<Vec<u32>>, usize) {
        let (session, x, times) = (self.session(threads), self.x(), NodeTimes::with_events());
        let mut all = Vec::new();
        for options in [RunOptions::default(), RunOptions::default().with_node_times(&times)] {
            let outputs = session.run_with([("x", &x)], &options).expect("runs");
            all.extend(outputs.iter().map(|(_, value)| {
                let floats = value.as_tensor().expect("a tensor").to_vec::<f32>().expect("floats");
                floats.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            }));
        }
        let events = times.events();
        assert_eq!(events.iter().filter(|event| event.op == self.op).count(), self.layers);
        let beside = events.windows(2).filter(|pair| pair[0].start == pair[1].start).count();
        (all, beside)
    }
}

const USUAL: Stack =
    Stack { op: "LSTM", layers: 2, steps: 20, batch: 1, hidden: 64, chained: false, shown: false };

#[test]
fn layers_beside_each_other_give_the_bits_of_one_thread() {
    for op in ["LSTM", "GRU", "RNN"] {
        for (layers, steps, batch, hidden) in
            [(2, 20, 1, 64), (3, 21, 1, 33), (5, 64, 1, 20), (4, 17, 3, 48), (2, 200, 2, 16), (3, 7, 5, 30)]
        {
            for shown in [false, true] {
                let stack = Stack { op, layers, steps, batch, hidden, shown, ..USUAL };
                let (want, alone) = stack.run(1);
                assert_eq!(alone, 0, "{stack:?}");
                for threads in [2, 3] {
                    let (got, beside) = stack.run(threads);
                    assert!(got == want, "{stack:?} on {threads} threads");
                    assert_eq!(beside, layers - layers.div_ceil(threads), "{stack:?} on {threads} threads");
                }
            }
        }
    }
}

#[test]
fn layers_that_wait_for_each_others_ends_or_are_short_run_one_after_the_other() {
    for stack in [
        Stack { chained: true, ..USUAL },
        // Too few steps, and too many weights.
        Stack { steps: 3, ..USUAL },
        Stack { hidden: 256, ..USUAL },
    ] {
        let (want, _) = stack.run(1);
        let (got, beside) = stack.run(2);
        assert!(got == want && beside == 0, "{stack:?}: {beside}");
    }
}

#[test]
fn a_run_that_ends_early_leaves_its_session_as_it_was() {
    let stack = Stack { steps: 400, ..USUAL };
    let (session, x) = (stack.session(2), stack.x());
    let want =
        session.run([("x", &x)]).expect("runs").tensor("s1").expect("s1").to_vec::<f32>().expect("floats");
    let late = RunOptions::default().with_timeout(Duration::from_micros(100));
    for _ in 0..20 {
        if let Err(error) = session.run_with([("x", &x)], &late) {
            assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        }
        let got = session
            .run([("x", &x)])
            .expect("runs")
            .tensor("s1")
            .expect("s1")
            .to_vec::<f32>()
            .expect("floats");
        assert!(got == want);
    }
}
