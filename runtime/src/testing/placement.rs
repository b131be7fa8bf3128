//! Where random uses of an operator would run on a GPU, found without running them: what the table of the documents is
//! made of.

use super::gen_case::Gen;
use super::operator::parse;
use crate::cpu::RunContext;
use crate::cuda::families::known::or_known;
use crate::cuda::{GpuReject, GpuSite, Within};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{FOLD_LIMIT, Interrupt, Team, fact_of};
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::memory::Budget;
use crate::ops::OPS;
use crate::tensor::Value;
use recurve_kernels::launch::Device;
use std::collections::BTreeSet;

/// What becomes of an operator on a GPU.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Placement {
    /// Its output is a view of an input.
    View,
    /// Its outputs are known when shapes are.
    Known,
    /// Launches of kernels of these families; none where there is nothing to do.
    Kernels(BTreeSet<&'static str>),
    /// It is refused, and why.
    Refused(String),
}

/// Families with more than one word in their names.
const LONG: &[&str] = &[
    "arg_extreme",
    "class_loss",
    "conv_integer",
    "conv_transpose",
    "gather_nd",
    "grid_sample",
    "linear_attention",
    "roi_align",
    "roi_max",
    "top_k",
];

/// The family of a kernel, by the name of its entry.
fn family(entry: &'static str) -> &'static str {
    if let Some(long) = LONG.iter().find(|long| entry.starts_with(**long)) {
        return long;
    }
    entry.split('_').next().unwrap_or(entry)
}

/// What becomes of the use of operator `name` (with its domain and a colon, where it has one) that `seed` draws, with the
/// element type of its first input; none where that is no tensor.
pub fn placement(name: &str, seed: u64) -> Result<(Option<DType>, Placement), OpError> {
    let def = OPS.iter().find(|d| d.full_name() == name).ok_or_else(|| OpError::unsupported(name))?;
    let case = (def.case)(&mut Gen::new(seed));
    let op = parse(def, &case)?;
    let fact = |(index, value): (usize, &Option<Value>)| {
        let value = value.as_ref()?;
        // What shapes the kernel is looked at when shapes are bound.
        let decisive = case.constant.contains(&index) || op.bound_from().contains(&index);
        match value {
            Value::Tensor(tensor) if decisive => Some(TensorFact::constant(tensor.clone()).into()),
            value => Some(fact_of(value.as_ref())),
        }
    };
    let held: Vec<Option<Fact>> = case.inputs.iter().enumerate().map(fact).collect();
    let given: Vec<Option<&Fact>> = held.iter().map(Option::as_ref).collect();
    let first = given.first().copied().flatten();
    let dtype = first.and_then(Fact::tensor).map(|tensor| tensor.dtype);
    let mut outputs = op.infer(Facts(&given))?;
    outputs.truncate(case.outputs.max(1));
    let refused = |reason: String| Ok((dtype, Placement::Refused(reason)));
    let fixed =
        |fact: &Fact| fact.tensor().is_some_and(|t| t.known_shape().is_some() && t.dtype != DType::String);
    let known =
        |fact: &Fact| fact.tensor().is_some_and(|t| t.as_constant().is_some() || t.as_i64s().is_some());
    if outputs.iter().all(known) {
        return Ok((dtype, Placement::Known));
    }
    let has_bodies = !op.bodies().is_empty();
    if !given.iter().flatten().all(|fact| fixed(fact)) || (!has_bodies && !outputs.iter().all(fixed)) {
        let values = given.iter().copied().flatten().chain(&outputs);
        return refused(GpuReject::without_memory(values).to_string());
    }
    let constant = |fact: &&Fact| fact.tensor().is_some_and(|t| t.as_constant().is_some());
    let small = |fact: &Fact| fact.tensor().and_then(TensorFact::bytes).is_some_and(|b| b <= FOLD_LIMIT);
    let follows = op.is_deterministic() && !has_bodies && given.iter().flatten().all(constant);
    if follows && outputs.iter().all(small) {
        return Ok((dtype, Placement::Known));
    }
    if op.alias_of().is_some() {
        return Ok((dtype, Placement::View));
    }
    let (budget, team, interrupt) = (Budget::unlimited(), Team::new(1, false), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };
    let wanted = vec![true; outputs.len()];
    let (inputs, outputs) = (Facts(&given), &outputs[..]);
    let (precision, within) = (crate::settings::Precision::F32, Within::Graph);
    let site = GpuSite {
        inputs,
        outputs,
        wanted: &wanted,
        behind: None,
        strided: &[],
        within,
        device,
        precision,
        lean: false,
        context,
    };
    match or_known(&*op, &site).and_then(|kernel| kernel.trial(&site).map_err(GpuReject::from)) {
        Ok(launches) => {
            let families = launches.iter().map(|launch| family(launch.kernel().entry)).collect();
            Ok((dtype, Placement::Kernels(families)))
        }
        Err(reject) => refused(reject.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_entries() {
        assert_eq!(family("gather_nd_4"), "gather_nd");
        assert_eq!(family("gather_4"), "gather");
        assert_eq!(family("gemm_simt_64_f32"), "gemm");
        assert_eq!(family("conv_integer"), "conv_integer");
        assert_eq!(family("conv_f32"), "conv");
    }

    #[test]
    fn operators_have_kernels_or_reasons() {
        let placed = |name: &str| -> Vec<Placement> {
            (0..40).map(|seed| placement(name, seed).expect("a case").1).collect()
        };
        assert!(placed("Relu").contains(&Placement::Kernels(["map"].into())));
        assert!(placed("Flatten").contains(&Placement::View));
        assert!(placed("NonZero").iter().all(|p| matches!(p, Placement::Refused(_))));
        assert!(placement("NoSuch", 0).is_err());
    }
}
