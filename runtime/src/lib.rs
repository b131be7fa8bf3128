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
//! - **Errors:** one enum, [`Error`], with stable codes in [`Error::kind`]. Causes are in `source()`.
//! - **Limits:** [`RunOptions`] carries a deadline or a [`CancelToken`]; [`SessionBuilder::with_memory_limit`] bounds what
//!   a model may allocate.
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

pub use cost::{
    DeviceProfile, DeviceRates, DeviceSource, Effort, Handover, LinkTime, Machine, Measured, OperatorCost,
    Profile, ProfileCache, ProfileError,
};
pub use cuda::{CudaVersion, GpuError, GpuReject, GpuUse, HostTrip};
pub use device::{Device, Devices, Fallback, GpuInfo, gpus};
pub use dtype::{Bool, DType, Element};
pub use engine::{Engine, EngineBuilder, Pinning};
pub use error::{Error, ErrorKind, Misfit, OpError, Refusal, Undecoded};
pub use exec::{CancelToken, NodeTime, NodeTimes, RunEvent, RunLane, Space};
pub use graph::{Content, Dim, Fact, Integer, TensorFact};
pub use loops::Member;
pub use onnx::{Metadata, read_test_data};
pub use ops::{Accuracy, Cost};
pub use plan::{
    Instruction, Phase, Plan, PlanError, PlannedCopy, PlannedDevice, PlannedInput, PlannedStep, Timing,
};
pub use precision::{Deviation, Kept, Precision, Stored, StoredWeights};
pub use session::{
    Apart, Buckets, FrontPoint, Fusion, GraphInfo, LostDevice, Mode, NodeInfo, Outputs, Parameters,
    Placement, PlanOptions, Planning, ProfileOptions, ProfiledNode, RunOptions, Session, SessionBuilder,
    Source, Stream, Unplanned, ValueSpec,
};
pub use tensor::{Release, Sequence, Tensor, TensorMut, TensorView, Value, ValueRef};
