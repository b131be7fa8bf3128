//! Contractions and convolutions between DequantizeLinear and QuantizeLinear become their 8-bit forms.
//!
//! `quantise(dequantise(x) ∗ dequantise(w) + bias)` is `round((Σ (x − x₀)(w − w₀) + b) · sₓ s_w / s_y) + y₀`: the sum is
//! one of integers, exact where the separate operators round each product, and the results differ only where a quotient
//! lies within rounding of a half.
//!
//! Legal where
//! - the operands are 8-bit integers, dequantised to f32 by one scale, the weights also by one for each output channel;
//! - the sum of the depth's products fits 32 bits;
//! - a bias is 32-bit integers dequantised by the product of both scales, from zero;
//! - the result is quantised to 8 bits by one scale, in f32, and has no other reader and is no output itself.
//!
//! It pays always: the dequantised operands are neither written nor read.
//!
//! LSTM, GRU and RNN keep their floats. Their state is no quantised value: nothing rounds it between the steps, so
//! that only the product of the input would be a sum of integers. To quantise the state as well is another function,
//! beyond any class of accuracy, and one that has to be asked for: `DynamicQuantizeLSTM`. Weights are dequantised once, at
//! load, and a cell that was written out with dequantised weights, its input quantised and dequantised or not, is the
//! operator again. A cell that does quantise its state in every step stays a loop that does so.

use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Graph, ValueId, infer_node};
use crate::ops::{LinearQuantisation, Op};
use crate::tensor::{Shape, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// Terms of a sum of products of 8-bit integers that fit 32 bits.
const DEEPEST: usize = (i32::MAX / (255 * 255)) as usize;

/// A quantised value: integers, scale, zero point, and the axis of a scale that is no scalar.
struct Quantised {
    values: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    axis: i64,
}

struct Search<'g> {
    graph: &'g Graph,
    facts: &'g [Option<Fact>],
    maker: HashMap<ValueId, usize>,
    reads: HashMap<ValueId, usize>,
}

/// Rewrites what it can of `graph`; the operators that nobody reads any more are left to be removed.
pub(crate) fn to_integers(graph: &mut Graph, facts: &[Option<Fact>]) -> bool {
    let mut search = Search { graph, facts, maker: HashMap::new(), reads: HashMap::new() };
    for (at, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().flatten().for_each(|id| _ = search.maker.insert(*id, at));
        node.inputs.iter().flatten().for_each(|id| *search.reads.entry(*id).or_default() += 1);
    }
    graph.outputs.iter().for_each(|id| *search.reads.entry(*id).or_default() += 1);
    let found: Vec<(usize, Found)> =
        (0..graph.nodes.len()).filter_map(|at| Some((at, search.integer_form(at)?))).collect();
    let mut changed = false;
    for (at, Found { op, name, mut inputs, zeros }) in found {
        for (index, dtype, shape) in zeros {
            let Some(zero) = zeros_of(dtype, &shape) else { continue };
            inputs[index] = Some(graph.add_constant("zero", zero));
        }
        if inputs[..8].iter().any(Option::is_none) {
            continue;
        }
        let node = &mut graph.nodes[at];
        (node.op, node.inputs, node.def.name) = (op, inputs, name);
        changed = true;
    }
    changed
}

fn zeros_of(dtype: DType, shape: &[usize]) -> Option<Tensor> {
    let count = crate::tensor::element_count(shape)?;
    match dtype {
        DType::U8 => Tensor::new(shape, vec![0u8; count]).ok(),
        DType::I8 => Tensor::new(shape, vec![0i8; count]).ok(),
        _ => None,
    }
}

/// The integer form of a node, with zero points to be made.
struct Found {
    op: Arc<dyn Op>,
    name: &'static str,
    inputs: Vec<Option<ValueId>>,
    zeros: Vec<(usize, DType, Shape)>,
}

