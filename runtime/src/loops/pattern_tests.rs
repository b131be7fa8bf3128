//! Patterns that must become certain operators, whatever else changes, and compute what they did.

use super::apart::Apart;
use super::quantised::to_integers;
use super::sketch::Sketch;
use super::tests::run;
use super::{BranchesOfShapes, fuse};
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::{Dim, Fact, Rewrites, TensorFact, ValueId, infer, simplify};
use crate::memory::Budget;
use crate::ops::Accuracy;
use crate::ops::attributes::Attribute;
use crate::reference::{RefValue, run_graph};
use crate::tensor::{Tensor, ValueRef};
use crate::testing::{Gen, Tolerance, compare_value};

/// A graph that is being drawn up, and where its values come from.
pub(super) struct Pattern {
    pub(super) sketch: Sketch,
    g: Gen,
    dtype: DType,
}

impl Pattern {
    pub(super) fn new() -> Self {
        Self::of(DType::F32)
    }

    /// A pattern whose inputs and weights are of `dtype`.
    pub(super) fn of(dtype: DType) -> Self {
        Self { sketch: Sketch::default(), g: Gen::new(3), dtype }
    }

    pub(super) fn input(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.g.tensor_in(self.dtype, shape, -2.0, 2.0);
        self.sketch.input(tensor)
    }

    pub(super) fn weights(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.g.tensor_in(self.dtype, shape, -0.5, 0.5);
        self.sketch.constant(tensor)
    }

    pub(super) fn number(&mut self, value: f32) -> ValueId {
        self.sketch.constant(Tensor::scalar(value))
    }

    pub(super) fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.with(op, vec![], inputs)
    }

    pub(super) fn with(
        &mut self,
        op: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: &[ValueId],
    ) -> ValueId {
        self.sketch.node(op, attributes, inputs).expect("a node that fits")
    }

    /// A reduction along the last axis.
    pub(super) fn reduce(&mut self, op: &str, x: ValueId) -> ValueId {
        let axes = self.sketch.constant(Tensor::new(&[1], vec![-1i64]).expect("a list"));
        self.op(op, &[x, axes])
    }

    /// The mean taken off, over the deviation, scaled.
    pub(super) fn normalised(&mut self, x: ValueId, length: usize) -> ValueId {
        let mean = self.reduce("ReduceMean", x);
        let away = self.op("Sub", &[x, mean]);
        let two = self.number(2.0);
        let square = self.op("Pow", &[away, two]);
        let variance = self.reduce("ReduceMean", square);
        let epsilon = self.number(1e-5);
        let raised = self.op("Add", &[variance, epsilon]);
        let root = self.op("Sqrt", &[raised]);
        let normal = self.op("Div", &[away, root]);
        let scale = self.weights(&[length]);
        self.op("Mul", &[normal, scale])
    }

    /// Checks that the operators of the fused graph are `names`, that `why` is among the reasons for which others stayed
    /// apart, and that it computes what the operators by themselves do.
    pub(super) fn stays_apart(self, outputs: &[ValueId], names: &[&str], why: &Apart) {
        let mut graph = self.sketch.graph.clone();
        graph.outputs = outputs.to_vec();
        let facts: Vec<Fact> =
            self.sketch.inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let (_, report) = fuse(graph, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
        assert!(report.apart.iter().any(|(.., other)| other == why), "{:?}", report.apart);
        self.becomes(outputs, 0, names);
    }

    /// Checks that the operators of the fused graph are `names`, also when the first extent of the first `free` inputs
    /// is a symbol, and that it computes what the operators by themselves do.
    pub(super) fn becomes(self, outputs: &[ValueId], free: usize, names: &[&str]) {
        let Sketch { mut graph, inputs, .. } = self.sketch;
        graph.outputs = outputs.to_vec();
        let references: Vec<RefValue> =
            inputs.iter().map(|t| RefValue::from_value(&t.clone().into()).expect("a tensor")).collect();
        let want = run_graph(&graph, &references).expect("a reference");
        let known: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let symbolic = |(at, tensor): (usize, &Tensor)| {
            let mut shape: Vec<Dim> = tensor.shape().iter().map(|&d| Dim::Known(d)).collect();
            if at < free {
                shape[0] = Dim::symbol("batch");
            }
            Fact::from(TensorFact::new(tensor.dtype(), shape))
        };
        let symbols: Vec<Fact> = inputs.iter().enumerate().map(symbolic).collect();
        for facts in [known, symbols] {
            let mut whole = graph.clone();
            let all = infer(&whole, &facts).expect("facts");
            to_integers(&mut whole, &all);
            let read: Vec<ValueId> = whole.outputs.clone();
            // What nobody reads any more is gone in a model that was simplified.
            let mut live = read;
            let mut kept = Vec::new();
            for node in whole.nodes.drain(..).rev() {
                if node.outputs.iter().flatten().any(|id| live.contains(id)) {
                    live.extend(node.inputs.iter().flatten());
                    kept.push(node);
                }
            }
            kept.reverse();
            whole.nodes = kept;
            let (fused, _) = fuse(whole, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
            assert_eq!(fused.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), names, "{fused:#?}");
            for (got, want) in run(fused, &inputs, 2).iter().zip(&want) {
                let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
                compare_value(got, want, tolerance).expect("equal");
            }
        }
    }
}

