//! The same steps as bodies of `Scan` and `Loop`.

use super::super::build;
use super::cells::{Kind, Weights};
use super::lies::Lies;
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
    /// The hidden states are written into a tensor at the number of the iteration, by ScatterND.
    LoopScatter,
    /// The same with a list of one coordinate, counted from the last step to the first.
    LoopScatterBackwards,
    /// The same by ScatterElements.
    LoopScatterElements,
    /// They are put behind those of before.
    LoopConcat,
    /// They are put before those of before.
    LoopConcatBackwards,
    /// Scan of opset 8, one row of the batch at a time.
    Batched,
    /// The same from the last step to the first.
    BatchedBackwards,
}

/// The graph, and what it computes.
fn build(kind: Kind, spelling: Spelling, form: Form, batch: usize, time: usize) -> (Net, Vec<Vec<f64>>) {
    let mut numbers = Numbers(7);
    let weights = Weights::new(kind, DEPTH, HIDDEN, &mut numbers);
    let mut rounded = |count: usize| -> Vec<f64> {
        numbers.many(count, 1.0).into_iter().map(|v| f64::from(v as f32)).collect()
    };
    let (x, mut h, mut c) = (rounded(time * batch * DEPTH), rounded(batch * HIDDEN), rounded(batch * HIDDEN));
    let lies = spelling.lies;
    let cells = kind.gates() == 4;
    let batched = matches!(form, Form::Batched | Form::BatchedBackwards);
    let batch_first = form == Form::ScanBackwards;
    let backwards = matches!(form, Form::ScanBackwards | Form::LoopBackwards | Form::BatchedBackwards);
    // Steps of rows of `width`, `[time, batch, width]`, as the form wants them.
    let sequence = |width: usize, v: &[f64]| -> (Vec<usize>, Vec<f64>) {
        let step = |t: usize| &v[t * batch * width..(t + 1) * batch * width];
        let row = |b: usize, t: usize| &step(t)[b * width..(b + 1) * width];
        if batched {
            let values = (0..batch).flat_map(|b| (0..time).flat_map(move |t| row(b, t).to_vec()));
            return ([&[batch, time], &lies.shape(1, width)[..]].concat(), values.collect());
        }
        if batch_first {
            // Time lies behind the first axis.
            let mut shape = lies.shape(batch, width);
            let first = shape[0];
            shape.insert(1, time);
            let laid: Vec<Vec<f64>> = (0..time).map(|t| lies.laid(width, step(t))).collect();
            let values = (0..first).flat_map(|f| {
                laid.iter().flat_map(move |l| l.chunks(l.len() / first).nth(f).expect("a part").to_vec())
            });
            return (shape, values.collect());
        }
        let values = (0..time).flat_map(|t| lies.laid(width, step(t))).collect();
        ([&[time], &lies.shape(batch, width)[..]].concat(), values)
    };
    let state = |v: &[f64]| -> (Vec<usize>, Vec<f64>) {
        if batched {
            return ([&[batch], &lies.shape(1, HIDDEN)[..]].concat(), v.to_vec());
        }
        (lies.shape(batch, HIDDEN), lies.laid(HIDDEN, v))
    };
    let tensor = |(shape, v): (Vec<usize>, Vec<f64>)| {
        Tensor::new(&shape, v.iter().map(|&v| v as f32).collect()).expect("as many values as the shape has")
    };

    let mut net = Net::default();
    let x_id = net.input(tensor(sequence(DEPTH, &x)));
    if form == Form::LoopDynamic {
        let mut dims: Vec<Dim> = lies.shape(batch, DEPTH).into_iter().map(Dim::Known).collect();
        dims.insert(0, Dim::symbol("time"));
        net.graph.values[x_id.index()].declared = Some(TensorFact::new(crate::DType::F32, dims).into());
    }
    let mut states = vec![net.input(tensor(state(&h)))];
    if cells {
        states.push(net.input(tensor(state(&c))));
    }

    let mut body = Net::default();
    let looped = !matches!(form, Form::Scan | Form::ScanBackwards) && !batched;
    let add = |body: &mut Net, name: &str| {
        let id = body.graph.add_value(name);
        body.graph.inputs.push(id);
        id
    };
    let control = looped.then(|| (add(&mut body, "number"), add(&mut body, "condition")));
    let puts_together = matches!(
        form,
        Form::LoopScatter
            | Form::LoopScatterBackwards
            | Form::LoopScatterElements
            | Form::LoopConcat
            | Form::LoopConcatBackwards
    );
    if puts_together {
        let grows = matches!(form, Form::LoopConcat | Form::LoopConcatBackwards);
        let shape = [&[if grows { 0 } else { time }], &lies.shape(batch, HIDDEN)[..]].concat();
        states.push(net.floats(&shape, &vec![9.0; shape.iter().product()]));
    }
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
            let last = body.constant(Tensor::scalar(time as i64 - 1));
            let at = body.op("Sub", &[last, number]);
            body.with("Gather", vec![("axis", Attribute::Int(0))], &[given, at], 1)[0]
        }
        (_, Some((number, _))) => {
            body.with("Gather", vec![("axis", Attribute::Int(0))], &[given, number], 1)[0]
        }
        (_, None) => given,
    };
    let c_in = if cells { inner[1] } else { inner[0] };
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
    let seen = match control {
        Some((number, _)) if puts_together => {
            let all = inner[states.len() - 1];
            let (zero, last) = (body.integers(&[0]), body.integers(&[time as i64 - 1]));
            let part = body.op("Unsqueeze", &[h_out, zero]);
            match form {
                Form::LoopConcat | Form::LoopConcatBackwards => {
                    let parts = if form == Form::LoopConcat { [all, part] } else { [part, all] };
                    body.with("Concat", vec![("axis", Attribute::Int(0))], &parts, 1)[0]
                }
                Form::LoopScatter => {
                    let pair = body.integers(&[1, 1]);
                    let at = body.op("Reshape", &[number, pair]);
                    body.op("ScatterND", &[all, at, part])
                }
                Form::LoopScatterBackwards => {
                    let at = body.op("Sub", &[last, number]);
                    body.op("ScatterND", &[all, at, h_out])
                }
                _ => {
                    let mut shape: Vec<i64> = lies.shape(batch, HIDDEN).iter().map(|&d| d as i64).collect();
                    shape.insert(0, 1);
                    let shape = body.integers(&shape);
                    let at = body.op("Expand", &[number, shape]);
                    body.op("ScatterElements", &[all, at, part])
                }
            }
        }
        _ => body.op("Identity", &[h_out]),
    };
    body.output(seen);
    let body = Attribute::Body(Body { graph: body.graph, formal_inputs: formal });

    let outputs = states.len() + usize::from(!puts_together);
    let made = if looped {
        let trips = if form == Form::LoopDynamic {
            let shape = net.op("Shape", &[x_id]);
            let zero = net.constant(Tensor::scalar(0i64));
            net.op("Gather", &[shape, zero])
        } else {
            net.constant(Tensor::scalar(time as i64))
        };
        let started = net.constant(Tensor::scalar(Bool::new(true)));
        let inputs = [&[trips, started], &states[..], &[x_id]].concat();
        net.with_captures("Loop", vec![("body", body)], &inputs, 1, outputs)
    } else if batched {
        let attributes = vec![
            ("body", body),
            ("num_scan_inputs", Attribute::Int(1)),
            ("directions", Attribute::Ints(vec![i64::from(backwards)])),
        ];
        let inputs = [None].into_iter().chain([&states[..], &[x_id]].concat().into_iter().map(Some));
        let node = build::node_of(8, &mut net.graph, "Scan", attributes, inputs.collect(), 0, outputs);
        let node = node.expect("a valid node");
        let made = node.outputs.iter().copied().flatten().collect();
        net.graph.nodes.push(node);
        made
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
    for step in 0..time {
        let at = if backwards { time - 1 - step } else { step };
        for b in 0..batch {
            let row = &x[(at * batch + b) * DEPTH..(at * batch + b + 1) * DEPTH];
            let mut state = h[b * HIDDEN..(b + 1) * HIDDEN].to_vec();
            weights.step(row, &mut state, &mut c[b * HIDDEN..(b + 1) * HIDDEN]);
            h[b * HIDDEN..(b + 1) * HIDDEN].copy_from_slice(&state);
        }
        seen.extend_from_slice(&h);
    }
    let mut expected = vec![state(&h).1];
    if cells {
        expected.push(state(&c).1);
    }
    // Outputs are collected along the first axis, batched ones along the second.
    let collected = if batch_first {
        (0..time)
            .flat_map(|t| lies.laid(HIDDEN, &seen[t * batch * HIDDEN..(t + 1) * batch * HIDDEN]))
            .collect()
    } else {
        sequence(HIDDEN, &seen).1
    };
    let mut collected: Vec<f64> = collected;
    if matches!(form, Form::LoopScatterBackwards | Form::LoopConcatBackwards) {
        let step = collected.len() / time;
        collected = collected.chunks(step).rev().flatten().copied().collect();
    }
    expected.push(collected);
    (net, expected)
}

