//! Plans with several streams of the emulated GPU, and plans for a GPU that is absent.

use crate::branches::MODELS;
use crate::mixed::{SMALL, engine, input, load, profiled, shapes, sped_up};
use crate::network::compare;
use recurve::plans::{Plan, PlannedDevice};
use recurve::profiles::{Measured, ProfileCache};
use recurve::settings::Mode;
use recurve::testing::random_plan;
use recurve::{Device, Error, ErrorKind, Fallback, Session};

#[test]
fn branches_on_the_gpu_go_side_by_side_where_that_gains() {
    let x = input(SMALL, 1);
    let (engine, engine_of_one) = (engine(2), engine(1));
    for (name, build) in MODELS.iter().filter(|(name, _)| ["four branches", "ensemble"].contains(name)) {
        let serial = Session::builder().with_engine(&engine_of_one).load_bytes(build(SMALL)).expect("loads");
        let want = serial.run([("x", &x)]).expect("runs");
        let session = load(&engine, build(SMALL));
        let mut profile = sped_up(profiled(&session, &x));
        let exactly = |us: f64| Measured { median_us: us, min_us: us, p90_us: us, runs: 1 };
        profile.devices.get_mut("emulated").expect("there").event = Some(exactly(0.2));
        // What four of an operator take that run side by side there, one of which takes 1.
        let mut plan = |beside: f64| {
            for cost in profile.operators.values_mut() {
                cost.beside.values_mut().for_each(|m| *m = exactly(beside));
            }
            session.plan(shapes(SMALL), &profile).expect(name).plan
        };
        let apart = plan(1.0);
        let device = apart.device.as_ref().expect("the GPU is fast");
        assert_eq!(device.streams.len(), device.steps.len(), "{name}\n{apart}");
        let used = |plan: &Plan| {
            let device = plan.device.as_ref().expect("the GPU is fast");
            device.streams.iter().max().map_or(1, |most| most + 1)
        };
        assert!(
            used(&apart) > 1 && apart.predicted_us < apart.device_us.expect("all there"),
            "{name}\n{apart}"
        );
        let places = apart.steps.iter().filter(|step| step.place.starts_with("emulated/"));
        assert_eq!(places.count(), device.streams.iter().filter(|stream| **stream > 0).count());
        session.follow(&apart).expect("valid");
        for _ in 0..3 {
            compare(name, &["y"], &want, &session.run([("x", &x)]).expect("runs"));
        }
        // Where one fills the GPU, nothing is gained.
        assert_eq!(used(&plan(4.0)), 1, "{name}");
        profile.devices.get_mut("emulated").expect("there").event = None;
        let unknown = session.plan(shapes(SMALL), &profile).expect(name).plan;
        assert_eq!(used(&unknown), 1, "{name}: what an event takes is not known");

        let refused = |change: &dyn Fn(&mut PlannedDevice)| {
            let mut bad = apart.clone();
            change(bad.device.as_mut().expect("there"));
            let error = session.follow(&bad).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{error:?}");
        };
        refused(&|device| device.streams.truncate(1));
        refused(&|device| device.streams[0] = 4);
        let mut one = apart.clone();
        one.device.as_mut().expect("there").streams.clear();
        session.follow(&one).expect("one stream can do what several do");
        compare(name, &["y"], &want, &session.run([("x", &x)]).expect("runs"));
    }
}

/// No machine has so many.
const ABSENT: Device = Device::Cuda(99);

#[test]
fn a_gpu_that_is_absent_is_an_error_that_names_it_or_done_without() {
    let x = input(SMALL, 1);
    let (engine, engine_of_one) = (engine(2), engine(1));
    let build = MODELS[2].1;
    let folder = tempfile::tempdir().expect("a folder");
    let session = |fallback: Fallback| {
        let builder =
            Session::builder().with_engine(&engine).with_mode(Mode::Latency).with_fallback(fallback);
        let devices = format!("cpu,{ABSENT}").parse().expect("devices");
        let builder = builder.with_devices(devices).with_profile_cache(ProfileCache::at(folder.path()));
        builder.load_bytes(build(SMALL)).expect("plans are made when it runs")
    };
    let denied = session(Fallback::Deny);
    let error = denied.run([("x", &x)]).expect_err("there is no such GPU");
    assert!(matches!(&error, Error::Gpu { device, .. } if *device == ABSENT), "{error:?}");
    assert!(error.to_string().contains("cuda:99"), "{error}");
    let serial = Session::builder().with_engine(&engine_of_one).load_bytes(build(SMALL)).expect("loads");
    let want = serial.run([("x", &x)]).expect("runs");
    let without = session(Fallback::Cpu);
    for _ in 0..2 {
        compare("without the GPU", &["y"], &want, &without.run([("x", &x)]).expect("runs"));
    }
    assert_eq!(without.lost_device().expect("it is told").device, ABSENT);
    // A plan that was made elsewhere for that GPU.
    let there = load(&engine, build(SMALL));
    let mut plan = random_plan(&there, shapes(SMALL), 1).expect("a plan");
    plan.device.as_mut().expect("there").device = ABSENT.to_string();
    let error = there.follow(&plan).expect_err("there is no such GPU");
    assert_eq!(error.kind(), ErrorKind::Device, "{error:?}");
}
