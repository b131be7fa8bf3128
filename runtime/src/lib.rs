//! An inference engine for recurrent, convolutional and dense ONNX models.
//!
//! A [`Session`] is a model, loaded and prepared; an [`Engine`] owns the threads and the memory limit that sessions
//! share.
//!
//! ```
//! # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
//! use recurve::{Session, Tensor};
//!
//! // From bytes here; `load` takes a path and maps the file.
//! let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
//! let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?; // "347+58"
//! let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
//! let outputs = session.run([("question", &question), ("h", &state), ("c", &state)])?;
//! assert_eq!(outputs.tensor("answer")?.as_slice::<i64>(), Some(&[4, 0, 5, 11, 11][..])); // "405  "
//! # Ok::<(), recurve::Error>(())
//! ```
//!
//! - **Load:** [`Session::builder`], with [`SessionBuilder::load`] or [`SessionBuilder::load_bytes`]. A model with a node
//!   that cannot run is refused with all such nodes.
//! - **Run:** [`Session::run`]; [`Session::run_into`] writes to buffers of the caller, and tells what allocates.
//! - **Stream:** [`Session::stream`] keeps recurrent state between calls.
//! - **On a GPU:** [`Session::io_binding`] runs on tensors that lie in its memory, and leaves outputs there.
//! - **Errors:** one enum, [`Error`], with stable codes in [`Error::kind`]. Causes are in `source()`.
//! - **Limits:** [`RunOptions`] carries a deadline or a [`CancelToken`]; [`SessionBuilder::with_memory_limit`] bounds what
//!   a model may allocate.
//! - **Deeper:** what builders are set to is in [`settings`], what a model consists of in [`model`], measuring and placing
//!   operators in [`profiles`] and [`plans`], what GPUs take in [`gpu`], weights in other formats in [`weights`].
#![deny(missing_docs)]

mod cost;
mod cpu;
mod cuda;
mod device;
mod dtype;
mod engine;
mod error;
mod exec;
mod graph;
mod loops;
mod memory;
mod onnx;
mod ops;
mod plan;
mod precision;
mod reference;
mod session;
mod tensor;
pub mod testing;

pub use device::{Device, Fallback};
pub use dtype::{DType, Element};
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, ErrorKind};
pub use exec::CancelToken;
pub use session::{Outputs, RunOptions, Session, SessionBuilder, Stream};
pub use tensor::{Tensor, TensorMut, TensorView, Value, ValueRef};

/// What builders are set to.
pub mod settings {
    pub use crate::device::Devices;
    pub use crate::engine::Pinning;
    pub use crate::precision::Precision;
    pub use crate::session::{Buckets, Fusion, Mode, Placement};
}

/// What a model is: facts of its values, nodes and their work, what it says about itself, its test data.
pub mod model {
    pub use crate::graph::{Content, Dim, Fact, Integer, TensorFact};
    pub use crate::loops::Member;
    pub use crate::onnx::{Metadata, read_test_data};
    pub use crate::ops::{Accuracy, Cost};
    pub use crate::session::{Apart, GraphInfo, NodeInfo, Parameters, Source, ValueSpec};
}

/// Values beside tensors of numbers.
pub mod values {
    pub use crate::dtype::Bool;
    pub use crate::tensor::{Release, Sequence};
}

/// What errors are made of.
pub mod errors {
    pub use crate::error::{Misfit, OpError, Refusal, Undecoded};
}

/// What operators cost on a machine, measured and kept.
pub mod profiles {
    pub use crate::cost::{
        DeviceProfile, DeviceRates, DeviceSource, Effort, Handover, LinkTime, Machine, Measured,
        OperatorCost, Profile, ProfileCache, ProfileError,
    };
    pub use crate::session::{ProfileOptions, ProfiledNode};
}

/// Where each operator runs and in which order, made from a profile.
pub mod plans {
    pub use crate::plan::{
        BroughtWeights, Instruction, Phase, Plan, PlanError, PlannedCopy, PlannedDevice, PlannedInput,
        PlannedStep, Timing,
    };
    pub use crate::session::{FrontPoint, LostDevice, PlanOptions, Planning, Unplanned};
}

/// GPUs: which there are, what a model takes of one, tensors of the caller there, and why one cannot be used.
pub mod gpu {
    pub use crate::cuda::{CudaVersion, GpuError, GpuReject, GpuTensor, GpuUse, HostTrip, Memory};
    pub use crate::device::{GpuInfo, gpus};
    pub use crate::session::{BoundInput, HostCopy, IoBinding};
}

/// Weights that are stored in another format than the model's.
pub mod weights {
    pub use crate::precision::{Deviation, Kept, Stored, StoredWeights};
}

/// What took how long in a run.
pub mod times {
    pub use crate::exec::{NodeTime, NodeTimes, RunEvent, RunLane, Space};
}
