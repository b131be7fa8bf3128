//! Operators one by one on the emulated GPU, against their references.

use super::case::Case;
use super::gen_case::Gen;
use super::operator::{Failure, compare_outputs, graph_of, parse, reference};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{self, GpuError, GpuFailure, GpuProgram, GpuReject, OpenGpu};
use crate::device::{Device, Fallback};
use crate::error::OpError;
use crate::exec::{Interrupt, Team};
use crate::memory::Budget;
use crate::ops::OPS;
use crate::tensor::Value;
use std::sync::Arc;

/// The emulated GPU, which reports what a kernel does wrong.
#[derive(Debug)]
pub struct EmulatedOperators {
    gpu: Arc<OpenGpu>,
    team: Team,
}

impl EmulatedOperators {
    /// A GPU of its own.
    pub fn new() -> Result<Self, GpuError> {
        let gpu = cuda::open(Device::Emulated)?;
        Ok(Self { gpu: Arc::new(OpenGpu::new(gpu, usize::MAX)), team: Team::new(1, false) })
    }

    /// Draws a case of operator `name` (with its domain and a colon, where it has one) from `seed`, and holds its kernels to
    /// the reference. Where it has none, the host runs it and is held to the reference; gives the reason then.
    pub fn check(&self, name: &str, seed: u64) -> Result<Option<GpuReject>, Failure> {
        let Some(def) = OPS.iter().find(|d| d.full_name() == name) else {
            let source = OpError::unsupported(name);
            return Err(Failure::Error { stage: "look-up", source, case: Box::new(Case::new([])) });
        };
        let case = (def.case)(&mut Gen::new(seed));
        let fail = |stage, source| Failure::Error { stage, source, case: Box::new(case.clone()) };
        let of_gpu = |e: GpuError| fail("GPU", OpError::internal(e.to_string()));
        let failed = |failure| match failure {
            GpuFailure::Node(error) => fail("run", error.source),
            GpuFailure::Gpu(error) => of_gpu(error),
            GpuFailure::Rejected(nodes) => {
                fail("run", OpError::internal(format!("{nodes:?} are refused where the host may run them")))
            }
        };
        let op = parse(def, &case).map_err(|e| fail("parse", e))?;
        let (graph, inputs) = graph_of(def, &op, &case);
        let (budget, interrupt) = (Budget::unlimited(), Interrupt::default());
        let context = RunContext { team: &self.team, interrupt: &interrupt, budget: &budget, times: None };
        let want = reference(&op, &case)?;
        let mut reason = None;
        for fallback in [Fallback::Deny, Fallback::Cpu] {
            let program = GpuProgram::new(graph.clone(), self.gpu.clone(), budget.clone(), (fallback, 1));
            let program = program.map_err(of_gpu)?;
            let bound = match program.bind(&inputs, context) {
                Ok(bound) => bound,
                Err(GpuFailure::Rejected(nodes)) if fallback == Fallback::Deny => {
                    reason = nodes.into_iter().next().map(|(_, _, reject)| reject);
                    continue;
                }
                Err(failure) => return Err(failed(failure)),
            };
            // Launched first, replayed then.
            for _ in 0..2 {
                let mut made: Vec<Option<Value>> = vec![None; case.outputs];
                let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
                bound.run(&program, &inputs, &mut slots, context).map_err(failed)?;
                drop(slots);
                let missing = || fail("run", OpError::internal("an output was not made"));
                let got = made.into_iter().map(|v| v.ok_or_else(missing)).collect::<Result<Vec<_>, _>>()?;
                compare_outputs(def, &case, &got, &want)?;
            }
            if reason.is_none() != program.trips().is_empty() {
                let problem = OpError::internal(format!("{reason:?}, and {:?} on the host", program.trips()));
                return Err(fail("trips", problem));
            }
            if reason.is_none() {
                break;
            }
        }
        Ok(reason)
    }
}
