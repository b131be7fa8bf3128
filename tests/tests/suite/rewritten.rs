//! Rewrites that cut a batch or large products are taken where times say that they gain, and told by their names.

use crate::planned::{agree, engine, load, output, profiled};
use recurve::Tensor;
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
                *lane = recurve::profiles::Measured { median_us: us, min_us: us, p90_us: us, runs: 5 };
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
