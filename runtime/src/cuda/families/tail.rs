//! What comes behind the sums of a product or a convolution: a map program over the elements of the output, made of the
//! operator's own arithmetic (a factor, a bias) and of what a fused group has behind it.

use crate::cpu::program::Layout;
use crate::cpu::row_epilogue::EpilogueInput;
use crate::cuda::{GpuReject, GpuSite, Operands};
use crate::dtype::DType;
use crate::loops::program::{Builder, Program, Reg};
use recurve_kernels::epilogue;
use recurve_kernels::launch::{Buffer, Reject};
use recurve_kernels::map::{Code, Layout as KernelLayout, Source};

/// The program that a fused group has behind its anchor's result, with one input for each of the program's.
#[derive(Debug)]
pub(crate) struct Behind {
    pub(crate) program: Program,
    pub(crate) inputs: Vec<EpilogueInput>,
}

/// Where an operand of the program is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// Input `.0` of the node.
    Input(usize),
    /// Its weights `.0`.
    Weights(usize),
}

/// A program in the making.
pub(crate) struct Making {
    pub(crate) builder: Builder,
    /// What it has made of the sum.
    pub(crate) y: Reg,
    space: Vec<u64>,
    inputs: Vec<(DType, Vec<u64>, u64)>,
    reads: Vec<Option<From>>,
    begun: bool,
}

/// A program behind sums. Its code is the first of the kernel's data.
#[derive(Debug)]
pub(crate) struct Tail {
    code: Code,
    /// Where each input is; the sum is nowhere.
    reads: Vec<Option<From>>,
}

fn wide(of: &[usize]) -> Vec<u64> {
    of.iter().map(|&v| v as u64).collect()
}

impl Making {
    /// Nothing yet behind sums of `dtype` over the output's shape.
    pub(crate) fn over(dtype: DType, shape: &[usize]) -> Self {
        let mut builder = Builder::new(&[]);
        let y = builder.add_input(dtype);
        let dense = wide(&Layout::dense(shape).strides);
        let (inputs, reads) = (vec![(dtype, dense, 0)], vec![None]);
        Self { builder, y, space: wide(shape), inputs, reads, begun: false }
    }

    /// The elements of an operand of this type and these strides beside those of the output.
    pub(crate) fn read(&mut self, from: From, dtype: DType, strides: Vec<u64>, first: u64) -> Reg {
        self.inputs.push((dtype, strides, first));
        self.reads.push(Some(from));
        self.builder.add_input(dtype)
    }

    /// Goes on with `y`.
    pub(crate) fn set(&mut self, y: Reg) {
        self.y = y;
        self.begun = true;
    }

    /// Stores sums as what they are, whatever type the kernel has its operands in.
    pub(crate) fn keep(&mut self) {
        self.begun = true;
    }

    /// The whole program, with what the site has behind it; none where sums are stored as they are.
    pub(crate) fn finish(mut self, site: &GpuSite<'_>) -> Result<Option<Tail>, GpuReject> {
        let mut dtype = self.inputs[0].0;
        if let Some(Behind { program, inputs }) = site.behind {
            let mut given = Vec::with_capacity(inputs.len());
            for (input, &dtype) in inputs.iter().zip(program.inputs()) {
                given.push(match input {
                    EpilogueInput::Result => self.y,
                    EpilogueInput::Operand(at, layout) => {
                        self.read(From::Input(*at), dtype, wide(&layout.strides), layout.offset as u64)
                    }
                });
            }
            let [output] = program.outputs() else {
                return Err(GpuReject::Form("a group of several outputs".into()));
            };
            dtype = output.dtype;
            let made = self.builder.inline(program, &given);
            self.set(*made.first().ok_or(GpuReject::NoKernel)?);
        }
        if !self.begun {
            return Ok(None);
        }
        let program = self.builder.finish(&[(self.y, dtype)]).map_err(|_| GpuReject::NoKernel)?;
        let operands: Vec<(DType, &[u64], u64)> =
            self.inputs.iter().map(|(d, s, o)| (*d, s.as_slice(), *o)).collect();
        let outputs: Vec<(usize, DType)> = program.outputs().iter().map(|o| (o.register, o.dtype)).collect();
        let (instructions, constants) = (program.instructions(), program.constants());
        let source = Source { instructions, constants, outputs: &outputs };
        let code = Code::behind(&source, &KernelLayout::new(&self.space, &operands)?, 0)?;
        code.accepts_sums()?;
        Ok(Some(Tail { code, reads: self.reads }))
    }
}

impl Tail {
    /// What must be on the device for it.
    pub(crate) fn data(tail: Option<&Self>) -> Option<Vec<u8>> {
        tail.map(|tail| tail.code.bytes())
    }

    /// Gives the program, with its operands, to `prepare`.
    pub(crate) fn with<R>(
        tail: Option<&Self>,
        memory: &Operands<'_>,
        prepare: impl FnOnce(Option<epilogue::Program>) -> Result<R, Reject>,
    ) -> Result<R, Reject> {
        let Some(tail) = tail else { return prepare(None) };
        let given = |from: &Option<From>| match *from {
            Some(From::Input(at)) => {
                memory.inputs.get(at).copied().ok_or(Reject::Absent { operand: "input" })
            }
            Some(From::Weights(at)) => {
                memory.weights.get(at).copied().ok_or(Reject::Absent { operand: "weights" })
            }
            None => Ok(Buffer::default()),
        };
        let inputs = tail.reads.iter().map(given).collect::<Result<Vec<_>, _>>()?;
        let code = *memory.data.first().ok_or(Reject::Absent { operand: "code" })?;
        prepare(Some(tail.code.behind_sums(code, &inputs)?))
    }
}
