//! The outputs of a run.

use super::HostCopy;
use crate::error::Error;
use crate::tensor::{Tensor, Value};
use std::sync::Arc;

/// Named outputs in the model's order.
#[derive(Clone, Debug)]
pub struct Outputs {
    names: Vec<Arc<str>>,
    values: Vec<Value>,
    host_copies: Vec<HostCopy>,
}

impl Outputs {
    pub(super) fn new(names: Vec<Arc<str>>, values: Vec<Value>) -> Self {
        Self { names, values, host_copies: Vec::new() }
    }

    pub(super) fn with_host_copies(self, host_copies: Vec<HostCopy>) -> Self {
        Self { host_copies, ..self }
    }

    /// What of the inputs and outputs that lie where a GPU reads and writes them passed through the host all the same: those
    /// that a part of the model on the CPU reads or makes, constants, and what decides about shapes. Before a session has
    /// found its plan for some shapes, all inputs do. None of a run without such tensors.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?; // on the CPU
    /// let state = session.engine().gpu_tensor(Device::Emulated, DType::F32, &[1, 1, 128], Memory::Device)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
    /// let binding = session.io_binding().input("question", &question).input("h", &state).input("c", &state);
    /// let outputs = binding.output("c_out", &state).run()?;
    /// let copies = outputs.host_copies().iter().map(|copy| (copy.role, &*copy.name, copy.bytes));
    /// assert_eq!(copies.collect::<Vec<_>>(), [("input", "h", 512), ("input", "c", 512), ("output", "c_out", 512)]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn host_copies(&self) -> &[HostCopy] {
        &self.host_copies
    }

    /// The value `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.names.iter().position(|n| &**n == name).map(|i| &self.values[i])
    }

    /// The tensor `name`.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let outputs = session.run(inputs)?;
    /// assert_eq!(outputs.tensor("answer")?.shape(), [5, 1]);
    /// assert!(outputs.tensor("question").is_err(), "that is an input");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        self.get(name).and_then(Value::as_tensor).ok_or_else(|| Error::Argument {
            role: "output",
            name: name.into(),
            problem: match self.get(name) {
                Some(_) => "is no tensor".into(),
                None => format!("is not there; the outputs are {}", self.names.join(", ")),
            },
        })
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.names.iter().map(|n| &**n).zip(&self.values)
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values in order.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.names.iter().position(|n| &**n == name)?;
        self.names.remove(at);
        Some(self.values.remove(at))
    }
}
