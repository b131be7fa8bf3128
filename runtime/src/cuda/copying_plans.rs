//! Plans over threads and the emulated GPU, whose streams are watched: copies go on beside kernels, and never past those
//! that they depend on.

use super::OpenGpu;
use super::small_layers::{SHAPE, layers};
use super::watched::{Given, Told, WatchedGpu};
use crate::device::Device;
use crate::engine::Engine;
use crate::plan::Plan;
use crate::testing::random_plan;
use crate::times::NodeTimes;
use crate::{Error, ErrorKind, Outputs, RunOptions, Session, Tensor};
use std::collections::BTreeSet;
use std::time::Duration;

const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));

fn session() -> (Session, Told) {
    session_of(MODEL)
}

fn session_of(model: &[u8]) -> (Session, Told) {
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(2).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    let devices = "cpu,emulated".parse().expect("devices");
    let builder = Session::builder().with_engine(&engine).with_devices(devices);
    (builder.load_bytes(model.to_vec()).expect("loads"), told)
}

/// Plans that use both, with copies in both directions.
fn mixed(session: &Session, seeds: std::ops::Range<u64>) -> Vec<Plan> {
    let shapes = [("question", &[3, 1][..]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])];
    let plans = seeds.map(|seed| random_plan(session, shapes, seed).expect("a plan"));
    let both = |plan: &Plan| {
        plan.device.as_ref().is_some_and(|d| d.copies.iter().any(|c| c.up) && d.copies.iter().any(|c| !c.up))
    };
    plans.filter(both).collect()
}

fn run(session: &Session, options: &RunOptions) -> Result<Outputs, Error> {
    let question = Tensor::new(&[3, 1], vec![2i64, 10, 2]).expect("a tensor");
    let state = Tensor::new(&[1, 1, 128], vec![0f32; 128]).expect("a tensor");
    session.run_with([("question", &question), ("h", &state), ("c", &state)], options)
}

fn answer(session: &Session, options: &RunOptions) -> Vec<i64> {
    let outputs = run(session, options).expect("runs");
    outputs.tensor("answer").expect("there").to_vec::<i64>().expect("integers")
}

#[test]
fn kernels_have_the_streams_of_the_plan_and_copies_their_own_where_kernels_run_beside_them() {
    let (session, told) = session();
    let [mut beside, mut alone, mut captured, mut waits, mut several, mut turns] = [0; 6];
    for plan in mixed(&session, 0..60) {
        session.follow(&plan).expect("valid");
        told.given();
        let device = plan.device.as_ref().expect("it uses one");
        let streams: BTreeSet<usize> = device.streams.iter().copied().collect();
        several += usize::from(streams.len() > 1);
        // The first run launches one by one, the second what was captured.
        for _ in 0..2 {
            assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
            let given = told.given();
            let kernels: BTreeSet<usize> =
                given.iter().filter(|(_, what)| *what == Given::Kernels).map(|(stream, _)| *stream).collect();
            assert_eq!(kernels.len(), streams.len(), "{plan}");
            let first = given.iter().position(|(_, what)| *what == Given::Kernels).expect("one");
            let is_copy = |what: &Given| matches!(what, Given::Copy | Given::Captured);
            let copies = given.iter().filter(|(_, what)| is_copy(what)).count();
            // Weights that are brought in two turns are copied between kernels, too.
            let within = device.brought.iter().filter(|weights| weights.apart).count();
            assert_eq!(copies, device.copies.len() + within, "each copy once");
            turns += within;
            for (at, (stream, what)) in given.iter().enumerate() {
                match what {
                    Given::Captured => captured += 1,
                    Given::Copy if kernels.contains(stream) => alone += 1,
                    Given::Copy => {
                        assert!(at > first, "there is nothing that it could go on beside");
                        beside += 1;
                    }
                    Given::Wait => waits += 1,
                    Given::Kernels | Given::Word | Given::Until | Given::Seen | Given::Raised => {}
                }
            }
        }
    }
    assert!(beside > 20 && alone > 20, "{beside} copies beside kernels, {alone} in their stream");
    assert!(waits >= beside / 2, "{waits} waits for {beside} copies");
    assert!(captured > 20, "{captured} copies are part of a graph");
    assert!(several > 10, "{several} plans use several streams");
    assert!(turns > 10, "{turns} copies of weights between kernels");
}

#[test]
fn the_way_to_an_idle_gpu_and_back_is_one_launch() {
    let (session, told) = session();
    let mut ways = 0;
    for plan in mixed(&session, 0..60) {
        let device = plan.device.as_ref().expect("it uses one");
        if device.streams.iter().any(|stream| *stream != device.streams[0]) {
            continue;
        }
        session.follow(&plan).expect("valid");
        (0..2).for_each(|_| {
            assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        });
        told.given();
        assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        let given: Vec<Given> = told.given().into_iter().map(|(_, what)| what).collect();
        // What was copied to the GPU ahead of the first kernels is part of their graph, unless a wait stands between.
        let first = given.iter().position(|what| *what == Given::Kernels).expect("one");
        let ahead = given[..first].iter().filter(|what| **what == Given::Copy).count();
        let graph = given[first + 1..].iter().take_while(|what| **what == Given::Captured).count();
        ways += usize::from(ahead == 0 && graph > 0);
        assert!(!given[..first].contains(&Given::Wait), "there is nothing to wait for");
    }
    assert!(ways > 5, "{ways} plans give a graph alone");
}

