//! # DynamicQuantizeLSTM (com.microsoft)
//! [LSTM](super::lstm) whose weights are 8-bit integers, `[directions, input or hidden, 4 · hidden]`, with a scale and
//! a zero point for each direction or for each column. X and h are quantised to u8 while running, as
//! DynamicQuantizeLinear does, so that products are sums of integers. Version 1.
//!
//! As in ONNX Runtime, X is quantised over the range of all steps up to the longest row's last, and h at each step
//! over the range of the states before it in all rows. The state of a row that ended one step before still counts,
//! earlier ones do not. A row of length 0 gives its initial state as last state, where ONNX Runtime gives zeros.

use super::attributes::NodeSpec;
use super::quantised_product::BYTES;
use super::recurrence::{Cell, Recurrence};
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::{CpuSite, Kernel, recurrent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::recurrence::{Recurrent, activate, evaluate};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::gen_recurrence::{Shape, attributes, lengths};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

/// Inputs that LSTM has too; scales and zero points of W and R follow.
const OF_LSTM: usize = 8;
const GATES: usize = 4;

pub(super) const DEF: OpDef = OpDef {
    name: "DynamicQuantizeLSTM",
    domain: "com.microsoft",
    since: &[1],
    until: None,
    dtypes: &[DType::F32],
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct DynamicQuantizeLstm(Recurrence);

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let cell = Cell::Lstm { input_forget: spec.flag_or("input_forget", false)? };
    Ok(Arc::new(DynamicQuantizeLstm(Recurrence::parse(spec, cell)?)))
}

/// The fact of a weight as LSTM has it: floats, with the last two axes exchanged.
fn weight_of_lstm(inputs: Facts<'_>, index: usize) -> Result<Fact, OpError> {
    let fact = inputs.typed(index, BYTES)?;
    let mut shape = fact.shape.clone();
    if let Some([_, depth, columns]) = shape.as_deref_mut() {
        std::mem::swap(depth, columns);
    }
    Ok(TensorFact { shape, ..TensorFact::unranked(DType::F32) }.into())
}

impl Op for DynamicQuantizeLstm {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, OF_LSTM + 4)?;
        inputs.typed(0, &[DType::F32])?;
        let (w, r) = (weight_of_lstm(inputs, 1)?, weight_of_lstm(inputs, 2)?);
        let mut given: Vec<Option<&Fact>> = inputs.0.iter().take(OF_LSTM).copied().collect();
        (given[1], given[2]) = (Some(&w), Some(&r));
        let made = self.0.infer(Facts(&given))?;
        let hidden = match made.first().and_then(Fact::tensor).and_then(|y| y.shape.as_ref()?.last().cloned())
        {
            Some(Dim::Known(hidden)) => Some(hidden),
            _ => None,
        };
        let planes = self.0.directions.len();
        for (index, dtype) in [
            (OF_LSTM, DType::F32),
            (OF_LSTM + 1, inputs.tensor(1)?.dtype),
            (OF_LSTM + 2, DType::F32),
            (OF_LSTM + 3, inputs.tensor(2)?.dtype),
        ] {
            let Some(shape) = &inputs.typed(index, &[dtype])?.shape else { continue };
            let fits = |dim: Option<&Dim>, wanted: Option<usize>| match (dim.and_then(Dim::known), wanted) {
                (Some(got), Some(wanted)) => got == wanted,
                _ => true,
            };
            let columns = hidden.and_then(|h| h.checked_mul(GATES));
            let each = shape.len() == 1 || (shape.len() == 2 && fits(shape.get(1), columns));
            if !each || !fits(shape.first(), Some(planes)) {
                let problem = "has neither one element for each direction nor one for each of its columns";
                return Err(OpError::input(index, problem));
            }
        }
        Ok(made)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        Recurrence::cost(inputs, outputs)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        recurrent::quantised::kernel(&self.0, site)
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::recurrent::quantised::kernel(&self.0, site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(self.simulate(inputs)?.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A quantisation to u8 in the reference: the operator is defined by f32 arithmetic.
struct Quantised {
    scale: f64,
    zero: f64,
    /// The least distance of what was rounded from the middle between two levels.
    margin: f64,
}

fn single(v: f64) -> f64 {
    f64::from(v as f32)
}

fn distance_from_middle(v: f64) -> f64 {
    (v - v.floor() - 0.5).abs()
}

impl Quantised {
    fn over(values: &[f64]) -> Self {
        let least = values.iter().fold(0.0, |a: f64, &b| a.min(single(b)));
        let most = values.iter().fold(0.0, |a: f64, &b| a.max(single(b)));
        let scale = if least == most { 1.0 } else { single(single(most - least) / 255.0) };
        let zero = single(-least / scale);
        let margin = distance_from_middle(zero);
        Self { scale, zero: zero.clamp(0.0, 255.0).round_ties_even(), margin }
    }

    /// The quantised values without the zero point.
    fn apply(&mut self, values: &[f64]) -> Vec<f64> {
        let mut level = |&v: &f64| {
            let at = single(single(v) / self.scale);
            self.margin = self.margin.min(distance_from_middle(at));
            (at.round_ties_even() + self.zero).clamp(0.0, 255.0) - self.zero
        };
        values.iter().map(&mut level).collect()
    }
}

/// The element for a direction and a column, or the only one of the direction.
fn element(values: &[f64], d: usize, planes: usize, column: usize) -> f64 {
    let each = values.len() / planes;
    values[d * each + if each == 1 { 0 } else { column }]
}

fn numbers(inputs: &RefInputs<'_>, index: usize) -> Result<Vec<f64>, OpError> {
    Ok(inputs.tensor(index)?.as_ints()?.iter().map(|&v| v as f64).collect())
}

/// A weight without its zero point, in the form of LSTM: `[directions, 4 · hidden, depth]`.
fn centred(inputs: &RefInputs<'_>, index: usize, zero: usize) -> Result<RefValue, OpError> {
    let shape = &inputs.tensor(index)?.shape;
    let (planes, depth, columns) = (shape[0], shape[1], shape[2]);
    let (data, zeros) = (numbers(inputs, index)?, numbers(inputs, zero)?);
    let mut out = Vec::with_capacity(data.len());
    for d in 0..planes {
        for column in 0..columns {
            for k in 0..depth {
                out.push(data[(d * depth + k) * columns + column] - element(&zeros, d, planes, column));
            }
        }
    }
    Ok(RefTensor::floats(DType::F32, &[planes, columns, depth], out).into())
}

impl DynamicQuantizeLstm {
    /// The outputs, and the least distance of a state from the middle between two levels when it was quantised.
    fn simulate(&self, inputs: &RefInputs<'_>) -> Result<(Vec<RefValue>, f64), OpError> {
        let (w, r) = (centred(inputs, 1, OF_LSTM + 1)?, centred(inputs, 2, OF_LSTM + 3)?);
        let mut given: Vec<Option<&RefValue>> = inputs.0.iter().take(OF_LSTM).copied().collect();
        (given[1], given[2]) = (Some(&w), Some(&r));
        let given = RefInputs(&given);
        let all = Recurrent::new(&self.0, &given)?;
        let coupled = self.0.cell == Cell::Lstm { input_forget: true };
        let scales = [inputs.tensor(OF_LSTM)?.as_floats()?, inputs.tensor(OF_LSTM + 2)?.as_floats()?];
        let lengths: Vec<usize> = (0..all.batch).map(|b| all.length(b)).collect::<Result<_, _>>()?;
        let steps = lengths.iter().copied().max().unwrap_or(0);
        let x = inputs.tensor(0)?.as_floats()?;
        let mut x_form = Quantised::over(&x[..steps * all.batch * all.input]);
        let mut margin = f64::INFINITY;
        let (mut y, mut last_h, mut last_c) = (all.empty_y(), all.empty_state(), all.empty_state());
        for (d, direction) in self.0.directions.iter().enumerate() {
            let [f, g, h] = direction.activations[..] else { return Err(OpError::internal("activations")) };
            let apply = |activation, x| activate(&self.0, activation, x);
            let initial =
                |index| (0..all.batch).map(|b| all.initial(index, d, b)).collect::<Result<Vec<_>, _>>();
            let (mut hidden, mut cell) = (initial(5)?, initial(6)?);
            for step in 0..steps {
                let counted = (0..all.batch).filter(|&b| step <= lengths[b]);
                let before: Vec<f64> = counted.flat_map(|b| hidden[b].iter().copied()).collect();
                let mut h_form = Quantised::over(&before);
                for b in (0..all.batch).filter(|&b| step < lengths[b]) {
                    let t = all.moment(d, b, step)?;
                    let x_now = x_form.apply(&all.x(t, b)?);
                    let h_now = h_form.apply(&hidden[b]);
                    for u in 0..all.hidden {
                        let gate = |gate: usize| -> Result<f64, OpError> {
                            let (at, column) = ([d, gate, u], gate * all.hidden + u);
                            let planes = all.directions();
                            let factor = |by: f64, scales| single(by * element(scales, d, planes, column));
                            Ok(all.product(1, at, &x_now)? * factor(x_form.scale, scales[0])
                                + all.product(2, at, &h_now)? * factor(h_form.scale, scales[1])
                                + all.bias(0, at)?
                                + all.bias(1, at)?)
                        };
                        let state = &mut cell[b][u];
                        let input = apply(f, gate(0)? + all.peephole(d, 0, u)? * *state);
                        let forget = if coupled {
                            1.0 - input
                        } else {
                            apply(f, gate(2)? + all.peephole(d, 2, u)? * *state)
                        };
                        *state = forget * *state + input * apply(g, gate(3)?);
                        let output = apply(f, gate(1)? + all.peephole(d, 1, u)? * *state);
                        hidden[b][u] = output * evaluate(h, *state);
                    }
                    all.set_y(&mut y, [t, d, b], &hidden[b]);
                }
                margin = margin.min(h_form.margin);
            }
            for b in 0..all.batch {
                all.set_state(&mut last_h, d, b, &hidden[b]);
                all.set_state(&mut last_c, d, b, &cell[b]);
            }
        }
        Ok((vec![y.into(), last_h.into(), last_c.into()], margin))
    }
}

fn draw(g: &mut Gen, time: usize) -> Case {
    let planes = g.size(1, 2);
    let batch = *g.pick(&[0, 1, 1, 2, 3]);
    let input = *g.pick(&[0, 1, 3, 16, 31]);
    let hidden = *g.pick(&[0, 1, 2, 5, 13, 16, 17, 33, 65]);
    let columns = GATES * hidden;
    let mut case = Case::new([g.tensor_in(DType::F32, &[time, batch, input], -1.0, 1.0)]).opset(1);
    let types = [*g.pick(BYTES), *g.pick(BYTES)];
    case = case.input(g.any_tensor(types[0], &[planes, input, columns]));
    case = case.input(g.any_tensor(types[1], &[planes, hidden, columns]));
    let optional =
        |g: &mut Gen, shape: &[usize]| g.chance(0.6).then(|| g.tensor_in(DType::F32, shape, -0.6, 0.6));
    case = case
        .optional(optional(g, &[planes, 2 * columns]))
        .optional(g.chance(0.5).then(|| lengths(g, time, batch)));
    case =
        case.optional(optional(g, &[planes, batch, hidden])).optional(optional(g, &[planes, batch, hidden]));
    let peepholes = g.chance(0.4).then(|| g.tensor_in(DType::F32, &[planes, 3 * hidden], -0.15, 0.15));
    case = case.optional(peepholes);
    for (dtype, depth) in [(types[0], input), (types[1], hidden)] {
        let shape = if g.chance(0.5) { vec![planes] } else { vec![planes, columns] };
        // Columns that sum to about one, as in the cases of LSTM.
        let most = 1.0 / (128 * depth.max(1)) as f64;
        case = case.input(g.tensor_in(DType::F32, &shape, most / 4.0, most));
        case = case.input(g.any_tensor(dtype, &shape));
    }
    case = case.outputs(g.size(1, 3));
    if g.chance(0.3) {
        case = case.int("input_forget", g.int(0, 1));
    }
    if g.chance(0.6) {
        case = case.constant(1).constant(2);
    }
    attributes(
        g,
        case,
        &Shape { gates: GATES, functions: 3, cell_state: true, flag: None },
        [planes, hidden, time],
    )
}

/// A state near the middle between two levels goes to one or the other by the last bit of its activations, and
/// what follows differs by a whole level. No such use is drawn.
fn case(g: &mut Gen) -> Case {
    const NEAR: f64 = 1e-3;
    const DRAWS: usize = 100;
    for _ in 0..DRAWS {
        let time = g.size(0, 5);
        let case = draw(g, time);
        if margin(&case).is_some_and(|margin| margin > NEAR) {
            return case;
        }
    }
    draw(g, 0)
}

fn margin(case: &Case) -> Option<f64> {
    let op = crate::testing::parse(&DEF, case).ok()?;
    let values: Vec<Option<RefValue>> =
        case.inputs.iter().map(|v| v.as_ref().and_then(|v| RefValue::from_value(v).ok())).collect();
    let given: Vec<Option<&RefValue>> = values.iter().map(Option::as_ref).collect();
    let op = op.as_any().downcast_ref::<DynamicQuantizeLstm>()?;
    op.simulate(&RefInputs(&given)).ok().map(|(_, margin)| margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_cases_quantise_states() {
        let steps = |seed| {
            let case = case(&mut Gen::new(seed));
            let shape = |index: usize| {
                case.inputs[index].as_ref().and_then(|v| Some(v.as_tensor()?.shape().to_vec()))
            };
            let (x, r) = (shape(0).unwrap_or_default(), shape(2).unwrap_or_default());
            x[0] > 1 && x[1] > 0 && r[1] > 0
        };
        let many = (0..40).filter(|&seed| steps(seed)).count();
        assert!(many >= 10, "{many} of 40 cases have two steps or more");
    }
}
