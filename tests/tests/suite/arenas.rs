//! Arenas of plans take at most a twentieth more than what may be alive at once, below which no offsets come; those few that
//! take more are shown to be the least of all offsets.

use crate::branches::{Extents, MODELS};
use crate::mixed::{load, sped_up};
use crate::planned::{engine, profiled};
use recurve::plans::{Plan, PlanOptions};
use recurve::settings::Mode;
use recurve::testing::{ArenaUse, arenas, random_plan};
use recurve::{Session, Tensor};
use std::time::Duration;

/// How much more an arena may take than what is alive at once, unless nothing takes less.
const MOST: f64 = 1.05;

fn input(of: Extents) -> Tensor {
    Tensor::new(&of.sequence(), vec![0.1f32; of.sequence().iter().product()]).expect("a tensor")
}

/// What arenas take as a multiple of what is alive at once.
#[derive(Default)]
struct Ratios(Vec<f64>);

impl Ratios {
    fn hold(&mut self, session: &Session, plan: &Plan, what: &str) {
        for (used, memory) in arenas(session, plan).expect("it was checked").into_iter().zip(["host", "GPU"])
        {
            let ArenaUse { taken, least, proven, .. } = used;
            assert!(taken >= least, "{what}, {memory}: {taken} of {least}\n{plan}");
            let ratio = if least == 0 { 1.0 } else { taken as f64 / least as f64 };
            self.0.push(ratio);
            if ratio > MOST {
                assert_eq!(proven, Some(taken), "{what}, {memory}: {least} are alive\n{plan}");
                println!("{what}, {memory}: {taken} bytes, where {least} are alive, are the least");
            }
        }
    }

    /// How many are held to the bound by what is alive at once alone, of how many.
    fn within(&self) -> [usize; 2] {
        [self.0.iter().filter(|ratio| **ratio <= MOST).count(), self.0.len()]
    }
}

#[test]
fn arenas_of_scheduled_plans_take_what_is_alive_at_once() {
    let engine = engine(2);
    let mut ratios = Ratios::default();
    let mut plans = 0;
    for of in [Extents { time: 24, batch: 1, hidden: 16 }, Extents { time: 12, batch: 3, hidden: 48 }] {
        let (x, shape) = (input(of), [("x", of.sequence())]);
        for (name, build) in MODELS {
            let session = Session::builder().with_engine(&engine).load_bytes(build(of)).expect("loads");
            let plan = session.plan(shape, &profiled(&session, &x)).expect(name).plan;
            ratios.hold(&session, &plan, &format!("{name}, threads"));
            let session = load(&engine, build(of));
            let profile = sped_up(profiled(&session, &x));
            let fastest = session.plan(shape, &profile).expect(name).plan;
            ratios.hold(&session, &fastest, &format!("{name}, threads and a GPU"));
            let slo = Duration::from_secs_f64(fastest.predicted_us * 1.5 / 1e6);
            let options = PlanOptions::default().with_mode(Mode::Memory { slo });
            let light = session.plan_with(shape, &profile, options).expect(name).plan;
            ratios.hold(&session, &light, &format!("{name}, least memory"));
            plans += 3;
        }
    }
    let [within, all] = ratios.within();
    println!("{within} of {all} arenas of {plans} plans");
    assert!(within * 10 > all * 9, "{within} of {all}");
}

#[test]
fn arenas_of_random_plans_take_little_more_than_what_is_alive_at_once() {
    let of = Extents { time: 24, batch: 1, hidden: 16 };
    let engine = engine(2);
    let mut ratios = Ratios::default();
    for (name, build) in MODELS {
        let session = load(&engine, build(of));
        for seed in 0..16 {
            let plan = random_plan(&session, [("x", of.sequence())], seed).expect(name);
            ratios.hold(&session, &plan, &format!("{name}, seed {seed}"));
        }
    }
    let [within, all] = ratios.within();
    println!("{within} of {all} arenas");
    assert!(within * 10 > all * 9, "{within} of {all}");
}
