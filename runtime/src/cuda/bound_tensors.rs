//! Runs whose inputs and outputs lie where the emulated GPU reads and writes them: what is copied, and what comes out.

use super::watched::{Failure, Told, WatchedGpu};
use super::{GpuTensor, Memory, OpenGpu};
use crate::device::{Device, Fallback};
use crate::dtype::DType;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::exec::{CancelToken, Interrupt};
use crate::memory::Budget;
use crate::testing::random_plan;
use crate::{Outputs, RunOptions, Session, Tensor};
use std::time::{Duration, Instant};

const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
const STATE: usize = 128;

fn engine(threads: usize) -> (Engine, Told) {
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(threads).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    (engine, told)
}

fn on_gpu(engine: &Engine, model: impl Into<bytes::Bytes>) -> Session {
    let builder = Session::builder().with_engine(engine).with_device(Device::Emulated);
    builder.load_bytes(model).expect("loads")
}

const SHAPES: [(&str, &[usize]); 3] = [("question", &[1, 1]), ("h", &[1, 1, STATE]), ("c", &[1, 1, STATE])];

/// A session whose plans use both.
fn on_both(engine: &Engine, fallback: Fallback) -> Session {
    let devices = "cpu,emulated".parse().expect("devices");
    let builder = Session::builder().with_engine(engine).with_devices(devices).with_fallback(fallback);
    builder.load_bytes(MODEL).expect("loads")
}

fn state(engine: &Engine) -> GpuTensor {
    let shape = [1, 1, STATE];
    engine.gpu_tensor(Device::Emulated, DType::F32, &shape, Memory::Device).expect("memory")
}

fn question(token: i64) -> Tensor {
    Tensor::new(&[1, 1], vec![token]).expect("a tensor")
}

/// "12+345", then more than the model was made for.
const TOKENS: [i64; 12] = [1, 2, 10, 3, 4, 5, 10, 7, 0, 10, 9, 9];

fn floats(tensor: &GpuTensor) -> Vec<f32> {
    tensor.read().expect("free").to_vec().expect("floats")
}

fn answer(outputs: &Outputs) -> Vec<i64> {
    outputs.tensor("answer").expect("there").to_vec().expect("integers")
}

/// What a stream on the CPU answers to each token, and its states behind it.
fn expected() -> Vec<(Vec<i64>, [Vec<f32>; 2])> {
    let session = Session::builder().with_threads(1).load_bytes(MODEL).expect("loads");
    let mut stream = session.stream().expect("it has a state");
    let runs = TOKENS.map(|token| {
        let outputs = stream.run([("question", &question(token))]).expect("runs");
        let state = |name| stream.state(name).and_then(|value| value.as_tensor()?.to_vec()).expect("floats");
        (answer(&outputs), [state("h"), state("c")])
    });
    runs.into()
}

fn check_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{what}: {apart}");
}

#[test]
fn a_state_that_stays_on_the_device_is_that_of_the_cpu_and_no_byte_of_it_passes_through_the_host() {
    let (engine, told) = engine(1);
    let session = on_gpu(&engine, MODEL);
    let (h, c) = (state(&engine), state(&engine));
    for (at, (token, (want, states))) in TOKENS.into_iter().zip(expected()).enumerate() {
        let token = question(token);
        let binding = session.io_binding().input("question", &token).input("h", &h).input("c", &c);
        let binding = binding.output("h_out", &h).output("c_out", &c);
        let (launches, graphs) = (told.launches(), told.graphs());
        told.take_copies();
        let outputs = binding.run().expect("runs");
        let mut copies = told.take_copies();
        if at > 0 {
            // The weights are there, and the launches of the first run are captured.
            copies.sort_unstable();
            assert_eq!(copies, [8, 40, 512, 512, 512, 512], "each input and output once");
            assert_eq!(told.launches() - launches, 0);
            assert_eq!(told.graphs()[0], graphs[0]);
            assert!(told.graphs()[1] > graphs[1]);
        }
        assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["answer"]);
        assert!(outputs.host_copies().is_empty(), "{:?}", outputs.host_copies());
        assert_eq!(answer(&outputs), want, "token {at}");
        check_close(&floats(&h), &states[0], "h");
        check_close(&floats(&c), &states[1], "c");
    }
    assert!(session.host_trips().is_empty());
}