#[test]
fn a_layer_norm_spelled_out_is_one_pass_over_rows() {
    let mut p = Pattern::new();
    let x = p.input(&[5, 64]);
    let y = p.normalised(x, 64);
    p.becomes(&[y], 1, &["FusedRows"]);
}

#[test]
fn scores_are_scaled_and_masked_within_their_softmax() {
    let mut p = Pattern::new();
    let (x, mask) = (p.input(&[3, 2, 4, 48]), p.input(&[3, 1, 1, 48]));
    let scale = p.number(0.125);
    let scaled = p.op("Mul", &[x, scale]);
    let masked = p.op("Add", &[scaled, mask]);
    let y = p.with("Softmax", vec![("axis", Attribute::Int(-1))], &[masked]);
    p.becomes(&[y], 2, &["FusedRows"]);
}

#[test]
fn a_softmax_spelled_out_is_one_pass_over_rows() {
    let mut p = Pattern::new();
    let x = p.input(&[7, 40]);
    let most = p.reduce("ReduceMax", x);
    let away = p.op("Sub", &[x, most]);
    let e = p.op("Exp", &[away]);
    let sum = p.reduce("ReduceSum", e);
    let y = p.op("Div", &[e, sum]);
    p.becomes(&[y], 1, &["FusedRows"]);
}

#[test]
fn maps_around_a_reduction_join_it() {
    let mut p = Pattern::new();
    let x = p.input(&[6, 96]);
    let size = p.op("Abs", &[x]);
    let sum = p.reduce("ReduceSum", size);
    let y = p.op("Sqrt", &[sum]);
    p.becomes(&[y], 1, &["FusedRows"]);
}

#[test]
fn a_residual_sum_that_a_norm_and_a_later_sum_read_is_stored_once() {
    let mut p = Pattern::new();
    let (x, z) = (p.input(&[4, 32]), p.input(&[4, 32]));
    let sum = p.op("Add", &[x, z]);
    let normal = p.normalised(sum, 32);
    let w = p.weights(&[32, 32]);
    let product = p.op("MatMul", &[normal, w]);
    let y = p.op("Add", &[sum, product]);
    p.becomes(&[y], 2, &["FusedRows", "FusedContraction"]);
}

#[test]
fn heads_are_read_where_they_lie() {
    let mut p = Pattern::new();
    let (q, k) = (p.input(&[2, 6, 3, 32]), p.input(&[2, 6, 3, 32]));
    let perm = |v: &[i64]| vec![("perm", Attribute::Ints(v.to_vec()))];
    let (q, k) =
        (p.with("Transpose", perm(&[0, 2, 1, 3]), &[q]), p.with("Transpose", perm(&[0, 2, 3, 1]), &[k]));
    let y = p.op("MatMul", &[q, k]);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

#[test]
fn parts_of_a_split_are_read_where_they_lie() {
    let mut p = Pattern::new();
    let x = p.input(&[5, 64]);
    let sizes = p.sketch.constant(Tensor::new(&[2], vec![32i64, 32]).expect("a list"));
    let parts = p.sketch.nodes("Split", vec![("axis", Attribute::Int(1))], &[x, sizes], 2);
    let [Some(a), Some(b)] = parts[..] else { panic!("a split of two parts") };
    let gate = p.op("Sigmoid", &[b]);
    let y = p.op("Mul", &[a, gate]);
    p.becomes(&[y], 1, &["FusedMap"]);
}

#[test]
fn products_of_one_row_become_one() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 24]);
    let made: Vec<ValueId> = [5, 8, 8]
        .into_iter()
        .map(|n| {
            let w = p.weights(&[24, n]);
            p.op("MatMul", &[x, w])
        })
        .collect();
    p.becomes(&made, 0, &["MatMul", "Split"]);
}

