//! What the references of the recurrent operators share: the activation functions by their formulas, and the
//! layouts of the tensors.

use super::tensor::{RefInputs, RefTensor};
use crate::error::OpError;
use crate::ops::recurrence::{Activation, Function, Recurrence};

/// `activation(x)` with `x` clipped first.
pub(crate) fn activate(recurrence: &Recurrence, activation: Activation, x: f64) -> f64 {
    let x = match recurrence.clip.map(f64::from) {
        Some(clip) if x > clip => clip,
        Some(clip) if x < -clip => -clip,
        _ => x,
    };
    evaluate(activation, x)
}

/// `activation(x)`.
pub(crate) fn evaluate(activation: Activation, x: f64) -> f64 {
    let (alpha, beta) = (f64::from(activation.alpha), f64::from(activation.beta));
    match activation.function {
        Function::Relu if x < 0.0 => 0.0,
        Function::Relu => x,
        Function::Tanh => x.tanh(),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Affine => alpha * x + beta,
        Function::LeakyRelu if x >= 0.0 => x,
        Function::LeakyRelu => alpha * x,
        Function::ThresholdedRelu if x >= alpha => x,
        Function::ThresholdedRelu => 0.0,
        Function::ScaledTanh => alpha * (beta * x).tanh(),
        Function::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
        Function::Elu if x >= 0.0 => x,
        Function::Elu => alpha * x.exp_m1(),
        Function::Softsign => x / (1.0 + x.abs()),
        Function::Softplus if x > 30.0 => x + (-x).exp(),
        Function::Softplus => x.exp().ln_1p(),
    }
}

/// The inputs of a recurrence with their sizes.
pub(crate) struct Recurrent<'a> {
    pub(crate) recurrence: &'a Recurrence,
    inputs: RefInputs<'a>,
    pub(crate) time: usize,
    pub(crate) batch: usize,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
}

impl<'a> Recurrent<'a> {
    pub(crate) fn new(recurrence: &'a Recurrence, inputs: &RefInputs<'a>) -> Result<Self, OpError> {
        let (x, r) = (&inputs.tensor(0)?.shape, &inputs.tensor(2)?.shape);
        let (time, batch) = if recurrence.batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
        Ok(Self { recurrence, inputs: *inputs, time, batch, input: x[2], hidden: r[2] })
    }

    /// Steps of batch row `b`.
    pub(crate) fn length(&self, b: usize) -> Result<usize, OpError> {
        match self.inputs.optional(4)? {
            None => Ok(self.time),
            Some(t) => usize::try_from(t.as_ints()?[b])
                .ok()
                .filter(|&length| length <= self.time)
                .ok_or_else(|| OpError::value("a sequence length outside the time axis")),
        }
    }

    /// Index in time of step `step` of row `b` in direction `d`: the reverse direction starts at the row's own
    /// end.
    pub(crate) fn moment(&self, d: usize, b: usize, step: usize) -> Result<usize, OpError> {
        let reverse = self.recurrence.directions[d].reverse;
        Ok(if reverse { self.length(b)? - 1 - step } else { step })
    }

    fn element(&self, index: usize, shape: &[usize], at: &[usize]) -> Result<f64, OpError> {
        match self.inputs.optional(index)? {
            None => Ok(0.0),
            Some(t) => Ok(t.as_floats()?[RefTensor::ravel(shape, at)]),
        }
    }

    /// `X[t, b, :]`.
    pub(crate) fn x(&self, t: usize, b: usize) -> Result<Vec<f64>, OpError> {
        let x = self.inputs.tensor(0)?;
        let (i, j) = if self.recurrence.batch_first { (b, t) } else { (t, b) };
        (0..self.input).map(|k| self.element(0, &x.shape, &[i, j, k])).collect()
    }

    /// Initial state `index` (5 for h, 6 for c) of direction `d` and row `b`.
    pub(crate) fn initial(&self, index: usize, d: usize, b: usize) -> Result<Vec<f64>, OpError> {
        let (shape, at): ([usize; 3], [usize; 2]) = if self.recurrence.batch_first {
            ([self.batch, self.directions(), self.hidden], [b, d])
        } else {
            ([self.directions(), self.batch, self.hidden], [d, b])
        };
        (0..self.hidden).map(|k| self.element(index, &shape, &[at[0], at[1], k])).collect()
    }

    pub(crate) fn directions(&self) -> usize {
        self.recurrence.directions.len()
    }

    /// `Σ_k matrix[d, gate · hidden + unit, k] · vector[k]` for W (1) or R (2).
    pub(crate) fn product(
        &self,
        index: usize,
        [d, gate, unit]: [usize; 3],
        vector: &[f64],
    ) -> Result<f64, OpError> {
        let shape = [self.directions(), self.recurrence.cell.gates() * self.hidden, vector.len()];
        let row = gate * self.hidden + unit;
        (0..vector.len())
            .try_fold(0.0, |sum, k| Ok(sum + self.element(index, &shape, &[d, row, k])? * vector[k]))
    }

    /// The bias of W (`of = 0`) or R (`of = 1`) for a gate and unit.
    pub(crate) fn bias(&self, of: usize, [d, gate, unit]: [usize; 3]) -> Result<f64, OpError> {
        let gates = self.recurrence.cell.gates();
        let shape = [self.directions(), 2 * gates * self.hidden];
        self.element(3, &shape, &[d, (of * gates + gate) * self.hidden + unit])
    }

    /// Peephole `which` (i, o, f) of a unit.
    pub(crate) fn peephole(&self, d: usize, which: usize, unit: usize) -> Result<f64, OpError> {
        self.element(7, &[self.directions(), 3 * self.hidden], &[d, which * self.hidden + unit])
    }

    /// A tensor for Y, zero everywhere.
    pub(crate) fn empty_y(&self) -> RefTensor {
        let (t, b, d, h) = (self.time, self.batch, self.directions(), self.hidden);
        self.zeros(&if self.recurrence.batch_first { [b, t, d, h] } else { [t, d, b, h] })
    }

    /// A tensor for a last state.
    pub(crate) fn empty_state(&self) -> RefTensor {
        let (b, d, h) = (self.batch, self.directions(), self.hidden);
        self.zeros(&if self.recurrence.batch_first { [b, d, h] } else { [d, b, h] })
    }

    fn zeros(&self, shape: &[usize]) -> RefTensor {
        let dtype = self.inputs.tensor(0).map_or(crate::DType::F32, |x| x.dtype);
        RefTensor::floats(dtype, shape, vec![0.0; shape.iter().product()])
    }

    /// Sets `Y[t, d, b, :]`.
    pub(crate) fn set_y(&self, y: &mut RefTensor, [t, d, b]: [usize; 3], h: &[f64]) {
        let at = if self.recurrence.batch_first { [b, t, d, 0] } else { [t, d, b, 0] };
        set(y, &at, h);
    }

    /// Sets a last state of direction `d` and row `b`.
    pub(crate) fn set_state(&self, state: &mut RefTensor, d: usize, b: usize, values: &[f64]) {
        set(state, &if self.recurrence.batch_first { [b, d, 0] } else { [d, b, 0] }, values);
    }
}

fn set(to: &mut RefTensor, at: &[usize], values: &[f64]) {
    if let (false, super::RefData::Float(data)) = (values.is_empty(), &mut to.data) {
        let start = RefTensor::ravel(&to.shape, at);
        data[start..start + values.len()].copy_from_slice(values);
    }
}
