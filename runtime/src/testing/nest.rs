//! Loop nests with memory of their own, for benchmarks: what a fused chain of operators or a normalisation costs
//! without a session around it.

use crate::cpu::RunContext;
use crate::cpu::normalization::Normalization;
use crate::cpu::program::{Layout, MapKernel, RowKernel, RowLayout};
use crate::cpu::softmax::{Form, row_program};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{Interrupt, Team};
use crate::loops::program::{Builder, Reg};
use crate::memory::{Budget, Buffer};
use smallvec::{SmallVec, smallvec};
use std::fmt;

/// One step of a chain of elementwise operators, each on the result so far `y` and the chain's input `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// `1.5 · y`.
    Scale,
    /// `y + 1.5`.
    Shift,
    /// `max(y, 0)`.
    Relu,
    /// `y · x`.
    Product,
    /// `y − x`.
    Difference,
    /// `|y|`.
    Abs,
    /// `1 / (1 + e^−y)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `e^y`.
    Exp,
    /// The error function.
    Erf,
    /// `½ y (1 + erf(y / √2))`.
    Gelu,
    /// The same in the operators that it is exported in: a quotient, the error function, a sum and two products.
    GeluAsExported,
}

impl Link {
    fn push(self, b: &mut Builder, x: Reg, y: Reg) -> Reg {
        let (step, zero) = (b.constant_as(x, 1.5), b.constant_as(x, 0.0));
        match self {
            Self::Scale => b.mul(y, step),
            Self::Shift => b.add(y, step),
            Self::Relu => b.max(y, zero),
            Self::Product => b.mul(y, x),
            Self::Difference => b.sub(y, x),
            Self::Abs => b.abs(y),
            Self::Sigmoid => b.sigmoid(y),
            Self::Tanh => b.tanh(y),
            Self::Exp => b.exp(y),
            Self::Erf => b.erf(y),
            Self::Gelu => {
                let (scale, half) =
                    (b.constant_as(x, std::f64::consts::FRAC_1_SQRT_2), b.constant_as(x, 0.5));
                let inner = b.mul(y, scale);
                let gate = b.erf(inner);
                let weight = b.mul_add(gate, half, half);
                b.mul(y, weight)
            }
            Self::GeluAsExported => {
                let constants = [std::f64::consts::SQRT_2, 1.0, 0.5];
                let [divisor, one, half] = constants.map(|value| b.constant_as(x, value));
                let inner = b.div(y, divisor);
                let gate = b.erf(inner);
                let weight = b.add(gate, one);
                let weighted = b.mul(y, weight);
                b.mul(weighted, half)
            }
        }
    }
}

enum Body {
    Copy,
    Map(Box<MapKernel>),
    Rows(Box<RowKernel>),
}

/// A nest of `f32` with its threads and memory.
pub struct Nest {
    body: Body,
    team: Team,
    interrupt: Interrupt,
    budget: Budget,
    inputs: Vec<Buffer>,
    output: Buffer,
    scratch: Buffer,
}

impl fmt::Debug for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nest({} bytes)", self.output.bytes().len())
    }
}

impl Nest {
    fn new(body: Body, threads: usize, inputs: &[usize], output: usize) -> Result<Self, OpError> {
        let budget = Budget::unlimited();
        let mut buffers = Vec::new();
        for &count in inputs {
            let mut buffer = Buffer::zeroed_for::<f32>(count, &budget)?;
            for (i, place) in buffer.bytes_mut().chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&((i * 37 % 1001) as f32 / 125.0 - 4.0).to_ne_bytes());
            }
            buffers.push(buffer);
        }
        let scratch = match &body {
            Body::Copy => 0,
            Body::Map(kernel) => kernel.scratch(),
            Body::Rows(kernel) => kernel.scratch(),
        };
        let (output, scratch) =
            (Buffer::zeroed_for::<f32>(output, &budget)?, Buffer::zeroed(scratch, &budget)?);
        let (team, interrupt) = (Team::new(threads, true), Interrupt::default());
        Ok(Self { body, team, interrupt, budget, inputs: buffers, output, scratch })
    }

    /// A copy of `elements` elements: what a nest that computes nothing would cost.
    pub fn copy(elements: usize, threads: usize) -> Result<Self, OpError> {
        Self::new(Body::Copy, threads, &[elements], elements)
    }

    /// A chain of elementwise operators on `elements` elements.
    pub fn chain(links: &[Link], elements: usize, threads: usize) -> Result<Self, OpError> {
        let mut b = Builder::new(&[DType::F32]);
        let x = b.input(0);
        let y = links.iter().fold(x, |y, link| link.push(&mut b, x, y));
        let program = b.finish(&[(y, DType::F32)])?;
        let layout = Layout::broadcast(&[elements], &[elements])?;
        let kernel = MapKernel::new(&program, &[elements], &[layout], threads)?;
        Self::new(Body::Map(Box::new(kernel)), threads, &[elements], elements)
    }

    /// Softmax of `rows` rows.
    pub fn softmax(rows: usize, length: usize, threads: usize) -> Result<Self, OpError> {
        let program = row_program(Form::Softmax, DType::F32, length)?
            .ok_or_else(|| OpError::internal("softmax is a row program"))?;
        let layout = RowLayout::plain(length);
        let kernel = RowKernel::new(&program, [rows, length], &[layout], threads)?;
        Self::new(Body::Rows(Box::new(kernel)), threads, &[rows * length], rows * length)
    }

    /// Layer normalisation of `rows` rows with scale and bias.
    pub fn layer_norm(rows: usize, length: usize, threads: usize) -> Result<Self, OpError> {
        let dtype = DType::F32;
        let form = Normalization { dtype, output: dtype, length, epsilon: 1e-5, centred: true, bias: true };
        let program = form.row_program()?.ok_or_else(|| OpError::internal("layer norm is a row program"))?;
        let column = RowLayout::plain(0);
        let layouts = [RowLayout::plain(length), column.clone(), column];
        let kernel = RowKernel::new(&program, [rows, length], &layouts, threads)?;
        Self::new(Body::Rows(Box::new(kernel)), threads, &[rows * length, length, length], rows * length)
    }

    /// Runs the nest once.
    pub fn run(&mut self) -> Result<(), OpError> {
        let Self { body, team, interrupt, budget, inputs, output, scratch } = self;
        let context = RunContext { team, interrupt, budget, times: None };
        let inputs: SmallVec<[&[u8]; 4]> = inputs.iter().map(Buffer::bytes).collect();
        match body {
            Body::Map(kernel) => {
                kernel.run(&inputs, smallvec![output.bytes_mut()], scratch.bytes_mut(), context)
            }
            Body::Rows(kernel) => {
                kernel.run(&inputs, smallvec![output.bytes_mut()], scratch.bytes_mut(), context)
            }
            Body::Copy => {
                const PIECE: usize = 1 << 16;
                let (x, bytes) = (inputs[0], output.bytes_mut());
                let (work, pieces) = (bytes.len(), Chunks::new(bytes, PIECE));
                for_each_tile(context, work, Lanes::none(), &pieces, &|i, piece, _| {
                    piece.copy_from_slice(&x[i * PIECE..][..piece.len()]);
                    Ok(())
                })
            }
        }
    }
}