impl Search<'_> {
    fn tensor(&self, id: ValueId) -> Option<&TensorFact> {
        self.facts.get(id.index())?.as_ref()?.tensor()
    }

    /// What `id` is dequantised from.
    fn dequantised(&self, id: ValueId) -> Option<Quantised> {
        let node = &self.graph.nodes[*self.maker.get(&id)?];
        let Some(LinearQuantisation::Dequantise { axis }) = node.op.linear_quantisation() else {
            return None;
        };
        let [values, scale] = [node.inputs[0]?, node.inputs[1]?];
        (self.tensor(scale)?.dtype == DType::F32).then_some(())?;
        Some(Quantised { values, scale, zero: node.inputs.get(2).copied().flatten(), axis })
    }

    fn is_single(&self, id: ValueId) -> bool {
        self.tensor(id).and_then(TensorFact::element_count) == Some(1)
    }

    /// The integer form of what ends in the quantisation at `at`.
    fn integer_form(&self, at: usize) -> Option<Found> {
        let end = &self.graph.nodes[at];
        let Some(LinearQuantisation::Quantise { .. }) = end.op.linear_quantisation() else { return None };
        let [real, y_scale, y_zero] = [end.inputs[0]?, end.inputs[1]?, end.inputs.get(2).copied()??];
        let node = &self.graph.nodes[*self.maker.get(&real)?];
        let (op, name) = node.op.quantised()?;
        let [x, w] = [self.dequantised(node.inputs[0]?)?, self.dequantised(node.inputs[1]?)?];
        let shape = self.tensor(w.values)?.known_shape()?;
        // The axis of output channels: the first of filters, the last of a matrix.
        let (channels, depth) = match node.op.product() {
            Some(_) => (shape.len().checked_sub(1)?, *shape.get(shape.len().checked_sub(2)?)?),
            None => (0, shape.get(1..)?.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?),
        };
        let axis = if w.axis < 0 { w.axis + shape.len() as i64 } else { w.axis };
        let per_channel = axis == channels as i64
            && shape.len() >= 2
            && (node.op.product().is_none() || shape.len() == 2)
            && self.tensor(w.scale)?.rank() == Some(1);
        let f32_scale = self.tensor(y_scale)?.dtype == DType::F32;
        let single = [x.scale, y_scale, y_zero].iter().all(|id| self.is_single(*id));
        let fits = single
            && f32_scale
            && (self.is_single(w.scale) || per_channel)
            && depth <= DEEPEST
            && self.reads.get(&real) == Some(&1);
        fits.then_some(())?;
        let mut inputs = vec![Some(x.values), Some(x.scale), x.zero, Some(w.values), Some(w.scale), w.zero];
        inputs.extend([Some(y_scale), Some(y_zero)]);
        if let Some(bias) = node.inputs.get(2).copied().flatten() {
            inputs.push(Some(self.integer_bias(bias, x.scale, w.scale)?));
        }
        let mut zeros = Vec::new();
        for (index, of) in [(2, &x), (5, &w)] {
            if of.zero.is_none() {
                let shape = self.tensor(of.scale)?.known_shape()?;
                zeros.push((index, self.tensor(of.values)?.dtype, shape));
            }
        }
        let byte = |id: ValueId| self.tensor(id).is_some_and(|t| matches!(t.dtype, DType::U8 | DType::I8));
        let bytes = [x.values, w.values, y_zero].into_iter().all(byte);
        // What the operator itself refuses stays as it is.
        let made: Vec<Fact> = zeros.iter().map(|z| TensorFact::known(z.1, &z.2).into()).collect();
        let given: Vec<Option<&Fact>> = inputs
            .iter()
            .enumerate()
            .map(|(index, id)| match zeros.iter().position(|z| z.0 == index) {
                Some(place) => Some(&made[place]),
                None => self.facts[id.as_ref()?.index()].as_ref(),
            })
            .collect();
        (bytes && infer_node(&*op, Facts(&given)).is_ok()).then_some(())?;
        Some(Found { op, name, inputs, zeros })
    }

    /// The integers of a bias whose scale is the product of both operands' scales.
    fn integer_bias(&self, bias: ValueId, x_scale: ValueId, w_scale: ValueId) -> Option<ValueId> {
        const RELATIVE: f64 = 1e-5;
        let bias = self.dequantised(bias)?;
        let values = |id: ValueId| {
            let tensor = self.graph.value(id).constant.as_ref()?;
            (0..tensor.len()).map(|i| tensor.f64_at(i)).collect::<Option<Vec<f64>>>()
        };
        let zero = match bias.zero {
            None => true,
            Some(zero) => {
                let tensor = self.graph.value(zero).constant.as_ref()?;
                tensor.view().to_i64s().ok()?.iter().all(|&z| z == 0)
            }
        };
        let (own, x, w) = (values(bias.scale)?, values(x_scale)?, values(w_scale)?);
        let count = self.tensor(bias.values)?.element_count()?;
        let at = |v: &[f64], i: usize| v.get(if v.len() == 1 { 0 } else { i }).copied();
        let same = |i: usize| {
            let product = at(&x, 0)? * at(&w, i)?;
            Some((at(&own, i)? - product).abs() <= RELATIVE * product.abs())
        };
        let integers = self.tensor(bias.values)?.dtype == DType::I32;
        (zero && integers && (0..count).all(|i| same(i) == Some(true))).then_some(bias.values)
    }
}