#[test]
fn pinned_tensors_and_tensors_on_the_device_are_one_to_the_model() {
    let (engine, told) = engine(1);
    let session = on_gpu(&engine, MODEL);
    let pinned = |shape: &[usize]| engine.gpu_tensor(Device::Emulated, DType::I64, shape, Memory::Pinned);
    let (asked, said) = (pinned(&[1, 1]).expect("memory"), pinned(&[5, 1]).expect("memory"));
    let (h, c) = (state(&engine), state(&engine));
    let binding = session.io_binding().input("question", &asked).input("h", &h).input("c", &c);
    let binding = binding.output("h_out", &h).output("c_out", &c).output("answer", &said);
    for (token, (want, _)) in TOKENS.into_iter().zip(expected()) {
        asked.write(&question(token)).expect("free");
        told.take_copies();
        let outputs = binding.run().expect("runs");
        assert!(told.take_copies().ends_with(&[40, 512, 512]), "what comes out, each once");
        assert!(outputs.is_empty() && outputs.host_copies().is_empty());
        assert_eq!(said.read().expect("free").to_vec::<i64>().expect("integers"), want);
    }
}

#[test]
fn along_plans_over_both_a_state_stays_where_it_is_unless_a_thread_needs_it() {
    let (engine, told) = engine(2);
    let session = on_both(&engine, Fallback::Deny);
    let expected = expected();
    let [mut through, mut direct, mut replayed] = [0; 3];
    for seed in 0..20 {
        let plan = random_plan(&session, SHAPES, seed).expect("a plan");
        if plan.device.as_ref().is_none_or(|device| device.steps.is_empty()) {
            continue;
        }
        session.follow(&plan).expect("valid");
        // The states change places with every run, and are overwritten in place by every third.
        let mut places = [[state(&engine), state(&engine)], [state(&engine), state(&engine)]];
        for (at, (token, (want, states))) in TOKENS.into_iter().zip(&expected).take(7).enumerate() {
            let token = question(token);
            let [[h, c], others] = &places;
            let [to_h, to_c] = if at % 3 == 2 { [h, c] } else { [&others[0], &others[1]] };
            let binding = session.io_binding().input("question", &token).input("h", h).input("c", c);
            let replays = told.graphs()[1];
            let outputs = binding.output("h_out", to_h).output("c_out", to_c).run().expect("runs");
            replayed += usize::from(told.graphs()[1] > replays);
            assert_eq!(&answer(&outputs), want, "token {at}\n{plan}");
            check_close(&floats(to_h), &states[0], "h");
            check_close(&floats(to_c), &states[1], "c");
            assert!(outputs.host_copies().iter().all(|copy| copy.bytes == 4 * STATE));
            through += outputs.host_copies().len();
            direct += 4 - outputs.host_copies().len();
            if at % 3 != 2 {
                places.reverse();
            }
        }
    }
    assert!(through > 20 && direct > 20, "{through} passed through the host, {direct} did not");
    assert!(replayed > 20, "{replayed} runs launched graphs");
}

/// Bytes of a field of a message.
fn field(number: u8, content: impl Into<Vec<u8>>) -> Vec<u8> {
    let content = content.into();
    let mut bytes = vec![(number << 3) | 2, content.len() as u8];
    assert!(content.len() < 128, "one byte tells of more than it can");
    bytes.extend(content);
    bytes
}

/// A model: `twice` = x + x, `same` = x, and `fixed`, a constant; all of one element.
fn passing() -> Vec<u8> {
    let form = field(1, [vec![8, 1], field(2, field(1, [8u8, 1]))].concat());
    let value = |name: &str| [field(1, name), field(2, form.clone())].concat();
    let node = |op: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, *name)).collect();
        field(1, [inputs, field(2, output), field(4, op)].concat())
    };
    let constant = [vec![8, 1, 16, 1], field(8, "k"), field(9, 5f32.to_le_bytes())].concat();
    let mut graph = [node("Add", &["x", "x"], "twice"), node("Identity", &["x"], "same")].concat();
    graph.extend(node("Identity", &["k"], "fixed"));
    graph.extend([field(2, "g"), field(5, constant), field(11, value("x"))].concat());
    ["twice", "same", "fixed"].iter().for_each(|name| graph.extend(field(12, value(name))));
    let count = vec![(7 << 3) | 2, (graph.len() & 127) as u8 | 128, (graph.len() >> 7) as u8];
    [vec![8, 8], count, graph, field(8, [16u8, 17])].concat()
}