#[test]
fn between_what_comes_back_and_what_goes_on_with_it_nothing_is_given() {
    let (session, told) = session();
    let [mut seen, mut raised, mut held] = [0; 3];
    for plan in mixed(&session, 0..60) {
        session.follow(&plan).expect("valid");
        (0..2).for_each(|_| {
            assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        });
        told.given();
        assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        let given: Vec<Given> = told.given().into_iter().map(|(_, what)| what).collect();
        let mut hands = false;
        for (at, what) in given.iter().enumerate() {
            match what {
                Given::Seen => (hands, seen) = (true, seen + 1),
                Given::Raised => (hands, raised) = (false, raised + 1),
                _ => assert!(!hands, "{what:?} at {at} of {given:?}\n{plan}"),
            }
            held += usize::from(*what == Given::Until);
        }
    }
    assert!(seen > 20 && raised > 20, "{seen} words were seen, {raised} written");
    assert_eq!(held, raised, "what is held back is let go");
}

#[test]
fn a_run_that_ends_early_lets_go_of_what_it_gave_ahead() {
    let (session, told) = session();
    let mut ended = 0;
    for (seed, plan) in mixed(&session, 0..30).into_iter().enumerate() {
        session.follow(&plan).expect("valid");
        answer(&session, &RunOptions::default());
        told.delay(seed as u64);
        for micros in [200, 1000, 2000, 4000] {
            let short = RunOptions::default().with_timeout(Duration::from_micros(micros));
            ended += match run(&session, &short) {
                Ok(_) => 0,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Deadline, "{error:?}");
                    1
                }
            };
            assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        }
    }
    assert!(ended > 20, "{ended}");
}

/// What runs along these plans answer, kernels being late by drawn times, beside what the CPU alone does; `None` where one
/// ends with an error. Every run has another input, so that what an earlier one left behind is no answer.
fn late_answers(
    (session, told, serial): (&Session, &Told, &Session),
    seeds: std::ops::Range<u64>,
) -> Vec<(Option<Vec<f32>>, Vec<f32>)> {
    let mut answers = Vec::new();
    let plans = seeds.map(|seed| (seed, random_plan(session, [("x", SHAPE)], seed).expect("a plan")));
    for (seed, plan) in plans.filter(|(_, plan)| plan.device.is_some()) {
        session.follow(&plan).expect("valid");
        told.delay(seed);
        // The first runs launch one by one, later ones what was captured.
        for run in 0..4 {
            let count: usize = SHAPE.iter().product();
            let x = (0..count as u64).map(|at| ((seed * 31 + run * 17 + at * 7) % 23) as f32 / 12.0 - 1.0);
            let x = Tensor::new(SHAPE, x.collect::<Vec<f32>>()).expect("a tensor");
            let of = |session: &Session| session.run([("x", &x)]).ok()?.tensor("y").ok()?.to_vec::<f32>();
            answers.push((of(session), of(serial).expect("the CPU runs")));
        }
    }
    answers
}

fn is_right((got, want): &(Option<Vec<f32>>, Vec<f32>)) -> bool {
    let near = |got: &Vec<f32>| {
        got.len() == want.len() && got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-4)
    };
    got.as_ref().is_some_and(near)
}

fn layered() -> (Session, Told, Session) {
    let (session, told) = session_of(&layers());
    (session, told, Session::builder().with_threads(1).load_bytes(layers()).expect("loads"))
}

#[test]
fn streams_keep_the_order_of_what_they_share_whichever_is_late() {
    let (session, told, serial) = layered();
    let kept = late_answers((&session, &told, &serial), 100..140);
    assert!(kept.len() > 40 && kept.iter().all(is_right), "{kept:?}");
    // It is the waits that keep it.
    let (session, told, serial) = layered();
    told.forget_waits();
    let lost = late_answers((&session, &told, &serial), 100..140);
    assert!(lost.iter().filter(|answer| !is_right(answer)).count() > 3, "{lost:?}");
}

#[test]
#[ignore = "minutes: the soak job late-streams"]
fn ten_thousand_runs_end_whichever_stream_is_late() {
    let (session, told, serial) = layered();
    let (mut seed, mut runs) = (0, 0);
    while runs < 10_000 {
        let answers = late_answers((&session, &told, &serial), seed..seed + 40);
        assert!(answers.iter().all(is_right), "seeds from {seed}: {answers:?}");
        (seed, runs) = (seed + 40, runs + answers.len());
    }
}

#[test]
fn the_end_of_a_copy_is_found_without_words_too() {
    let (session, told) = session();
    for plan in mixed(&session, 60..75) {
        session.follow(&plan).expect("valid");
        told.given();
        assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
        let down = plan.device.as_ref().map_or(0, |d| d.copies.iter().filter(|c| !c.up).count());
        assert_eq!(told.given().iter().filter(|(_, what)| *what == Given::Word).count(), down);
    }
    told.forget_words();
    for plan in mixed(&session, 75..90) {
        session.follow(&plan).expect("valid");
        assert_eq!(answer(&session, &RunOptions::default()), [4, 11, 11, 11, 11], "{plan}");
    }
}

#[test]
fn every_step_and_copy_of_a_plan_leaves_an_event() {
    let (session, _) = session();
    for plan in mixed(&session, 0..20) {
        session.follow(&plan).expect("valid");
        let times = NodeTimes::with_events();
        answer(&session, &RunOptions::default().with_node_times(&times));
        let ran: Vec<String> = times.events().iter().map(|e| e.name.to_string()).collect();
        let copies = plan.device.as_ref().map_or(0, |d| d.copies.len());
        assert_eq!(ran.len(), plan.steps.len() + copies, "{ran:?}\n{plan}");
        assert!(plan.steps.iter().all(|step| ran.contains(&step.name)), "{ran:?}\n{plan}");
        assert!((0..copies).all(|at| ran.contains(&format!("copy {at}"))), "{ran:?}\n{plan}");
    }
}
