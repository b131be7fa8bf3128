//! Random graphs of operators that fuse.

use super::sketch_products::{attention, gates, heads, steps};
use super::sketch_windows::windows;
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::{Fact, Graph, Node, ValueId, infer};
use crate::ops::attributes::{Attribute, NodeSpec};
use crate::ops::{NEWEST_OPSET, find};
use crate::tensor::{Tensor, ValueRef};
use crate::testing::Gen;
use std::cell::Cell;

/// A graph that grows by random nodes over values of known shapes.
#[derive(Default)]
pub(super) struct Sketch {
    pub(super) graph: Graph,
    pub(super) inputs: Vec<Tensor>,
    pub(super) values: Vec<(ValueId, Vec<usize>)>,
}

impl Sketch {
    pub(super) fn node(
        &mut self,
        op: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: &[ValueId],
    ) -> Option<ValueId> {
        self.nodes(op, attributes, inputs, 1)[0]
    }

    /// A node of `count` outputs; none where it does not fit its inputs.
    pub(super) fn nodes(
        &mut self,
        op: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: &[ValueId],
        count: usize,
    ) -> Vec<Option<ValueId>> {
        let def = find("", op, NEWEST_OPSET).expect("an operator of the table");
        let spec = NodeSpec {
            attributes: attributes.into_iter().map(|(n, a)| (n.into(), a, Cell::new(false))).collect(),
            opset: NEWEST_OPSET,
            inputs: vec![true; inputs.len()],
            outputs: vec![true; count],
        };
        let op = (def.parse)(&spec).expect("valid attributes");
        let name = |graph: &Graph| format!("v{}", graph.values.len());
        let outs: Vec<ValueId> = (0..count).map(|_| self.graph.add_value(name(&self.graph))).collect();
        self.graph.nodes.push(Node {
            name: format!("{}_{}", def.name, self.graph.nodes.len()).into(),
            def: def.op_name(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outs.iter().copied().map(Some).collect(),
        });
        let facts = infer(&self.graph, &self.facts()).unwrap_or_default();
        let shape = |id: &ValueId| Some(facts.get(id.index())?.as_ref()?.tensor()?.known_shape()?.to_vec());
        let Some(shapes) = outs.iter().map(shape).collect::<Option<Vec<_>>>() else {
            self.graph.nodes.pop();
            return vec![None; count];
        };
        self.values.extend(outs.iter().copied().zip(shapes));
        outs.into_iter().map(Some).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        self.inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect()
    }

    pub(super) fn input(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(format!("x{}", self.inputs.len()));
        self.graph.inputs.push(id);
        self.values.push((id, tensor.shape().to_vec()));
        self.inputs.push(tensor);
        id
    }

    pub(super) fn constant(&mut self, tensor: Tensor) -> ValueId {
        let shape = tensor.shape().to_vec();
        let id = self.graph.add_constant(format!("c{}", self.graph.values.len()), tensor);
        self.values.push((id, shape));
        id
    }

    /// Some value, one of the latest more often than an old one.
    pub(super) fn any(&self, g: &mut Gen) -> (ValueId, Vec<usize>) {
        let n = self.values.len();
        let back = g.size(0, n - 1).min(g.size(0, n - 1));
        self.values[n - 1 - back].clone()
    }
}

/// Adds one random node.
fn grow(s: &mut Sketch, g: &mut Gen) {
    let (x, shape) = s.any(g);
    match g.size(0, 29) {
        0..=3 => {
            let unary = ["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Softsign", "Erf", "Softplus"];
            s.node(*g.pick(&unary), vec![], &[x]);
        }
        4..=7 => {
            let binary = ["Add", "Sub", "Mul", "Max", "Min"];
            let (y, _) = if g.chance(0.5) {
                s.any(g)
            } else {
                let own = g.broadcastable(&shape);
                let tensor = g.tensor_in(DType::F32, &own, -1.0, 1.0);
                (if g.chance(0.5) { s.constant(tensor) } else { s.input(tensor) }, own)
            };
            let pair = if g.chance(0.5) { [x, y] } else { [y, x] };
            s.node(*g.pick(&binary), vec![], &pair);
        }
        8 => {
            let perm = g.permutation(shape.len()).into_iter().map(|a| a as i64).collect();
            s.node("Transpose", vec![("perm", Attribute::Ints(perm))], &[x]);
        }
        9 => {
            let count: usize = shape.iter().product();
            let mut to: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
            if g.chance(0.5) {
                to = vec![count as i64];
            } else {
                to.insert(g.size(0, to.len()), 1);
            }
            let target = s.constant(Tensor::new(&[to.len()], to).expect("a list"));
            s.node("Reshape", vec![], &[x, target]);
        }
        10 if !shape.is_empty() => {
            let axis = g.size(0, shape.len() - 1);
            let (start, step) = (g.int(0, 2), g.int(1, 2));
            let list = |v: i64| Tensor::new(&[1], vec![v]).expect("a list");
            let bounds = [start, i64::MAX, axis as i64, step].map(|v| s.constant(list(v)));
            s.node("Slice", vec![], &[x, bounds[0], bounds[1], bounds[2], bounds[3]]);
        }
        11 if shape.len() >= 2 => {
            let (k, n) = (shape[shape.len() - 1], g.positive_extent());
            let w = g.tensor_in(DType::F32, &[k, n], -0.5, 0.5);
            let w = s.constant(w);
            s.node("MatMul", vec![], &[x, w]);
        }
        12 if shape.len() == 4 => {
            let (channels, filters) = (shape[1], g.positive_extent());
            let grouped = channels > 1 && g.chance(0.3);
            let (per, filters) = if grouped { (1, channels) } else { (channels, filters) };
            let w = g.tensor_in(DType::F32, &[filters, per, 1, 1], -0.5, 0.5);
            let w = s.constant(w);
            let group = if grouped { channels as i64 } else { 1 };
            s.node("Conv", vec![("group", Attribute::Int(group))], &[x, w]);
        }
        13..=15 => {
            rows(s, g, x, &shape);
        }
        16 if !shape.is_empty() => {
            let axis = g.size(0, shape.len() - 1) as i64;
            s.node("Softmax", vec![("axis", Attribute::Int(axis))], &[x]);
        }
        17 if shape.len() >= 2 && shape[shape.len() - 1] > 0 => {
            let scale = g.tensor_in(DType::F32, &shape[shape.len() - 1..], 0.5, 1.5);
            let scale = s.constant(scale);
            let name = *g.pick(&["LayerNormalization", "RMSNormalization"]);
            s.node(name, vec![("epsilon", Attribute::Float(0.01))], &[x, scale]);
        }
        18 if shape.len() >= 2 => {
            // Several products of one operand, often of one row.
            let k = shape[shape.len() - 1];
            let x = if g.chance(0.5) {
                let row = g.tensor_in(DType::F32, &[1, k], -1.0, 1.0);
                s.input(row)
            } else {
                x
            };
            for _ in 0..g.size(2, 3) {
                let n = g.positive_extent();
                let w = g.tensor_in(DType::F32, &[k, n], -0.5, 0.5);
                let w = s.constant(w);
                s.node("MatMul", vec![], &[x, w]);
            }
        }
        19 if shape.len() >= 2 => {
            // A product with a transposed operand, as attention has it; of positive elements, whose sums do not cancel.
            let Some(x) = s.node("Sigmoid", vec![], &[x]) else { return };
            let mut perm: Vec<i64> = (0..shape.len() as i64).collect();
            let last = perm.len() - 1;
            perm.swap(last - 1, last);
            let turned = s.node("Transpose", vec![("perm", Attribute::Ints(perm))], &[x]);
            if let Some(turned) = turned {
                let pair = if g.chance(0.5) { [x, turned] } else { [turned, x] };
                s.node("MatMul", vec![], &pair);
            }
        }
        20 if !shape.is_empty() => {
            let axis = g.size(0, shape.len() - 1);
            let first = g.size(0, shape[axis]);
            let sizes: Vec<i64> = vec![first as i64, (shape[axis] - first) as i64];
            let sizes = s.constant(Tensor::new(&[2], sizes).expect("a list"));
            let parts = s.nodes("Split", vec![("axis", Attribute::Int(axis as i64))], &[x, sizes], 2);
            if let ([Some(a), Some(b)], true) = (parts.as_slice(), g.chance(0.5)) {
                let b = s.node("Sigmoid", vec![], &[*b]).unwrap_or(*b);
                s.node("Mul", vec![], &[*a, b]);
            }
        }
        21 if !shape.is_empty() => {
            let axis = g.size(0, shape.len() - 1);
            let mut other = shape.clone();
            other[axis] = g.extent();
            let y = g.tensor_in(DType::F32, &other, -1.0, 1.0);
            let y = s.input(y);
            let y = s.node("Tanh", vec![], &[y]).unwrap_or(y);
            s.node("Concat", vec![("axis", Attribute::Int(axis as i64))], &[x, y]);
        }
        23 if shape.len() >= 2 => integers(s, g, x, &shape),
        22 if shape.len() >= 3 => heads(s, g, x, &shape),
        24 if shape.len() == 3 => _ = attention(s, g, x, &shape),
        25 if shape.len() >= 2 => _ = gates(s, g, x, &shape),
        26 if shape.len() == 3 => _ = steps(s, g, x, &shape),
        27..=28 if (3..=5).contains(&shape.len()) => _ = windows(s, g, x, &shape),
        29 if shape.len() >= 3 && shape[1] > 0 => _ = channels(s, g, x, &shape),
        _ => {}
    }
}

/// A normalisation of channels or groups of them, and maps of its result.
fn channels(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<ValueId> {
    let divisors: Vec<usize> = (1..=shape[1]).filter(|&d| shape[1].is_multiple_of(d)).collect();
    let groups = *g.pick(&divisors);
    let own = |s: &mut Sketch, g: &mut Gen, count: usize| {
        let tensor = g.tensor_in(DType::F32, &[count], 0.5, 1.5);
        s.constant(tensor)
    };
    let epsilon = || ("epsilon", Attribute::Float(0.01));
    let y = match g.size(0, 2) {
        0 => {
            let (scale, bias) = (own(s, g, shape[1]), own(s, g, shape[1]));
            s.node("InstanceNormalization", vec![epsilon()], &[x, scale, bias])?
        }
        1 => {
            let (scale, bias) = (own(s, g, shape[1]), own(s, g, shape[1]));
            let attributes = vec![epsilon(), ("num_groups", Attribute::Int(groups as i64))];
            s.node("GroupNormalization", attributes, &[x, scale, bias])?
        }
        _ => {
            // As exporters spell it that do not have it.
            let list = |all: Vec<i64>| Tensor::new(&[all.len()], all).expect("a list");
            let together = s.constant(list(vec![0, groups as i64, -1]));
            let apart = s.constant(list(shape.iter().map(|&d| d as i64).collect()));
            let (scale, bias) = (own(s, g, groups), own(s, g, groups));
            let x = s.node("Reshape", vec![], &[x, together])?;
            let y = s.node("InstanceNormalization", vec![epsilon()], &[x, scale, bias])?;
            s.node("Reshape", vec![], &[y, apart])?
        }
    };
    let mut column = vec![1; shape.len() - 1];
    column[0] = shape[1];
    let column = g.tensor_in(DType::F32, &column, -1.0, 1.0);
    let column = s.constant(column);
    s.node(*g.pick(&["Mul", "Add", "Max"]), vec![], &[y, column])
}

/// A product or convolution between DequantizeLinear and QuantizeLinear.
fn integers(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) {
    let scalar = |s: &mut Sketch, g: &mut Gen| {
        let v = g.tensor_in(DType::F32, &[], 0.01, 0.02);
        s.constant(v)
    };
    let zero = |s: &mut Sketch, v: u8| s.constant(Tensor::scalar(v));
    let (own_scale, own_zero) = (scalar(s, g), zero(s, 128));
    let Some(q) = s.node("QuantizeLinear", vec![], &[x, own_scale, own_zero]) else { return };
    let Some(x) = s.node("DequantizeLinear", vec![], &[q, own_scale, own_zero]) else { return };
    let convolves = shape.len() == 4 && g.chance(0.7);
    let (k, n) = (if convolves { shape[1] } else { shape[shape.len() - 1] }, g.positive_extent());
    let w = if convolves { vec![n, k, 1, 1] } else { vec![k, n] };
    let w = g.any_tensor(DType::I8, &w);
    let w = s.constant(w);
    let per_channel = g.chance(0.5);
    let channels = if per_channel { vec![n] } else { Vec::new() };
    let scales = g.tensor_in(DType::F32, &channels, 0.001, 0.002);
    let scales = s.constant(scales);
    let axis = vec![("axis", Attribute::Int(i64::from(!convolves)))];
    let Some(w) = s.node("DequantizeLinear", axis, &[w, scales]) else { return };
    let Some(y) = s.node(if convolves { "Conv" } else { "MatMul" }, vec![], &[x, w]) else { return };
    let (y_scale, y_zero) = (scalar(s, g), zero(s, 100));
    let Some(q) = s.node("QuantizeLinear", vec![], &[y, y_scale, y_zero]) else { return };
    if g.chance(0.5) {
        s.node("DequantizeLinear", vec![], &[q, y_scale, y_zero]);
    }
}

/// Operators that fold rows and use what they have folded: reductions and normalisations spelled out.
fn rows(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<ValueId> {
    let rank = shape.len();
    if rank == 0 {
        return None;
    }
    // The last axes, and now and then others.
    let count = g.size(1, rank.min(2));
    let mut axes: Vec<i64> = (rank - count..rank).map(|a| a as i64).collect();
    if g.chance(0.15) {
        axes = vec![g.size(0, rank - 1) as i64];
    }
    let axes = s.constant(Tensor::new(&[axes.len()], axes).expect("a list"));
    let keep = |keep: bool| vec![("keepdims", Attribute::Int(keep.into()))];
    let few = |s: &mut Sketch, v: f32| s.constant(Tensor::scalar(v));
    match g.size(0, 6) {
        0 => {
            let names = ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2", "ReduceLogSumExp"];
            let y = s.node(*g.pick(&names), keep(g.chance(0.5)), &[x, axes])?;
            if g.chance(0.5) { s.node(*g.pick(&["Tanh", "Neg", "Relu"]), vec![], &[y]) } else { Some(y) }
        }
        1 => {
            let most = s.node("ReduceMax", keep(true), &[x, axes])?;
            let centred = s.node("Sub", vec![], &[x, most])?;
            let e = s.node("Exp", vec![], &[centred])?;
            let sum = s.node("ReduceSum", keep(true), &[e, axes])?;
            s.node("Div", vec![], &[e, sum])
        }
        2..=3 => {
            let mean = s.node("ReduceMean", keep(true), &[x, axes])?;
            let away = s.node("Sub", vec![], &[x, mean])?;
            let square = if g.chance(0.5) {
                s.node("Mul", vec![], &[away, away])?
            } else {
                let two = few(s, 2.0);
                s.node("Pow", vec![], &[away, two])?
            };
            let variance = s.node("ReduceMean", keep(true), &[square, axes])?;
            let epsilon = few(s, 0.01);
            let raised = s.node("Add", vec![], &[variance, epsilon])?;
            let root = s.node("Sqrt", vec![], &[raised])?;
            let normal = s.node("Div", vec![], &[away, root])?;
            let scale = g.tensor_in(DType::F32, &shape[rank - 1..], 0.5, 1.5);
            let scale = s.constant(scale);
            s.node("Mul", vec![], &[normal, scale])
        }
        4 => {
            let square = s.node("Mul", vec![], &[x, x])?;
            let mean = s.node("ReduceMean", keep(true), &[square, axes])?;
            let epsilon = few(s, 0.01);
            let raised = s.node("Add", vec![], &[mean, epsilon])?;
            let root = s.node("Sqrt", vec![], &[raised])?;
            let inverse = s.node("Reciprocal", vec![], &[root])?;
            s.node("Mul", vec![], &[x, inverse])
        }
        5 => {
            // A residual connection: the sum is read again behind the normalisation.
            let (y, _) = s.any(g);
            let sum = s.node("Add", vec![], &[x, y])?;
            let own = s.values.last()?.1.clone();
            let most = s.node("ReduceMax", keep(true), &[sum, axes])?;
            let centred = s.node("Sub", vec![], &[sum, most])?;
            let half = g.tensor_in(DType::F32, &own, -1.0, 1.0);
            let half = s.input(half);
            let product = s.node("Mul", vec![], &[centred, half])?;
            s.node("Add", vec![], &[sum, product])
        }
        _ => {
            let norm = s.node("ReduceL2", keep(true), &[x, axes])?;
            let least = few(s, 0.1);
            let bounded = s.node("Max", vec![], &[norm, least])?;
            s.node("Div", vec![], &[x, bounded])
        }
    }
}

/// A random graph, all of whose unread values and some others are outputs.
pub(super) fn sketch(seed: u64) -> Sketch {
    let mut g = Gen::new(seed);
    let mut s = Sketch::default();
    for _ in 0..g.size(1, 2) {
        let rank = *g.pick(&[1, 2, 3, 4, 4]);
        let mut shape = g.shape(rank);
        if g.chance(0.5) {
            shape[rank - 1] = g.size(32, 70);
        }
        let tensor = g.tensor_in(DType::F32, &shape, -2.0, 2.0);
        s.input(tensor);
    }
    for _ in 0..g.size(2, 14) {
        grow(&mut s, &mut g);
    }
    let read: Vec<ValueId> = s.graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten().copied()).collect();
    let made: Vec<ValueId> = s.graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
    s.graph.outputs = made.into_iter().filter(|id| !read.contains(id) || g.chance(0.1)).collect();
    s
}
