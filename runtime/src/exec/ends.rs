//! Where a course meets memory of the caller on a device: which copies are from there or to there, and what steps on the
//! host touch, which has to be in the host's memory.

use super::access::Space;
use super::bind::Bound;
use super::course::{Course, DeviceCourse};
use super::program::Program;
use crate::cuda::Direct;
use crate::plan::Move;
use std::collections::HashMap;

/// By input and by output, whether a step on the host touches it.
#[derive(Debug)]
pub(crate) struct HostTouches {
    pub(crate) inputs: Vec<bool>,
    pub(crate) outputs: Vec<bool>,
}

/// The address on the device where the caller has what a space stands for.
pub(super) fn end_of(space: Space, direct: &Direct) -> Option<u64> {
    match space {
        Space::Input(at) => direct.input(at),
        Space::Output(at) => direct.output(at),
        Space::Tenant(_) | Space::Weights(_) => None,
    }
}

impl DeviceCourse {
    /// By copy that is from or to memory of the caller on the device, the address there.
    pub(super) fn ends(&self, direct: &Direct) -> HashMap<usize, u64> {
        if direct.is_empty() {
            return HashMap::new();
        }
        let end =
            |(copy, of): (usize, &Move)| Some((copy, end_of(of.space, direct)? + of.bytes.start as u64));
        self.copies.iter().enumerate().filter_map(end).collect()
    }
}

impl Course {
    /// What steps on the host touch, of the binding and program that it was checked against.
    pub(crate) fn host_touches(&self, bound: &Bound, program: &Program) -> &HostTouches {
        self.touched.get_or_init(|| self.find_touches(bound, program))
    }

    fn find_touches(&self, bound: &Bound, program: &Program) -> HostTouches {
        let mut touched = HostTouches {
            inputs: vec![false; program.graph.inputs.len()],
            outputs: vec![false; program.graph.outputs.len()],
        };
        let on_device = |step: usize| self.device.as_ref().is_some_and(|device| device.steps.has(step));
        for step in (0..bound.step_count()).filter(|step| !on_device(*step)) {
            let of = bound.accesses(program, step);
            for access in of.reads.iter().chain(&of.writes) {
                match access.space {
                    Space::Input(at) => touched.inputs[at] = true,
                    Space::Output(at) => touched.outputs[at] = true,
                    Space::Tenant(_) | Space::Weights(_) => {}
                }
            }
        }
        touched
    }
}