#[test]
fn rows_too_short_for_an_epilogue_have_none() {
    let mut p = Pattern::new();
    let (x, per_row) = (p.input(&[512, 16]), p.input(&[512, 1]));
    let w = p.weights(&[16, 8]);
    let product = p.op("MatMul", &[x, w]);
    let y = p.op("Mul", &[product, per_row]);
    p.becomes(&[y], 0, &["MatMul", "Mul"]);
}

#[test]
fn quantised_products_are_products_of_integers() {
    let mut p = Pattern::new();
    let x = p.input(&[3, 16]);
    let (scale, zero) = (p.number(0.017), p.sketch.constant(Tensor::scalar(128u8)));
    let q = p.op("QuantizeLinear", &[x, scale, zero]);
    let x = p.op("DequantizeLinear", &[q, scale, zero]);
    let w = p.g.any_tensor(DType::I8, &[16, 9]);
    let (w, w_scale) = (p.sketch.constant(w), p.number(0.0013));
    let w = p.op("DequantizeLinear", &[w, w_scale]);
    let y = p.op("MatMul", &[x, w]);
    let (scale, zero) = (p.number(0.021), p.sketch.constant(Tensor::scalar(7i8)));
    let y = p.op("QuantizeLinear", &[y, scale, zero]);
    p.becomes(&[y], 1, &["QuantizeLinear", "QLinearMatMul"]);
}

#[test]
fn a_norm_along_other_axes_is_one_pass_over_strips() {
    let mut p = Pattern::new();
    let x = p.input(&[40, 33]);
    let axes = p.sketch.constant(Tensor::new(&[1], vec![0i64]).expect("a list"));
    let sum = p.op("ReduceSum", &[x, axes]);
    let y = p.op("Sub", &[x, sum]);
    p.becomes(&[y], 0, &["FusedRows"]);
}

/// A fold that differs within a row of its reader is none of that row's.
#[test]
fn of_folds_along_two_axes_one_stays_apart() {
    let mut p = Pattern::new();
    let x = p.input(&[40, 40]);
    let axis = |p: &mut Pattern, axis: i64| p.sketch.constant(Tensor::new(&[1], vec![axis]).expect("a list"));
    let (down, across) = (axis(&mut p, 0), axis(&mut p, 1));
    let (columns, rows) = (p.op("ReduceSum", &[x, down]), p.op("ReduceSum", &[x, across]));
    let y = p.op("Sub", &[columns, rows]);
    p.becomes(&[y], 0, &["ReduceSum", "FusedRows"]);
}

#[test]
fn channels_are_normalised_strip_by_strip() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 7, 5, 9]);
    let scale = p.number(0.3);
    let scaled = p.op("Mul", &[x, scale]);
    let share = p.with("Softmax", vec![("axis", Attribute::Int(1))], &[scaled]);
    let y = p.op("Tanh", &[share]);
    p.becomes(&[y], 1, &["FusedRows"]);
}

#[test]
fn sums_of_columns_take_maps_before_and_behind() {
    let mut p = Pattern::new();
    let x = p.input(&[3, 50, 40]);
    let size = p.op("Abs", &[x]);
    let axes = p.sketch.constant(Tensor::new(&[1], vec![1i64]).expect("a list"));
    let sum = p.with("ReduceSum", vec![("keepdims", Attribute::Int(0))], &[size, axes]);
    let y = p.op("Sqrt", &[sum]);
    p.becomes(&[y], 1, &["FusedRows"]);
}

