//! LSTM, GRU and RNN: `X·Wᵀ + Wb` for all steps and directions as one product ([`projection`]), then each direction's steps
//! ([`cells`]): all of them in one launch for few hidden units, else one launch (two for some GRUs) per step.
//!
//! Kernels compute in f32; R may be of 16 bits. Other operands of 16 bits are widened before and what comes out is rounded
//! after, each in one map. A layout that puts batches first is one that the kernels step through, except for states of
//! several directions, which are brought into theirs. In f64 ([`wide`]) and with weights of 8 bits ([`quantised`])
//! recurrences are written out step by step ([`unrolled`]).

mod cells;
mod projection;
pub(crate) mod quantised;
mod unrolled;
mod wide;

use super::composition::{Composition, Place};
use super::{element, extent, map};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::ops::recurrence::{Activation, Function, Recurrence};
use recurve_kernels::activation::{self, Activation as KernelActivation};

/// Positions of the inputs.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const H: usize = 5;
const C: usize = 6;
const P: usize = 7;

/// The sizes of a recurrence.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    gates: usize,
}

impl Sizes {
    /// Rows of W and R of one direction.
    fn rows(&self) -> usize {
        self.gates * self.hidden
    }

    /// Bytes of as many f32 as these extents span.
    fn bytes(extents: &[usize]) -> Result<usize, GpuReject> {
        let count = extents.iter().try_fold(4usize, |n, &extent| n.checked_mul(extent));
        count.ok_or_else(|| GpuReject::Form("a recurrence of so many bytes".into()))
    }
}

/// The launches of `recurrence`.
pub(crate) fn kernel(recurrence: &Recurrence, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let (x, r) = (site.input_shape(X)?, site.input_shape(R)?);
    let ([a, b, input], [_, _, hidden]) = (&x[..], &r[..]) else { return Err(GpuReject::NoKernel) };
    let (time, batch) = if recurrence.batch_first { (*b, *a) } else { (*a, *b) };
    let (directions, gates) = (recurrence.directions.len(), recurrence.cell.gates());
    let sizes = Sizes { time, batch, input: *input, hidden: *hidden, directions, gates };
    for size in [time, batch, *hidden, *input] {
        extent(size)?;
    }
    let dtype = site.dtype(X)?;
    if batch == 0 || *hidden == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    if time == 0 {
        return without_steps(site, dtype);
    }
    if dtype == DType::F64 {
        return wide::kernel(recurrence, site, sizes);
    }
    element(dtype)?;
    let mut whole = Composition::new("");
    let mut operands = Operands { site, dtype, sizes, batch_first: recurrence.batch_first };
    let widened = |operands: &Operands<'_>, whole: &mut Composition, input: usize| operands.f32(whole, input);
    let of_x = widened(&operands, &mut whole, X)?;
    let projection = projection::new(site, sizes, recurrence.batch_first)?;
    let w = if projection.reads_weights { widened(&operands, &mut whole, W)? } else { Place::Nowhere };
    let bias = widened(&operands, &mut whole, B)?;
    let of_gates = whole.between(Sizes::bytes(&[time, batch, directions, sizes.rows()])?)?;
    whole.add("projection", projection.kernel, vec![of_x, w, bias], vec![of_gates])?;

    let states = [operands.state(&mut whole, H)?, operands.state(&mut whole, C)?];
    let peepholes = widened(&operands, &mut whole, P)?;
    let outputs =
        [operands.output(&mut whole, 0)?, operands.output(&mut whole, 1)?, operands.output(&mut whole, 2)?];
    let lengths = if site.inputs.has(LENGTHS) { Place::Input(LENGTHS) } else { Place::Nowhere };
    let inputs = vec![of_gates, Place::Input(R), bias, lengths, states[0], states[1], peepholes];
    let steps = cells::new(recurrence, site, sizes, projection.gates)?;
    whole.add("steps", steps, inputs, outputs.to_vec())?;
    for (at, place) in outputs.into_iter().enumerate() {
        operands.finish(&mut whole, at, place)?;
    }
    Ok(whole.finish())
}

