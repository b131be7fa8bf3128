//! Plans over threads and the emulated GPU at once: placement never changes a result beyond what the kernels differ by, and
//! what cannot be followed is refused.

use crate::branches::{Extents, MODELS};
use crate::network::{compare, random_plans};
use recurve::testing::random_plan;
use recurve::{Engine, Instruction, Phase, Pinning, Plan, Session, Space, Tensor};

const SMALL: Extents = Extents { time: 6, batch: 1, hidden: 16 };
/// Random placements per model; `RECURVE_RANDOM_PLANS` sets another number.
const RANDOM: u64 = 32;

fn engine(threads: usize) -> Engine {
    Engine::builder().with_threads(threads).with_pinning(Pinning::None).build().expect("an engine")
}

/// With the emulated GPU among the devices of its plans.
fn load(engine: &Engine, bytes: Vec<u8>) -> Session {
    let devices = "cpu,emulated".parse().expect("devices");
    Session::builder().with_engine(engine).with_devices(devices).load_bytes(bytes).expect("loads")
}

fn input(of: Extents, seed: usize) -> Tensor {
    let count: usize = of.sequence().iter().product();
    let data = (0..count).map(|i| ((i * 31 + seed * 7) % 23) as f32 / 23.0 - 0.5).collect();
    Tensor::new(&of.sequence(), data).expect("a tensor")
}

fn shapes(of: Extents) -> [(&'static str, [usize; 3]); 1] {
    [("x", of.sequence())]
}

#[test]
fn random_placements_give_the_cpus_answers() {
    let engines = [engine(1), engine(2), engine(3)];
    for (name, build) in MODELS {
        let inputs = [input(SMALL, 1), input(SMALL, 2)];
        let serial = Session::builder().with_engine(&engine(1)).load_bytes(build(SMALL)).expect("loads");
        let want = [0, 1].map(|at| serial.run([("x", &inputs[at])]).expect("runs"));
        let (mut copied, mut both) = (0, 0);
        for (at, engine) in engines.iter().enumerate() {
            let session = load(engine, build(SMALL));
            for seed in (0..random_plans(RANDOM)).filter(|seed| *seed as usize % engines.len() == at) {
                let plan = random_plan(&session, shapes(SMALL), seed).expect(name);
                session.follow(&plan).unwrap_or_else(|e| panic!("{name}, seed {seed}: {e:?}\n{plan}"));
                let device = plan.device.as_ref().expect("a device");
                copied += device.copies.len();
                both += usize::from(!device.steps.is_empty() && device.steps.len() < plan.steps.len());
                for (x, want) in inputs.iter().zip(&want) {
                    let title = format!("{name}, seed {seed}\n{plan}");
                    let got = session.run([("x", x)]).unwrap_or_else(|e| panic!("{title}: {e:?}"));
                    compare(&title, &["y"], want, &got);
                }
            }
        }
        assert!(copied > 0 && both > 0, "{name}: no plan uses both");
    }
}

/// Every plan that differs from a valid one in one place that matters.
#[test]
fn a_placement_that_could_give_a_wrong_result_is_refused() {
    let session = load(&engine(2), (MODELS[2].1)(SMALL));
    let refused = |plan: &Plan, what: &str| {
        let error = session.follow(plan).err().unwrap_or_else(|| panic!("{what} is followed\n{plan}"));
        assert_eq!(error.kind(), recurve::ErrorKind::InvalidPlan, "{what}: {error:?}");
    };
    let mut waits = 0;
    for seed in 0..12 {
        let good = random_plan(&session, shapes(SMALL), seed).expect("a plan");
        session.follow(&good).expect("valid");
        let device = good.device.clone().expect("a device");
        for at in 0..device.copies.len() {
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies.remove(at);
            refused(&bad, "a copy less");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies[at].first += 4;
            refused(&bad, "another part");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies[at].space = Space::Tenant(9999);
            refused(&bad, "a value that is none");
        }
        let mut bad = good.clone();
        bad.device.as_mut().expect("there").steps.push(9999);
        refused(&bad, "a step that is none");
        if device.steps.len() < good.steps.len() {
            let absent = (0..good.steps.len()).find(|step| !device.steps.contains(step)).expect("one");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").steps.push(absent);
            let refusal = session.follow(&bad);
            assert!(refusal.is_err(), "a step that was not there");
        }
        for (phase, content) in good.phases.iter().enumerate() {
            let Phase::Apart { lists } = content else { continue };
            for (worker, list) in lists.iter().enumerate() {
                for (at, instruction) in list.iter().enumerate() {
                    if !matches!(instruction, Instruction::Wait(_) | Instruction::Copy(_)) {
                        continue;
                    }
                    let mut bad = good.clone();
                    let Phase::Apart { lists } = &mut bad.phases[phase] else { continue };
                    lists[worker].remove(at);
                    refused(&bad, "an instruction less");
                    waits += 1;
                }
            }
        }
        // Two rooms that are alive at once, at one place.
        if device.offsets.len() > 1 {
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").offsets.fill(0);
            let fits = session.follow(&bad).is_ok();
            assert!(!fits || device.arena_bytes == device.offsets.iter().copied().max().unwrap_or(0), "{good}");
        }
    }
    assert!(waits > 20, "{waits}");
}
