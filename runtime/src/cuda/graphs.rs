//! Launches are captured once for each shape that a program is bound to, and go to the GPU as one graph from then on.

use super::OpenGpu;
use super::program::BINDINGS;
use super::watched::{Told, WatchedGpu};
use crate::device::Device;
use crate::engine::Engine;
use crate::{Session, Tensor};

const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/gru.onnx"));

/// What a run gave the GPU.
#[derive(PartialEq, Eq, Debug)]
enum Given {
    /// Kernels one by one, which were then captured.
    Captured,
    /// One graph.
    Graph,
}

/// Runs with a batch of `rows`.
fn run(session: &Session, told: &Told, rows: usize) -> (Given, Vec<u8>) {
    let (launches, graphs) = (told.launches(), told.graphs());
    let values = (0..3 * rows * 2).map(|i| i as f32 / 30.0 - 0.5).collect();
    let x = Tensor::new(&[3, rows, 2], values).expect("a tensor");
    let outputs = session.run([("x", &x)]).expect("runs");
    let bytes = outputs.iter().flat_map(|(_, value)| value.as_tensor().expect("a tensor").bytes().to_vec());
    let launched = told.launches() - launches;
    let [captured, replayed] = [told.graphs()[0] - graphs[0], told.graphs()[1] - graphs[1]];
    let given = match (launched, captured, replayed) {
        (2.., 1, 0) => Given::Captured,
        (0, 0, 1) => Given::Graph,
        other => panic!("kernels, captures and graphs of a run: {other:?}"),
    };
    (given, bytes.collect())
}

#[test]
fn every_run_but_the_first_of_a_shape_launches_one_graph_and_the_latest_shapes_are_kept() {
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
    let session = builder.load_bytes(MODEL).expect("loads");
    let first: Vec<Vec<u8>> = (1..=BINDINGS)
        .map(|rows| {
            let (given, bytes) = run(&session, &told, rows);
            assert_eq!(given, Given::Captured, "{rows}");
            bytes
        })
        .collect();
    for rows in 1..=BINDINGS {
        let again = run(&session, &told, rows);
        assert_eq!(again, (Given::Graph, first[rows - 1].clone()), "{rows}");
    }
    // One more shape takes the place of the one that was not used for longest.
    assert_eq!(run(&session, &told, BINDINGS + 1).0, Given::Captured);
    assert_eq!(run(&session, &told, 2).0, Given::Graph);
    assert_eq!(run(&session, &told, 1), (Given::Captured, first[0].clone()));
}
