//! Recurve.
#![deny(missing_docs)]

mod cpu;
mod dtype;
mod engine;
mod error;
mod exec;
mod graph;
mod loops;
mod memory;
mod onnx;
mod ops;
mod reference;
mod session;
mod tensor;
pub mod testing;

pub use dtype::{Bool, DType, Element};
pub use engine::{Engine, EngineBuilder, Pinning};
pub use error::{Error, ErrorKind, OpError, Refusal};
pub use exec::{CancelToken, NodeTime, NodeTimes};
pub use graph::{Content, Dim, Fact, Integer, TensorFact};
pub use onnx::{Metadata, read_test_data};
pub use ops::{Accuracy, Cost};
pub use session::{
    Apart, Fusion, Member, NodeInfo, Outputs, Parameters, RunOptions, Session, SessionBuilder, Stream,
    ValueSpec,
};
pub use tensor::{Release, Sequence, Tensor, TensorMut, TensorView, Value, ValueRef};
