//! Rewrites that cut a batch, large products or sequences are taken where times say that they gain, and told by their names.

use crate::branches::{Extents, stacked};
use crate::planned::{agree, engine, input, load, output, profiled, shapes};
use recurve::Tensor;
use recurve::plans::{Plan, PlannedStep};
use recurve::profiles::{Handover, Measured, Profile};
use recurve_tests::wire::{code, fixed, floats, graph, model, node, untyped};

/// Two dense layers: `[4, 300] · [300, 512]` with a bias and an activation, then `· [512, 300]`.
fn dense() -> Vec<u8> {
    let drawn = |count: usize, by: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 29 + by) % 31) as f32 / 310.0 - 0.05).collect()
    };
    let weights = [
        floats("w", &[300, 512], &drawn(300 * 512, 3)),
        floats("b", &[512], &drawn(512, 5)),
        floats("v", &[512, 300], &drawn(300 * 512, 7)),
    ];
    let nodes = [
        node("MatMul", &["x", "w"], &["p"]),
        node("Add", &["p", "b"], &["q"]),
        node("Relu", &["q"], &["r"]),
        node("MatMul", &["r", "v"], &["y"]),
    ];
    model(&graph(&[fixed("x", code::F32, &[4, 300])], &[untyped("y")], &nodes, &weights)).into_bytes()
}

#[test]
fn halves_and_columns_are_taken_where_they_gain_and_nowhere_else() {
    let data = (0..1200).map(|i| ((i * 31) % 23) as f32 / 23.0 - 0.5).collect();
    let x = Tensor::new(&[4, 300], data).expect("a tensor");
    let want = output(&load(&engine(1), dense()), &x);
    let session = load(&engine(2), dense());
    let measured = profiled(&session, &x);
    let of = [("x", [4, 300])];
    // Layers take as long on both threads as on one; parts of them as told.
    let times = |halves: f64, columns: f64| {
        let mut profile = measured.clone();
        for (signature, cost) in &mut profile.operators {
            let us = match signature {
                s if s.contains("float32[2,300] const") || s.contains("float32[2,512] const") => halves,
                s if ["300,256", "512,144", "512,156"]
                    .iter()
                    .any(|of| s.contains(&format!("const float32[{of}]"))) =>
                {
                    columns
                }
                s if s.contains("const float32[300,512]") || s.contains("const float32[512,300]") => 1e6,
                _ => 1.0,
            };
            for lane in cost.lanes.values_mut() {
                *lane = Measured { median_us: us, min_us: us, p90_us: us, runs: 5 };
            }
        }
        profile
    };
    for (halves, columns, taken) in [
        (1e6, 1e6, "none"),
        (6e5, 1e6, "batch halves"),
        (1e6, 6e5, "columns 2"),
        (6e5, 4e5, "columns 2"),
        (4e5, 6e5, "batch halves"),
    ] {
        let plan = session.plan(of, &times(halves, columns)).expect("planned").plan;
        assert_eq!(plan.rewrite, taken, "{halves} and {columns}\n{plan}");
        session.follow(&plan).expect("valid");
        assert_eq!(session.followed(of).as_deref(), Some(taken));
        agree(&output(&session, &x), &want, taken, taken);
        assert!(plan.to_string().contains(taken), "{plan}");
    }
}

const LAYERS: usize = 4;
const STEPS: usize = 64;

/// What layers and pieces of them take, in microseconds.
#[derive(Clone, Copy)]
struct Layered {
    /// Each, however long its sequence.
    begin: f64,
    /// Each step.
    step: f64,
    /// Both threads together, as a part of what one takes.
    together: f64,
}

/// The profile with such times of the recurrences; all else takes next to nothing, and so does handing over.
fn layered(mut profile: Profile, of: Layered) -> Profile {
    let time = |us: f64| Measured { median_us: us, min_us: us, p90_us: us, runs: 5 };
    for handover in profile.handover.values_mut() {
        *handover = Handover { phase: time(0.1), flag: time(0.1), wake: time(0.1) };
    }
    for (signature, cost) in &mut profile.operators {
        let steps = signature.strip_prefix("LSTM float32[").and_then(|rest| rest.split(',').next());
        let steps = steps.map(|steps| steps.parse::<f64>().expect("a number of steps"));
        for (lane, measured) in &mut cost.lanes {
            *measured = time(match (steps, lane.as_str()) {
                (Some(steps), "cpu:2") => (of.begin + steps * of.step) * of.together,
                (Some(steps), _) => of.begin + steps * of.step,
                (None, _) => 0.1,
            });
        }
    }
    profile
}

