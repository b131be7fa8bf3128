//! Instances with known properties, for tests, benches and experiments.
//!
//! The same seed gives the same instance on every platform: only additions, multiplications and divisions of
//! `f64` are used, and times are multiples of 1/64 µs, so that sums are exact.

mod layered;
mod planted;
mod recurrent;

pub use layered::{Layered, layered, small};
pub use planted::{CpuTasks, Planted, planted};
pub use recurrent::{Recurrent, Shape, recurrent};

use crate::instance::{Instance, Task, Tensor};
use crate::machine::{Link, Machine, Memory, Processor};

/// A time on the grid of 1/64 µs, at least one step.
fn on_grid(time: f64) -> f64 {
    ((time * 64.0).floor() / 64.0).max(1.0 / 64.0)
}

/// A host with `cpus` lanes and a GPU with `gpus`, one channel each way. CPU lanes come first.
fn host_and_gpu(cpus: usize, gpus: usize, latency_us: f64, bytes_per_us: f64) -> Machine {
    let memory = |name: &str| Memory { name: name.to_owned(), capacity: None };
    let lane = |name: String, memory: &str| Processor { name, memory: memory.to_owned(), units: None };
    let link = |from: &str, to: &str, channel: &str| Link {
        from: from.to_owned(),
        to: to.to_owned(),
        latency_us,
        bytes_per_us,
        channel: Some(channel.to_owned()),
    };
    let cpu = (0..cpus).map(|i| lane(format!("cpu{i}"), "host"));
    let gpu = (0..gpus).map(|i| lane(format!("gpu0.s{i}"), "gpu0"));
    Machine {
        memories: vec![memory("host"), memory("gpu0")],
        processors: cpu.chain(gpu).collect(),
        links: vec![link("host", "gpu0", "h2d"), link("gpu0", "host", "d2h")],
    }
}

fn instance(machine: Machine, tensors: Vec<Tensor>, tasks: Vec<Task>) -> Instance {
    Instance { version: crate::instance::VERSION, machine, tensors, weights: Vec::new(), tasks }
}
