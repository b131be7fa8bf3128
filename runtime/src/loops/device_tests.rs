//! Random graphs of operators that fuse, on the emulated GPU: every group that fusion makes has launches there, which the
//! reference of the unfused graph judges.

use super::quantised::to_integers;
use super::sketch::{Sketch, sketch};
use super::tests::{Judged, judged};
use super::{BranchesOfShapes, Fused, fuse};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Allowance, Direct, GpuProgram, GpuReject, OpenGpu, open};
use crate::device::{Device, Fallback};
use crate::exec::{Interrupt, Team, fact_of};
use crate::graph::{Fact, Graph, infer};
use crate::memory::Budget;
use crate::precision::Precision;
use crate::reference::{RefValue, run_graph};
use crate::tensor::{Tensor, Value, ValueRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The outputs of `graph`, twice, and the nodes that ran on the host with the reasons.
fn run_there(
    graph: Graph,
    gpu: &Arc<OpenGpu>,
    inputs: &[Tensor],
) -> ([Vec<Value>; 2], Vec<(String, GpuReject)>) {
    let (budget, team, interrupt) = (Budget::unlimited(), Team::new(1, false), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let (count, allowance) = (graph.outputs.len(), Allowance::new(gpu.clone(), None));
    let leave = (Fallback::Cpu, 1);
    let program =
        GpuProgram::new(graph, allowance, budget.clone(), leave, Precision::F32).expect("a program");
    let given: Vec<ValueRef<'_>> = inputs.iter().map(|t| ValueRef::Tensor(t.view())).collect();
    let run = || {
        let bound = program.bind(&given, context).expect("a binding");
        let mut made: Vec<Option<Value>> = vec![None; count];
        let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
        let direct = Direct::new(vec![None; given.len()], vec![None; count]);
        bound.run(&program, (&given, &direct), &mut slots, context).expect("a run");
        drop(slots);
        made.into_iter().map(|v| v.expect("an output")).collect()
    };
    let both = [run(), run()];
    let trips = program.trips().into_iter().map(|(node, trip)| (node.def.full_name(), trip.reason));
    (both, trips.collect())
}

/// `RECURVE_SEEDS` sets how many graphs are drawn.
#[test]
fn fused_graphs_on_a_gpu_compute_what_their_operators_do() {
    let seeds: u64 = std::env::var("RECURVE_SEEDS").map_or(200, |s| s.parse().expect("a number of seeds"));
    let gpu = open(Device::Emulated).expect("always there");
    let gpu = Arc::new(OpenGpu::new(gpu, usize::MAX));
    let (mut groups, mut nodes, mut cancelled, mut flipped) = (0, 0, 0, 0);
    let mut kinds = BTreeMap::<&str, usize>::new();
    let mut refused = BTreeMap::<(String, String), Vec<u64>>::new();
    for seed in 0..seeds {
        let Sketch { graph, inputs, .. } = sketch(seed);
        if graph.outputs.is_empty() {
            continue;
        }
        let given: Vec<RefValue> =
            inputs.iter().map(|t| RefValue::from_value(&t.clone().into()).expect("a tensor")).collect();
        let want = run_graph(&graph, &given).expect("a reference");
        let facts: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let mut whole = graph.clone();
        let known = infer(&whole, &facts).expect("facts");
        to_integers(&mut whole, &known);
        let (fused, _) = fuse(whole, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
        nodes += fused.nodes.len();
        for node in fused.nodes.iter().filter(|node| node.op.as_any().is::<Fused>()) {
            groups += 1;
            *kinds.entry(node.def.name).or_default() += 1;
        }
        let (both, trips) = run_there(fused, &gpu, &inputs);
        for (op, reason) in trips {
            refused.entry((op, reason.to_string())).or_default().push(seed);
        }
        for (run, got) in both.iter().enumerate() {
            for (output, (got, want)) in got.iter().zip(&want).enumerate() {
                let what = || format!("seed {seed}, run {run}, output {output}");
                match judged(got, want, (&graph, &inputs, output), &what) {
                    Judged::Same => {}
                    Judged::Flipped => flipped += 1,
                    Judged::Cancelled => cancelled += 1,
                }
            }
        }
    }
    println!(
        "{nodes} nodes, of them {groups} groups {kinds:?}; {cancelled} outputs cancel, {flipped} flip; {refused:?}"
    );
    assert!(refused.is_empty(), "without launches: {refused:?}");
    assert!((flipped + cancelled) * 50 <= seeds.max(100), "{flipped} of {seeds} flip, {cancelled} cancel");
    let all = ["FusedMap", "FusedRows", "FusedContraction"];
    assert!(seeds < 100 || all.iter().all(|kind| kinds.contains_key(kind)), "{kinds:?}");
}