#[test]
fn what_is_handed_on_is_what_the_input_was_though_another_output_takes_its_place() {
    let (engine, _) = engine(1);
    let session = on_gpu(&engine, passing());
    let one = || engine.gpu_tensor(Device::Emulated, DType::F32, &[1], Memory::Device).expect("memory");
    let (x, same, fixed) = (one(), one(), one());
    x.write(&Tensor::new(&[1], vec![3f32]).expect("a tensor")).expect("free");
    let binding = session.io_binding().input("x", &x).output("twice", &x);
    let binding = binding.output("same", &same).output("fixed", &fixed);
    for run in 0..4 {
        let outputs = binding.run().expect("runs");
        let before = 3.0 * 2f32.powi(run);
        assert_eq!([floats(&x), floats(&same), floats(&fixed)].concat(), [2.0 * before, before, 5.0]);
        let copies = outputs.host_copies().iter().map(|copy| (copy.role, &*copy.name, copy.bytes));
        assert_eq!(copies.collect::<Vec<_>>(), [("output", "fixed", 4)], "a constant is the host's");
    }
    // Without a tensor for it the host needs the input.
    let outputs = session.io_binding().input("x", &x).output("twice", &x).run().expect("runs");
    assert_eq!(outputs.tensor("same").expect("there").to_vec::<f32>(), Some(vec![48.0]));
    assert_eq!(floats(&x), [96.0]);
    assert_eq!(outputs.host_copies().iter().map(|copy| copy.role).collect::<Vec<_>>(), ["input"]);
}

/// The words of what is wrong with the call.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

#[test]
fn transfers_of_a_run_that_is_interrupted_end_between_pieces() {
    let (engine, told) = engine(1);
    let tensor = engine.gpu_tensor(Device::Emulated, DType::F32, &[600_000], Memory::Device).expect("memory");
    let token = CancelToken::new();
    token.cancel();
    let cancelled = Interrupt { deadline: None, cancel: Some(token) };
    let late = Interrupt { deadline: Some(Instant::now()), cancel: None };
    told.take_copies();
    for (interrupt, kind) in [(&cancelled, ErrorKind::Cancelled), (&late, ErrorKind::Deadline)] {
        let read = tensor.lease(false).expect("free").read(&Budget::unlimited(), interrupt);
        assert_eq!(read.expect_err("it is over").kind(), kind);
        let ones = Tensor::new(&[600_000], vec![1f32; 600_000]).expect("a tensor");
        let written = tensor.lease(true).expect("free").write(ones.view(), interrupt);
        assert_eq!(written.expect_err("it is over").kind(), kind);
    }
    assert!(told.take_copies().is_empty(), "nothing passed");
    let zeros = tensor.lease(false).expect("free").read(&Budget::unlimited(), &Interrupt::default());
    assert!(zeros.expect("in time").to_vec::<f32>().expect("floats").iter().all(|&v| v == 0.0));
}

#[test]
fn what_does_not_fit_is_told_before_anything_runs() {
    let (engine, told) = engine(1);
    let (gpu, _) = WatchedGpu::new(1 << 20);
    engine.use_gpu(Device::Cuda(0), OpenGpu::new(Box::new(gpu), usize::MAX));
    let session = on_gpu(&engine, MODEL);
    let (h, c, token) = (state(&engine), state(&engine), question(1));
    let make = |device, dtype, shape: &[usize]| engine.gpu_tensor(device, dtype, shape, Memory::Device);
    let whole = || session.io_binding().input("question", &token).input("c", &c);
    let of = |tensor: &GpuTensor| refusal(whole().input("h", tensor).run());
    let launches = told.launches();
    let elsewhere = make(Device::Cuda(0), DType::F32, &[1, 1, STATE]).expect("memory");
    assert!(of(&elsewhere).contains("lies on cuda:0; the session runs on emulated"));
    let other = self::engine(1).0;
    assert!(of(&state(&other)).contains("belongs to another engine"));
    assert!(
        of(&make(Device::Emulated, DType::F64, &[1, 1, STATE]).expect("memory"))
            .contains("is float64; float32 is expected")
    );
    assert!(of(&make(Device::Emulated, DType::F32, &[1, 1, 7]).expect("memory")).contains("[1, 1, 7]"));
    let right = || whole().input("h", &h);
    assert!(refusal(right().input("h", &c).run()).contains("is given twice"));
    assert!(refusal(right().input("hh", &h).run()).contains("is not one of the model's"));
    assert!(refusal(whole().run()).contains("is missing"));
    assert!(refusal(right().output("hh", &h).run()).contains("is not one of the model's"));
    assert!(refusal(right().output("h_out", &h).output("h_out", &c).run()).contains("is given twice"));
    let shared = right().output("h_out", &h).output("c_out", &h.clone());
    assert!(refusal(shared.run()).contains("has the memory of another output"));
    let wrong = make(Device::Emulated, DType::I64, &[7, 7]).expect("memory");
    assert!(refusal(right().output("h_out", &wrong).run()).contains("is int64"));
    assert!(refusal(right().output("answer", &wrong).run()).contains("[7, 7]"));
    // Several at once.
    let several = refusal(session.io_binding().input("c", &elsewhere).output("h_out", &wrong).run());
    assert!(several.starts_with("4 arguments do not fit"), "{several}");
    {
        let _writes = h.lease(true).expect("free");
        assert!(of(&h).contains("is in use"));
        assert!(refusal(h.read()).contains("is in use"));
    }
    {
        let _reads = h.lease(false).expect("free");
        assert!(refusal(right().output("h_out", &h).run()).contains("is in use"));
        assert!(
            refusal(h.write(&Tensor::new(&[1, 1, STATE], vec![0f32; STATE]).expect("a tensor")))
                .contains("is in use")
        );
        assert_eq!(floats(&h).len(), STATE, "others read, too");
    }
    assert!(refusal(h.write(&token)).contains("takes no int64 [1, 1]"));
    assert!(refusal(make(Device::Emulated, DType::String, &[1])).contains("`string [1]`: is text"));
    assert!(refusal(make(Device::Emulated, DType::F32, &[usize::MAX, 2])).contains("than any memory"));
    assert!(
        refusal(make(Device::Cpu, DType::F32, &[2]))
            .contains("`float32 [2]`: is made for a GPU; cpu is none")
    );
    assert_eq!(told.launches(), launches, "nothing ran");
    right().output("h_out", &h).run().expect("all is given back");
}

