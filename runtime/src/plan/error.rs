//! Why there is no plan.

/// Why a model is not planned, or a plan not followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The text is no plan, or one of another version of the format.
    #[error("this is no plan: {what}")]
    Malformed {
        /// Where that was seen.
        what: String,
    },
    /// The plan contradicts itself or the model: following it could give wrong results.
    #[error("the plan is not valid: {what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// The plan was made for another model, other shapes or another number of threads.
    #[error("the plan is for {what}")]
    Other {
        /// What it is for, and what is here.
        what: String,
    },
    /// Where a value lies depends on data, so that the model runs step by step only.
    #[error("node `{node}` has shapes that depend on data, so that the model cannot be planned")]
    DependsOnData {
        /// The first such node.
        node: String,
    },
    /// A step was not measured, and there is nothing to estimate it from.
    #[error("`{signature}` was not measured, and too little was to estimate it")]
    Unmeasured {
        /// The step's signature.
        signature: String,
    },
    /// The plan places steps on a device on which this version does not run plans.
    #[error("plans on `{device}` are not run yet")]
    Device {
        /// The device.
        device: String,
    },
    /// No plan that was found meets the objective.
    #[error(
        "no plan was found that takes at most {slo_us:.1} us: the fastest takes {best_us:.1} us, with {device_bytes} bytes of the device's memory"
    )]
    Slo {
        /// The objective.
        slo_us: f64,
        /// The least time that was found.
        best_us: f64,
        /// Bytes of the device's memory that it takes.
        device_bytes: usize,
    },
    /// The profile knows nothing of the device, or not what copies to it and from it take.
    #[error("the profile knows too little of `{device}` to plan with it")]
    UnknownDevice {
        /// The device.
        device: String,
    },
    /// A pattern that says where nodes run fits none that can be placed, or its device is none that plans use.
    #[error("a placement cannot be kept: `{placement}`: {why}")]
    Unplaceable {
        /// The pattern and the device.
        placement: String,
        /// Why not.
        why: String,
    },
    /// What is said of where nodes run cannot be.
    #[error("a placement cannot be kept: {what}")]
    Placement {
        /// Which, and why.
        what: String,
    },
    /// No plan keeps within the limit of the device's memory.
    #[error(
        "no plan was found that keeps within {limit} bytes of the memory of `{device}`: the least takes {least_bytes} bytes"
    )]
    NothingFits {
        /// The device.
        device: String,
        /// Bytes that may be used.
        limit: u64,
        /// The fewest bytes that a plan was found to take.
        least_bytes: usize,
    },
    /// The scheduler failed.
    #[error("the scheduler failed")]
    Scheduler(#[from] recurve_scheduler::Error),
}

impl PlanError {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}