#[test]
fn bodies_become_operators() {
    let forms = [
        Form::Scan,
        Form::ScanBackwards,
        Form::Loop,
        Form::LoopSlices,
        Form::LoopBackwards,
        Form::LoopDynamic,
        Form::LoopScatter,
        Form::LoopScatterBackwards,
        Form::LoopScatterElements,
        Form::LoopConcat,
        Form::LoopConcatBackwards,
        Form::Batched,
        Form::BatchedBackwards,
    ];
    for (name, kind, spelling) in spellings() {
        if spelling.products == Products::Ahead {
            continue;
        }
        for form in forms {
            for (batch, time) in [(2, 5), (1, 1), (8, 1), (1, 2), (8, 2), (1, 16), (8, 16), (1, 64), (8, 64)]
            {
                // The steps of one element of the batch at a time have no batch.
                let batched = matches!(form, Form::Batched | Form::BatchedBackwards);
                let alone = spelling.lies == Lies::Vector && !batched;
                if alone && batch > 1 {
                    continue;
                }
                let what = format!("{name}, {form:?}, batch {batch}, {time} steps");
                let (net, expected) = build(kind, spelling, form, batch, time);
                if time < 10 {
                    let written = net.run(net.simplified(false));
                    assert_close(&written, &expected, 2e-5, &format!("as written: {what}"));
                }
                let graph = net.simplified(true);
                let counts = census(&graph);
                assert_close(&net.run(graph), &expected, 2e-5, &what);
                assert_eq!(counts.get(kind.operator()), Some(&1), "{counts:?} for {what}");
                assert_eq!(counts.get("Scan").or(counts.get("Loop")), None, "{counts:?} for {what}");
            }
        }
    }
}