#[test]
fn tensors_are_free_behind_a_failure_and_stay_in_use_where_work_never_ends() {
    let (engine, told) = engine(1);
    let session = on_gpu(&engine, MODEL);
    let (h, c, token) = (state(&engine), state(&engine), question(1));
    let binding = session.io_binding().input("question", &token).input("h", &h).input("c", &c);
    let binding = binding.output("h_out", &h).output("c_out", &c);
    told.fail(Failure::Launch("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"));
    assert_eq!(binding.run().expect_err("it fails").kind(), ErrorKind::Device);
    told.fail(Failure::Panic);
    assert_eq!(binding.run().expect_err("it panics").kind(), ErrorKind::Internal);
    told.recover();
    assert_eq!(floats(&h), [0.0; STATE], "free, and as it was: nothing was written");
    binding.run().expect("runs");
    told.fail(Failure::Stuck);
    let short = RunOptions::default().with_timeout(Duration::from_millis(20));
    assert_eq!(binding.run_with(&short).expect_err("it never ends").kind(), ErrorKind::Deadline);
    told.recover();
    assert!(refusal(h.read()).contains("is in use"));
    assert!(refusal(binding.run()).contains("is in use"));
    // Others go on.
    let zeros = Tensor::new(&[1, 1, STATE], vec![0f32; STATE]).expect("a tensor");
    let outputs = session.run([("question", &token), ("h", &zeros), ("c", &zeros)]).expect("runs");
    assert_eq!(answer(&outputs), expected()[0].0);
}

#[test]
fn a_run_whose_gpu_fails_is_made_again_without_it_unless_it_overwrites_its_inputs() {
    for in_place in [false, true] {
        let (engine, told) = engine(2);
        let session = on_both(&engine, Fallback::Cpu);
        let plans = (0..30).map(|seed| random_plan(&session, SHAPES, seed).expect("a plan"));
        let most = plans.max_by_key(|plan| plan.device.as_ref().map(|device| device.steps.len()));
        session.follow(&most.expect("one")).expect("valid");
        let ([h, c], others) = ([state(&engine), state(&engine)], [state(&engine), state(&engine)]);
        let [to_h, to_c] = if in_place { [&h, &c] } else { [&others[0], &others[1]] };
        let token = question(TOKENS[0]);
        let binding = session.io_binding().input("question", &token).input("h", &h).input("c", &c);
        let binding = binding.output("h_out", to_h).output("c_out", to_c);
        told.fail(Failure::Launch("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"));
        let (want, states) = &expected()[0];
        let check = |outputs: &Outputs| {
            assert_eq!(answer(outputs), *want);
            check_close(&floats(to_h), &states[0], "h");
            assert_eq!(outputs.host_copies().len(), 4, "the CPU reads and makes all of them");
        };
        match (binding.run(), in_place) {
            (Ok(outputs), false) => check(&outputs),
            (Err(error), true) => assert_eq!(error.kind(), ErrorKind::Device, "{error}"),
            (ran, _) => panic!("{ran:?}"),
        }
        assert_eq!(session.lost_device().map(|lost| lost.device), Some(Device::Emulated));
        told.recover();
        check(&binding.run().expect("runs without the GPU"));
    }
}
