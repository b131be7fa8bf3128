//! An engine that nobody uses takes no processor time. The only test of its process, whose time it reads.
#![cfg(target_os = "linux")]

use recurve::testing::random_plan;
use recurve::{Engine, Session, Tensor};
use std::time::{Duration, Instant};

const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));

/// Processor time of this process in ticks of the system's clock.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    // Behind the name, which may hold anything: the state is field 3, user and system time are 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let number = |at: usize| fields[at - 3].parse::<u64>().expect("a number");
    number(14) + number(15)
}

#[test]
fn an_idle_engine_takes_no_time() {
    let busy = Instant::now();
    let before = ticks();
    while busy.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    assert!(ticks() > before, "time that is used is seen");

    let engine =
        Engine::builder().with_threads(4).with_spin(Duration::from_millis(1)).build().expect("an engine");
    let question = Tensor::new(&[3, 1], vec![2i64, 10, 2]).expect("a tensor");
    let state = Tensor::new(&[1, 1, 128], vec![0f32; 128]).expect("a tensor");
    // Workers, and streams of a GPU, have followed plans, and wait for the next.
    let shapes = [("question", &[3, 1][..]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])];
    let sessions = ["cpu", "cpu,emulated"].map(|devices| {
        let builder = Session::builder().with_engine(&engine).with_devices(devices.parse().expect("devices"));
        let session = builder.load_bytes(MODEL).expect("loads");
        let several = |seed| {
            let plan = random_plan(&session, shapes, seed).expect("a plan");
            let streams =
                plan.device.as_ref().map_or(2, |d| d.streams.iter().max().map_or(0, |last| last + 1));
            (streams > 1).then_some(plan)
        };
        session.follow(&(1..).find_map(several).expect("one")).expect("valid");
        for _ in 0..3 {
            session.run([("question", &question), ("h", &state), ("c", &state)]).expect("runs");
        }
        session
    });
    std::thread::sleep(Duration::from_millis(100));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used <= 1, "{used} ticks in a second");
    drop((sessions, engine));
}