impl Pattern {
    /// A product by weights, and a bias.
    pub(super) fn dense(&mut self, x: ValueId, rows: usize, columns: usize) -> ValueId {
        let (w, b) = (self.weights(&[rows, columns]), self.weights(&[columns]));
        let product = self.op("MatMul", &[x, w]);
        self.op("Add", &[b, product])
    }

    fn reshaped(&mut self, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.sketch.constant(Tensor::new(&[shape.len()], shape.to_vec()).expect("a list"));
        self.op("Reshape", &[x, shape])
    }

    pub(super) fn transposed(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        self.with("Transpose", vec![("perm", Attribute::Ints(perm.to_vec()))], &[x])
    }
}

/// Queries, keys and values are one product whose parts the heads read where they lie, and heads write their results
/// side by side; reshapes are views.
#[test]
fn an_attention_is_five_operators() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 6, 32]);
    let [q, k, v] = [0; 3].map(|_| {
        let made = p.dense(x, 32, 32);
        p.reshaped(made, &[0, 0, 4, 8])
    });
    let (q, k, v) =
        (p.transposed(q, &[0, 2, 1, 3]), p.transposed(k, &[0, 2, 3, 1]), p.transposed(v, &[0, 2, 1, 3]));
    let scores = p.op("MatMul", &[q, k]);
    let root = p.number(3.0);
    let scaled = p.op("Div", &[scores, root]);
    let share = p.with("Softmax", vec![("axis", Attribute::Int(-1))], &[scaled]);
    let context = p.op("MatMul", &[share, v]);
    let context = p.transposed(context, &[0, 2, 1, 3]);
    let joined = p.reshaped(context, &[0, 0, 32]);
    let y = p.dense(joined, 32, 32);
    let all = [
        "FusedContraction",
        "FusedContraction",
        "Softmax",
        "FusedContraction",
        "Reshape",
        "FusedContraction",
    ];
    p.becomes(&[y], 0, &all);
}

/// Gates of several rows meet in one map, which reads parts of one product.
#[test]
fn gates_of_a_batch_are_one_product() {
    let mut p = Pattern::new();
    let x = p.input(&[3, 24]);
    let [a, b, c] = [0; 3].map(|_| p.dense(x, 24, 40));
    let (a, b, c) = (p.op("Sigmoid", &[a]), p.op("Sigmoid", &[b]), p.op("Tanh", &[c]));
    let kept = p.op("Mul", &[a, b]);
    let y = p.op("Add", &[kept, c]);
    p.becomes(&[y], 1, &["MatMul", "FusedMap"]);
}

/// Products whose results go different ways keep their epilogues.
#[test]
fn products_of_several_rows_that_do_not_meet_stay_apart() {
    let mut p = Pattern::new();
    let x = p.input(&[3, 24]);
    let [a, b] = [0; 2].map(|_| p.dense(x, 24, 40));
    let (a, b) = (p.op("Sigmoid", &[a]), p.op("Tanh", &[b]));
    p.becomes(&[a, b], 1, &["FusedContraction", "FusedContraction"]);
}

/// A product of each step's elements, stacked, is one product.
#[test]
fn steps_that_are_stacked_are_one_computation() {
    let mut p = Pattern::new();
    let (x, z) = (p.input(&[3, 2, 8]), p.input(&[3, 2, 4]));
    let (w, b) = (p.weights(&[5, 12]), p.weights(&[5]));
    let axes = p.sketch.constant(Tensor::new(&[1], vec![0i64]).expect("a list"));
    let mut all = Vec::new();
    for step in 0..3i64 {
        let index = p.sketch.constant(Tensor::scalar(step));
        let (x, z) = (p.op("Gather", &[x, index]), p.op("Gather", &[z, index]));
        let both = p.with("Concat", vec![("axis", Attribute::Int(1))], &[x, z]);
        let made = p.with("Gemm", vec![("transB", Attribute::Int(1))], &[both, w, b]);
        let made = p.op("Relu", &[made]);
        all.push(p.op("Unsqueeze", &[made, axes]));
    }
    let y = p.with("Concat", vec![("axis", Attribute::Int(0))], &all);
    p.becomes(&[y], 0, &["Reshape", "Reshape", "Concat", "FusedContraction", "Reshape"]);
}