/// The pieces of each layer, in the order in which they begin.
fn pieces(plan: &Plan) -> Vec<Vec<&PlannedStep>> {
    let mut layers: Vec<(String, Vec<&PlannedStep>)> = Vec::new();
    for step in plan.steps.iter().filter(|step| step.op == "LSTM") {
        let name = step.name.split('/').next().expect("a name").to_owned();
        match layers.iter_mut().find(|(layer, _)| *layer == name) {
            Some((_, pieces)) => pieces.push(step),
            None => layers.push((name, vec![step])),
        }
    }
    let mut layers: Vec<Vec<&PlannedStep>> = layers.into_iter().map(|(_, pieces)| pieces).collect();
    for layer in &mut layers {
        layer.sort_by(|a, b| a.start_us.total_cmp(&b.start_us));
    }
    layers
}

#[test]
fn layers_become_a_wave_of_pieces_where_that_gains_and_nowhere_else() {
    let of = Extents { time: STEPS, batch: 1, hidden: 16 };
    let x = input(of, 1);
    let want = output(&load(&engine(1), stacked(of, LAYERS)), &x);
    let session = load(&engine(2), stacked(of, LAYERS));
    let measured = profiled(&session, &x);
    let plan = |of_layers: Layered| {
        let profile = layered(measured.clone(), of_layers);
        let plan = session.plan(shapes(of), &profile).expect("planned").plan;
        session.follow(&plan).expect("valid");
        assert_eq!(session.followed(shapes(of)), Some(plan.rewrite.clone()));
        assert_eq!(output(&session, &x), want, "{plan}");
        plan
    };
    let whole = (LAYERS * STEPS) as f64;

    // Both threads are no faster than one, and pieces cost their steps: half the time, and what the wave begins and ends with.
    let wave = plan(Layered { begin: 0.0, step: 1.0, together: 1.0 });
    assert_eq!(wave.rewrite, "pieces 8", "{wave}");
    assert!(wave.predicted_us < 0.6 * whole && wave.predicted_us >= 0.5 * whole, "{wave}");
    let layers = pieces(&wave);
    assert_eq!(layers.iter().map(Vec::len).collect::<Vec<_>>(), [8; LAYERS]);
    for both in layers.windows(2) {
        // A layer begins while the one below is at work, and no piece of it before the piece that it reads.
        let last = both[0].last().expect("a piece");
        assert!(both[1][0].start_us < last.start_us, "{wave}");
        for (below, above) in both[0].iter().zip(&both[1]) {
            assert!(above.start_us >= below.start_us + below.cost_us, "{wave}");
        }
    }
    for worker in ["cpu0", "cpu1"] {
        let busy = layers.iter().flatten().filter(|piece| piece.place == worker).map(|piece| piece.cost_us);
        assert!(busy.sum::<f64>() > 0.4 * whole, "{worker}\n{wave}");
    }

    // Fewer where each costs five steps more: 8 a layer take 221 at least, 4 take 189, 2 take 185.
    let fewer = plan(Layered { begin: 5.0, step: 1.0, together: 1.0 });
    assert!(["pieces 2", "pieces 4"].contains(&&*fewer.rewrite), "{fewer}");
    assert!(fewer.predicted_us > wave.predicted_us && fewer.predicted_us < 0.9 * whole, "{fewer}");

    // None where pieces take as long as the whole, and none where both threads together take half as long: no wave is shorter.
    for none in
        [Layered { begin: 64.0, step: 0.0, together: 1.0 }, Layered { begin: 0.0, step: 1.0, together: 0.5 }]
    {
        let plan = plan(none);
        assert_eq!(plan.rewrite, "none", "{plan}");
        assert_eq!(pieces(&plan).iter().map(Vec::len).collect::<Vec<_>>(), [1; LAYERS]);
    }
}