/// No step: the last states are the initial ones, or zeros.
fn without_steps(site: &GpuSite<'_>, dtype: DType) -> Result<GpuKernel, GpuReject> {
    let mut whole = Composition::new("");
    for (output, input) in [(1, H), (2, C)] {
        if !site.wanted.get(output).copied().unwrap_or(false) {
            continue;
        }
        let shape = site.output_shape(output)?;
        let (kernel, from) = if site.inputs.has(input) {
            (map::moved(site, [dtype, dtype], &shape, &dense(&shape))?, Place::Input(input))
        } else {
            (map::zeros(site, dtype, &shape)?, Place::Nowhere)
        };
        whole.add(&format!("state {output}"), kernel, vec![from], vec![Place::Output(output)])?;
    }
    Ok(whole.finish())
}

/// Operands as kernels take them.
struct Operands<'a> {
    site: &'a GpuSite<'a>,
    dtype: DType,
    sizes: Sizes,
    batch_first: bool,
}

impl Operands<'_> {
    /// Input `input` as f32 in the operator's layout.
    fn f32(&self, whole: &mut Composition, input: usize) -> Result<Place, GpuReject> {
        if !self.site.inputs.has(input) {
            return Ok(Place::Nowhere);
        }
        if self.dtype == DType::F32 {
            return Ok(Place::Input(input));
        }
        let shape = self.site.input_shape(input)?;
        let widened = whole.between(Sizes::bytes(&shape)?)?;
        let strides = dense(&shape);
        let kernel = map::moved(self.site, [self.dtype, DType::F32], &shape, &strides)?;
        whole.add(&format!("input {input}"), kernel, vec![Place::Input(input)], vec![widened])?;
        Ok(widened)
    }

    /// Whether the operator has states as `[batch, directions, hidden]`, which is not what kernels have.
    fn turned(&self) -> bool {
        self.batch_first && self.sizes.directions > 1
    }

    /// The initial state of input `input` as f32 `[directions, batch, hidden]`.
    fn state(&self, whole: &mut Composition, input: usize) -> Result<Place, GpuReject> {
        if !self.turned() || !self.site.inputs.has(input) {
            return self.f32(whole, input);
        }
        let Sizes { batch, hidden, directions, .. } = self.sizes;
        let turned = whole.between(Sizes::bytes(&[directions, batch, hidden])?)?;
        let strides = [hidden, directions * hidden, 1];
        let shape = [directions, batch, hidden];
        let kernel = map::moved(self.site, [self.dtype, DType::F32], &shape, &strides)?;
        whole.add(&format!("state {input}"), kernel, vec![Place::Input(input)], vec![turned])?;
        Ok(turned)
    }

    /// Where kernels write output `output`: as f32, states as `[directions, batch, hidden]`.
    fn output(&self, whole: &mut Composition, output: usize) -> Result<Place, GpuReject> {
        if !self.site.wanted.get(output).copied().unwrap_or(false) {
            return Ok(Place::Nowhere);
        }
        if self.dtype == DType::F32 && (output == 0 || !self.turned()) {
            return Ok(Place::Output(output));
        }
        whole.between(Sizes::bytes(&self.site.output_shape(output)?)?)
    }

    /// Brings what kernels wrote to `place` into output `output`.
    fn finish(&mut self, whole: &mut Composition, output: usize, place: Place) -> Result<(), GpuReject> {
        let Place::Between { .. } = place else { return Ok(()) };
        let shape = self.site.output_shape(output)?;
        let Sizes { batch, hidden, .. } = self.sizes;
        let strides =
            if output > 0 && self.turned() { vec![hidden, batch * hidden, 1] } else { dense(&shape) };
        let kernel = map::moved(self.site, [DType::F32, self.dtype], &shape, &strides)?;
        whole.add(&format!("output {output}"), kernel, vec![place], vec![Place::Output(output)])
    }
}

/// Row-major strides.
fn dense(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// An activation function as kernels take it.
fn activation(of: &Activation) -> KernelActivation {
    let function = match of.function {
        Function::Relu => activation::Function::Relu,
        Function::Tanh => activation::Function::Tanh,
        Function::Sigmoid => activation::Function::Sigmoid,
        Function::Affine => activation::Function::Affine,
        Function::LeakyRelu => activation::Function::LeakyRelu,
        Function::ThresholdedRelu => activation::Function::ThresholdedRelu,
        Function::ScaledTanh => activation::Function::ScaledTanh,
        Function::HardSigmoid => activation::Function::HardSigmoid,
        Function::Elu => activation::Function::Elu,
        Function::Softsign => activation::Function::Softsign,
        Function::Softplus => activation::Function::Softplus,
    };
    KernelActivation::new(function, of.alpha, of.beta)
}