#[test]
fn maps_make_the_rows_of_a_product() {
    let mut p = Pattern::new();
    let (x, bias) = (p.input(&[5, 48]), p.input(&[5, 1]));
    let shifted = p.op("Add", &[x, bias]);
    let gate = p.op("Tanh", &[shifted]);
    let y = p.dense(gate, 48, 90);
    let y = p.op("Relu", &[y]);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

/// Rows of several matrices, of which one is multiplied by many.
#[test]
fn maps_make_the_rows_of_a_batch_of_products() {
    let mut p = Pattern::new();
    let (x, other) = (p.input(&[2, 1, 37, 64]), p.input(&[2, 3, 64, 40]));
    let x = p.op("Sigmoid", &[x]);
    let y = p.op("MatMul", &[x, other]);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

#[test]
fn what_is_joined_ahead_of_a_product_is_not_put_together() {
    let mut p = Pattern::new();
    let (x, z) = (p.input(&[3, 64]), p.input(&[3, 48]));
    let z = p.op("Tanh", &[z]);
    let both = p.with("Concat", vec![("axis", Attribute::Int(1))], &[x, z]);
    let y = p.dense(both, 112, 90);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

/// What follows a product is its epilogue, not the next one's prologue.
#[test]
fn maps_between_products_are_computed_once() {
    let mut p = Pattern::new();
    let x = p.input(&[6, 80]);
    let y = p.dense(x, 80, 96);
    let y = p.op("Tanh", &[y]);
    let y = p.dense(y, 96, 80);
    p.becomes(&[y], 1, &["FusedContraction", "FusedContraction"]);
}

/// Made again for each of many blocks of columns, functions would cost more than a pass over memory.
#[test]
fn functions_of_few_rows_of_a_wide_product_stay_ahead_of_it() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 512]);
    let gate = p.op("Tanh", &[x]);
    let y = p.dense(gate, 512, 4096);
    p.becomes(&[y], 0, &["Tanh", "FusedContraction"]);
}

/// What follows a convolution of unknown extents has its extents, whatever they are.
#[test]
fn unknown_extents_are_no_obstacle_to_an_epilogue() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 3, 6, 7]);
    let w = p.weights(&[4, 3, 3, 3]);
    let y = p.op("Conv", &[x, w]);
    let y = p.op("Relu", &[y]);
    let Sketch { mut graph, inputs, .. } = p.sketch;
    graph.outputs = vec![y];
    let given = [RefValue::from_value(&inputs[0].clone().into()).expect("a tensor")];
    let want = run_graph(&graph, &given).expect("a reference");
    let shape = vec![Dim::Known(1), Dim::Known(3), Dim::Unknown, Dim::Unknown];
    let declared = [TensorFact::new(DType::F32, shape).into()];
    let (fused, _) = fuse(graph, &declared, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
    assert_eq!(fused.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), ["FusedContraction"]);
    let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
    compare_value(&run(fused, &inputs, 2)[0], &want[0], tolerance).expect("equal");
}

#[test]
fn expressions_of_weights_are_computed_once_at_load() {
    let mut p = Pattern::new();
    let x = p.input(&[3, 96]);
    let (w, scale) = (p.weights(&[200, 96]), p.weights(&[200]));
    let turned = p.transposed(w, &[1, 0]);
    let w = p.op("Mul", &[turned, scale]);
    let y = p.op("MatMul", &[x, w]);
    let Sketch { mut graph, inputs, .. } = p.sketch;
    graph.outputs = vec![y];
    let given = [RefValue::from_value(&inputs[0].clone().into()).expect("a tensor")];
    let want = run_graph(&graph, &given).expect("a reference");
    let simple = simplify(graph, Rewrites { recurrences: true }, &Budget::unlimited()).expect("a graph");
    assert_eq!(simple.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), ["MatMul"]);
    let tolerance = Tolerance::of(Accuracy::Reduction, DType::F32);
    compare_value(&run(simple, &inputs, 2)[0], &want[0], tolerance).expect("equal");
}
