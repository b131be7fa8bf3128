//! What is copied where data decides what is launched: inputs and outputs once a run, flags, and no tensor between.

use super::OpenGpu;
use super::watched::{Told, WatchedGpu};
use crate::device::Device;
use crate::engine::Engine;
use crate::ops::OPS;
use crate::testing::bodies::BodyBuilder;
use crate::testing::{Case, written};
use crate::{Session, Tensor};

/// A model of one node on a watched GPU.
fn load(name: &str, case: &Case) -> (Session, Told) {
    let def = OPS.iter().find(|def| def.full_name() == name).expect("an operator");
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
    let session = builder.load_bytes(written(def, case).expect("a model").model).expect("loads");
    (session, told)
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::new(&[values.len()], values.to_vec()).expect("a tensor")
}

#[test]
fn rounds_copy_a_slice_for_each_that_is_collected_and_nothing_else() {
    let mut b = BodyBuilder::new();
    b.input("i");
    b.input("go");
    let held = b.input("held");
    let enough = b.constant(Tensor::new(&[1], vec![100f32]).expect("a tensor"));
    let next = b.node("Add", &[held, held]);
    let goes = b.node("Less", &[next, enough]);
    let body = b.finish(&[goes, next, held]);
    for collected in [false, true] {
        let case = Case::new([]).optional(None).optional(None).input(floats(&[1.0]));
        let case = case.with("body", body.clone()).outputs(1 + usize::from(collected));
        let (session, told) = load("Loop", &case);
        for (first, rounds) in [(1.5, 7), (60.0, 1), (0.75, 8), (1.5, 7)] {
            told.take_copies();
            let flags = session.gpu_use().map_or(0, |used| used.flag_reads);
            let outputs = session.run([("in2", &floats(&[first]))]).expect("runs");
            let end = outputs.iter().next().and_then(|(_, value)| value.as_tensor()?.to_vec::<f32>());
            assert_eq!(end, Some(vec![first * f32::powi(2.0, rounds as i32)]));
            // The input, the final state, and with them a slice of each round and once all of these.
            let mut want = vec![4, 4];
            if collected {
                want.extend(std::iter::repeat_n(4, rounds).chain([4 * rounds]));
            }
            let mut copies = told.take_copies();
            copies.sort_unstable();
            want.sort_unstable();
            assert_eq!(copies, want, "{rounds} rounds");
            let after = session.gpu_use().map_or(0, |used| used.flag_reads);
            assert_eq!(after - flags, rounds as u64);
        }
        // Four parts of a first run, and what comes behind an odd or an even number of rounds.
        let [captured, replayed] = told.graphs();
        assert!(captured <= 5 && replayed > 20, "{captured} {replayed}");
    }
}
