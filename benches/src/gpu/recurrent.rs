//! LSTM at batch 1: cell steps as one graph, and where a kernel holds all of it, the whole sequence as one launch. The
//! input's part of the gates is not in it.

use super::bench::{Bench, Fault};
use recurve_kernels::activation::{Activation, Function};
use recurve_kernels::cases::encode;
use recurve_kernels::element::Element;
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::recurrent::{Layout, Operands, SEQUENCE_HIDDEN, lstm as cells};
use std::sync::Arc;

/// Hidden units and steps, as DeepBench has them, and small ones.
pub(super) fn lstm(bench: &mut Bench) -> Result<(), Fault> {
    let sizes = bench.size(
        vec![(64, 100), (128, 100), (256, 150), (512, 25), (1024, 25), (1536, 50), (2048, 25)],
        vec![(8, 2), (40, 3)],
    );
    for (hidden, time) in sizes {
        for element in [Element::F32, Element::F16] {
            one(bench, hidden, time, element)?;
        }
    }
    Ok(())
}

fn one(bench: &mut Bench, hidden: u32, time: u32, element: Element) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    let (rows, width) = (4 * u64::from(hidden), u64::from(hidden));
    let layout = Layout {
        element,
        time,
        batch: 1,
        hidden,
        gates: [rows, rows],
        y: [width, width],
        reverse: false,
        clip: None,
    };
    let functions = [Function::Sigmoid, Function::Tanh, Function::Tanh]
        .map(|function| Activation::new(function, 0.0, 0.0));
    let problem = cells::Problem { layout, functions, input_forget: false };
    let small = encode(element, &[0.01, -0.02, 0.03, -0.01]);
    let float = encode(Element::F32, &[0.1, -0.2, 0.3, -0.1]);
    let (gates, weights) = (
        bench.filled(4 * rows * u64::from(time), &float)?,
        bench.filled(rows * width * element.bytes(), &small)?,
    );
    let state = |bench: &mut Bench| bench.filled(4 * width, &float);
    let (a, b, c) = (state(bench)?, state(bench)?, state(bench)?);
    let y = bench.room(4 * width * u64::from(time))?;
    let operands = Operands {
        gates,
        weights,
        bias: Buffer::default(),
        lengths: Buffer::default(),
        h_before: a,
        h_after: b,
        y,
    };
    let cell = cells::Cell { c_before: c, c_after: c, peepholes: Buffer::default() };
    let mut launches: Vec<Arc<dyn Launch>> = Vec::new();
    for step in 0..time {
        let (h_before, h_after) = if step % 2 == 0 { (a, b) } else { (b, a) };
        let operands = Operands { h_before, h_after, ..operands };
        launches.push(Arc::new(problem.step(step, &operands, &cell, &limits)?));
    }
    let seconds = bench.of_graph(&launches, 4)?;
    bench.note(format!("lstm step {element:?}, {hidden} hidden, {time} steps"), seconds * 1e6, "us");
    if hidden <= SEQUENCE_HIDDEN {
        let launch: Arc<dyn Launch> = Arc::new(problem.sequence(&operands, &cell, &limits)?);
        let seconds = bench.of_graph(&[launch], 4)? / f64::from(time);
        bench.note(
            format!("lstm sequence, per step, {element:?}, {hidden} hidden, {time} steps"),
            seconds * 1e6,
            "us",
        );
    }
    Ok(())
}
