//! Several layers, one or both directions each, whose steps are bodies of `Scan` and `Loop`.

use super::cells::{Kind, Weights};
use super::net::{Net, Numbers, assert_close, census};
use super::spelling::{Products, Spelling};
use super::unrolled::{DEPTH, HIDDEN, spellings};
use crate::dtype::Bool;
use crate::graph::ValueId;
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;

const BATCH: usize = 2;
const TIME: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Scan,
    Loop,
    /// A Loop that writes its states into a tensor.
    Scattered,
}

/// One direction of one layer: hidden states of all steps, `[time, batch, hidden]`.
fn direction(
    net: &mut Net,
    form: Form,
    spelling: Spelling,
    weights: &Weights,
    x: ValueId,
    backwards: bool,
) -> ValueId {
    let states = if weights.kind.gates() == 4 { 2 } else { 1 };
    let mut body = Net::default();
    let add = |body: &mut Net, name: &str| {
        let id = body.graph.add_value(name);
        body.graph.inputs.push(id);
        id
    };
    let control = (form != Form::Scan).then(|| (add(&mut body, "number"), add(&mut body, "condition")));
    let inner: Vec<ValueId> = (0..states).map(|_| add(&mut body, "state")).collect();
    let all = (form == Form::Scattered).then(|| add(&mut body, "all"));
    let formal = body.graph.inputs.len() + usize::from(form == Form::Scan);
    let given = add(&mut body, "x");
    let (element, at) = match control {
        None => (given, None),
        Some((number, condition)) => {
            let last = body.constant(Tensor::scalar(TIME as i64 - 1));
            let at = if backwards { body.op("Sub", &[last, number]) } else { number };
            let condition = body.op("Identity", &[condition]);
            body.output(condition);
            (body.with("Gather", vec![("axis", Attribute::Int(0))], &[given, at], 1)[0], Some(at))
        }
    };
    let mut constants = Spelling::constants(weights);
    let (h, c) = spelling.step(&mut body, &mut constants, element, inner[0], inner[states - 1]);
    body.output(h);
    if states == 2 {
        body.output(c);
    }
    match (all, at) {
        (Some(all), Some(at)) => {
            let (pair, zero) = (body.integers(&[1, 1]), body.integers(&[0]));
            let (at, part) = (body.op("Reshape", &[at, pair]), body.op("Unsqueeze", &[h, zero]));
            let written = body.op("ScatterND", &[all, at, part]);
            body.output(written);
        }
        _ => {
            let seen = body.op("Identity", &[h]);
            body.output(seen);
        }
    }
    let body = Attribute::Body(Body { graph: body.graph, formal_inputs: formal });
    let zeros = net.floats(&[BATCH, HIDDEN], &[0.0; BATCH * HIDDEN]);
    let mut inputs = vec![zeros; states];
    if form == Form::Scan {
        inputs.push(x);
        let ways = vec![i64::from(backwards)];
        let attributes = vec![
            ("body", body),
            ("num_scan_inputs", Attribute::Int(1)),
            ("scan_input_directions", Attribute::Ints(ways.clone())),
            ("scan_output_directions", Attribute::Ints(ways)),
        ];
        return net.with("Scan", attributes, &inputs, states + 1)[states];
    }
    let (trips, started) =
        (net.constant(Tensor::scalar(TIME as i64)), net.constant(Tensor::scalar(Bool::new(true))));
    inputs.splice(0..0, [trips, started]);
    if form == Form::Scattered {
        inputs.push(net.floats(&[TIME, BATCH, HIDDEN], &[0.0; TIME * BATCH * HIDDEN]));
    }
    inputs.push(x);
    let y = net.with_captures("Loop", vec![("body", body)], &inputs, 1, states + 1)[states];
    if !backwards || form == Form::Scattered {
        return y;
    }
    let bounds = [-1, i64::MIN + 1, 0, -1].map(|bound| net.integers(&[bound]));
    net.op("Slice", &[y, bounds[0], bounds[1], bounds[2], bounds[3]])
}

/// What the direction computes.
fn expected(weights: &Weights, x: &[f64], depth: usize, backwards: bool) -> Vec<f64> {
    let mut y = vec![0.0; TIME * BATCH * HIDDEN];
    for b in 0..BATCH {
        let (mut h, mut c) = ([0.0; HIDDEN], [0.0; HIDDEN]);
        for step in 0..TIME {
            let row = (if backwards { TIME - 1 - step } else { step }) * BATCH + b;
            weights.step(&x[row * depth..(row + 1) * depth], &mut h, &mut c);
            y[row * HIDDEN..(row + 1) * HIDDEN].copy_from_slice(&h);
        }
    }
    y
}

#[test]
fn layers_and_directions_of_bodies_each_become_one() {
    let all = spellings();
    for kind in [Kind::Lstm, Kind::Gru, Kind::Rnn] {
        let spelling =
            all.iter().find(|s| s.1 == kind && s.2.products != Products::Ahead).expect("a spelling").2;
        let spelling = Spelling { lies: super::lies::Lies::Rows, ..spelling };
        for form in [Form::Scan, Form::Loop, Form::Scattered] {
            for (layers, both) in [(1, false), (1, true), (2, false), (2, true), (3, false), (3, true)] {
                let what = format!("{layers} layers of {kind:?}, both directions: {both}, {form:?}");
                let (mut net, mut numbers) = (Net::default(), Numbers(5));
                let mut values: Vec<f64> = numbers.many(TIME * BATCH * DEPTH, 1.0);
                values.iter_mut().for_each(|v| *v = f64::from(*v as f32));
                let given = values.iter().map(|&v| v as f32).collect();
                let mut x = net.input(Tensor::new(&[TIME, BATCH, DEPTH], given).expect("fits"));
                let mut depth = DEPTH;
                for _ in 0..layers {
                    let ways: &[bool] = if both { &[false, true] } else { &[false] };
                    let (mut parts, mut wanted) = (Vec::new(), Vec::new());
                    for &backwards in ways {
                        let weights = Weights::new(kind, depth, HIDDEN, &mut numbers);
                        parts.push(direction(&mut net, form, spelling, &weights, x, backwards));
                        wanted.push(expected(&weights, &values, depth, backwards));
                    }
                    x = match parts[..] {
                        [y] => y,
                        _ => net.with("Concat", vec![("axis", Attribute::Int(2))], &parts, 1)[0],
                    };
                    let row = |r: usize| wanted.iter().flat_map(move |y| &y[r * HIDDEN..(r + 1) * HIDDEN]);
                    values = (0..TIME * BATCH).flat_map(row).copied().collect();
                    depth = ways.len() * HIDDEN;
                }
                net.output(x);
                let written = net.run(net.simplified(false));
                assert_close(&written, std::slice::from_ref(&values), 2e-5, &format!("as written: {what}"));
                let graph = net.simplified(true);
                let counts = census(&graph);
                assert_close(&net.run(graph), &[values], 2e-5, &what);
                let operators = layers * if both { 2 } else { 1 };
                assert_eq!(counts.get(kind.operator()), Some(&operators), "{counts:?} for {what}");
                assert_eq!(counts.get("Scan").or(counts.get("Loop")), None, "{counts:?} for {what}");
            }
        }
    }
}
