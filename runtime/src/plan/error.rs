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
    /// The scheduler failed.
    #[error("the scheduler failed")]
    Scheduler(#[from] recurve_scheduler::Error),
}

impl PlanError {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}
