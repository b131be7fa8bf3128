//! The same steps as bodies of `Scan` and `Loop`.

use super::cells::{Kind, Weights};
use super::net::{Net, Numbers, assert_close, census};
use super::spelling::{Products, Spelling};
use super::unrolled::{DEPTH, HIDDEN, spellings};
use crate::dtype::Bool;
use crate::graph::{Dim, TensorFact, ValueId};
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Scan,
    /// Along axis 1, from the last step to the first.
    ScanBackwards,
    Loop,
    /// By a slice from `i` to `i + 1`.
    LoopSlices,
    /// From the last step to the first.
    LoopBackwards,
    /// With the extent of the sequence as number of iterations, which only the run tells.
    LoopDynamic,
}

const BATCH: usize = 2;
const TIME: usize = 5;

/// The graph, and what it computes.
fn build(kind: Kind, spelling: Spelling, form: Form) -> (Net, Vec<Vec<f64>>) {
    let mut numbers = Numbers(7);
    let weights = Weights::new(kind, DEPTH, HIDDEN, &mut numbers);
    let mut rounded = |count: usize| -> Vec<f64> {
        numbers.many(count, 1.0).into_iter().map(|v| f64::from(v as f32)).collect()
    };
    let (x, mut h, mut c) = (rounded(TIME * BATCH * DEPTH), rounded(BATCH * HIDDEN), rounded(BATCH * HIDDEN));
    let tensor = |shape: &[usize], v: &[f64]| {
        Tensor::new(shape, v.iter().map(|&v| v as f32).collect()).expect("as many values as the shape has")
    };
    let cells = kind.gates() == 4;
    let batch_first = form == Form::ScanBackwards;
    let backwards = form == Form::ScanBackwards || form == Form::LoopBackwards;

    let mut net = Net::default();
    let x_id = if batch_first {
        let moved: Vec<f64> = (0..BATCH)
            .flat_map(|b| (0..TIME).flat_map(move |t| (0..DEPTH).map(move |d| (t * BATCH + b) * DEPTH + d)))
            .map(|at| x[at])
            .collect();
        net.input(tensor(&[BATCH, TIME, DEPTH], &moved))
    } else {
        net.input(tensor(&[TIME, BATCH, DEPTH], &x))
    };
    if form == Form::LoopDynamic {
        let dims = [Dim::symbol("time"), Dim::Known(BATCH), Dim::Known(DEPTH)];
        net.graph.values[x_id.index()].declared =
            Some(TensorFact::new(crate::DType::F32, dims.to_vec()).into());
    }
    let mut states = vec![net.input(tensor(&[BATCH, HIDDEN], &h))];
    if cells {
        states.push(net.input(tensor(&[BATCH, HIDDEN], &c)));
    }

    let mut body = Net::default();
    let looped = !matches!(form, Form::Scan | Form::ScanBackwards);
    let add = |body: &mut Net, name: &str| {
        let id = body.graph.add_value(name);
        body.graph.inputs.push(id);
        id
    };
    let control = looped.then(|| (add(&mut body, "number"), add(&mut body, "condition")));
    let inner: Vec<ValueId> = states.iter().map(|_| add(&mut body, "state")).collect();
    let given = add(&mut body, "x");
    let formal = if looped { 2 + states.len() } else { states.len() + 1 };
    let element = match (form, control) {
        (Form::LoopSlices, Some((number, _))) => {
            let (one, zero) = (body.constant(Tensor::scalar(1i64)), body.integers(&[0]));
            let next = body.op("Add", &[number, one]);
            let (start, end) = (body.op("Unsqueeze", &[number, zero]), body.op("Unsqueeze", &[next, zero]));
            let part = body.op("Slice", &[given, start, end, zero]);
            body.op("Squeeze", &[part, zero])
        }
        (Form::LoopBackwards, Some((number, _))) => {
            let last = body.constant(Tensor::scalar(TIME as i64 - 1));
            let at = body.op("Sub", &[last, number]);
            body.with("Gather", vec![("axis", Attribute::Int(0))], &[given, at], 1)[0]
        }
        (_, Some((number, _))) => {
            body.with("Gather", vec![("axis", Attribute::Int(0))], &[given, number], 1)[0]
        }
        (_, None) => given,
    };
    let c_in = inner.get(1).copied().unwrap_or(inner[0]);
    let mut constants = Spelling::constants(&weights);
    let (h_out, c_out) = spelling.step(&mut body, &mut constants, element, inner[0], c_in);
    if let Some((_, condition)) = control {
        let condition = body.op("Identity", &[condition]);
        body.output(condition);
    }
    body.output(h_out);
    if cells {
        body.output(c_out);
    }
    let seen = body.op("Identity", &[h_out]);
    body.output(seen);
    let body = Attribute::Body(Body { graph: body.graph, formal_inputs: formal });

    let outputs = states.len() + 1;
    let made = if looped {
        let trips = if form == Form::LoopDynamic {
            let shape = net.op("Shape", &[x_id]);
            let zero = net.constant(Tensor::scalar(0i64));
            net.op("Gather", &[shape, zero])
        } else {
            net.constant(Tensor::scalar(TIME as i64))
        };
        let started = net.constant(Tensor::scalar(Bool::new(true)));
        let inputs = [&[trips, started], &states[..], &[x_id]].concat();
        net.with_captures("Loop", vec![("body", body)], &inputs, 1, outputs)
    } else {
        let axis = i64::from(batch_first);
        let attributes = vec![
            ("body", body),
            ("num_scan_inputs", Attribute::Int(1)),
            ("scan_input_axes", Attribute::Ints(vec![axis])),
            ("scan_input_directions", Attribute::Ints(vec![axis])),
        ];
        net.with("Scan", attributes, &[&states[..], &[x_id]].concat(), outputs)
    };
    made.into_iter().for_each(|id| net.output(id));

    let mut seen = Vec::new();
    for step in 0..TIME {
        let at = if backwards { TIME - 1 - step } else { step };
        for b in 0..BATCH {
            let row = &x[(at * BATCH + b) * DEPTH..(at * BATCH + b + 1) * DEPTH];
            let mut state = h[b * HIDDEN..(b + 1) * HIDDEN].to_vec();
            weights.step(row, &mut state, &mut c[b * HIDDEN..(b + 1) * HIDDEN]);
            h[b * HIDDEN..(b + 1) * HIDDEN].copy_from_slice(&state);
        }
        seen.extend_from_slice(&h);
    }
    let mut expected = vec![h];
    if cells {
        expected.push(c);
    }
    expected.push(seen);
    (net, expected)
}

#[test]
fn bodies_become_operators() {
    for (name, kind, spelling) in spellings() {
        if spelling.products == Products::Ahead {
            continue;
        }
        for form in [
            Form::Scan,
            Form::ScanBackwards,
            Form::Loop,
            Form::LoopSlices,
            Form::LoopBackwards,
            Form::LoopDynamic,
        ] {
            let what = format!("{name}, {form:?}");
            let (net, expected) = build(kind, spelling, form);
            assert_close(&net.run(net.simplified(false)), &expected, 2e-5, &format!("as written: {what}"));
            let graph = net.simplified(true);
            let counts = census(&graph);
            assert_close(&net.run(graph), &expected, 2e-5, &what);
            assert_eq!(counts.get(kind.operator()), Some(&1), "{counts:?} for {what}");
            assert_eq!(counts.get("Scan").or(counts.get("Loop")), None, "{counts:?} for {what}");
        }
    }
}
