//! A CPU kernel: a closure over everything that is known once shapes are.

use super::io::Io;
use super::wavefront::Rows;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::ops::Packed;
use std::sync::Arc;

type Run = dyn Fn(&mut Io<'_, '_>) -> Result<(), OpError> + Send + Sync;

/// A prepared operator. Running it allocates nothing unless an output's shape depends on data.
#[derive(Clone)]
pub(crate) struct Kernel {
    run: Arc<Run>,
    scratch: usize,
    rows: Option<Rows>,
}

impl Kernel {
    /// A kernel without scratch memory.
    pub(crate) fn new(run: impl Fn(&mut Io<'_, '_>) -> Result<(), OpError> + Send + Sync + 'static) -> Self {
        Self { run: Arc::new(run), scratch: 0, rows: None }
    }

    /// Asks for `bytes` of scratch memory in [`Io::scratch`]; its content at the start is arbitrary.
    pub(crate) fn with_scratch(mut self, bytes: usize) -> Self {
        self.scratch = bytes;
        self
    }

    /// Makes and uses rows in their order, as `rows` says, through [`Io::take_link`] where there is one.
    pub(crate) fn with_rows(mut self, rows: Option<Rows>) -> Self {
        self.rows = rows;
        self
    }

    /// How it makes and uses rows in their order, where it does.
    pub(crate) fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// Bytes of scratch memory that a run needs.
    pub(crate) fn scratch(&self) -> usize {
        self.scratch
    }

    /// Runs.
    pub(crate) fn run(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        (self.run)(io)
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel(scratch {})", self.scratch)
    }
}

/// What [`crate::ops::Op::cpu`] is given.
pub(crate) struct CpuSite<'a> {
    /// Facts of the inputs, shapes known.
    pub(crate) inputs: Facts<'a>,
    /// Facts of the outputs, shapes known unless they depend on data.
    pub(crate) outputs: &'a [Fact],
    /// Which outputs are wanted; a kernel may skip the others, whose slot is absent.
    pub(crate) wanted: &'a [bool],
    /// What [`crate::ops::Op::pack`] prepared.
    pub(crate) packed: Option<&'a Packed>,
    /// Threads that the kernel may use.
    pub(crate) threads: usize,
    /// What is done to finished rows of output 0, for an operator that says it does: [`crate::ops::Op::epilogue_rows`].
    pub(crate) epilogue: Option<&'a std::sync::Arc<super::row_epilogue::RowEpilogue>>,
    /// How inputs lie in memory whose shape the facts do not tell, for an operator that says it reads them so:
    /// [`crate::ops::Op::strided_operands`].
    pub(crate) strided: &'a [Option<super::program::Layout>],
    /// What makes the rows or planes of operand 0, which is then not read, for an operator that says it takes them so:
    /// [`crate::ops::Op::making`].
    pub(crate) prologue: Option<&'a std::sync::Arc<super::row_fill::RowFill>>,
    /// How the elements of output 0 lie in memory where not row by row, for an operator that says it writes them so:
    /// [`crate::ops::Op::writes_strided`].
    pub(crate) written: Option<&'a super::program::Layout>,
}

impl CpuSite<'_> {
    /// Shape of input `index`.
    pub(crate) fn input_shape(&self, index: usize) -> Result<crate::tensor::Shape, OpError> {
        self.inputs
            .tensor(index)?
            .known_shape()
            .ok_or_else(|| OpError::internal(format!("shape of input {index} is not known")))
    }

    /// Shape of output `index`.
    pub(crate) fn output_shape(&self, index: usize) -> Result<crate::tensor::Shape, OpError> {
        self.outputs
            .get(index)
            .and_then(|f| f.tensor()?.known_shape())
            .ok_or_else(|| OpError::internal(format!("shape of output {index} is not known")))
    }

    /// Input `index` as it lies in memory: row-major where nothing else is said.
    pub(crate) fn input_layout(&self, index: usize) -> Result<super::program::Layout, OpError> {
        match self.strided.get(index) {
            Some(Some(layout)) => Ok(layout.clone()),
            _ => Ok(super::program::Layout::dense(&self.input_shape(index)?)),
        }
    }

    /// What was packed, as the type that the operator packed it to.
    pub(crate) fn packed_as<T: Send + Sync + 'static>(&self) -> Option<std::sync::Arc<T>> {
        self.packed.and_then(|p| p.data.clone().downcast().ok())
    }
}
