//! Functions that exporters write out in primitive operators become one map, or the epilogue of the product ahead of them.

use super::apart::Apart;
use super::pattern_tests::Pattern;
use crate::graph::ValueId;
use crate::tensor::Tensor;

/// A way in which an exporter writes a function of `x`.
type Spelling = fn(&mut Pattern, ValueId) -> ValueId;

/// x/2 · (1 + erf(x / √2)), as PyTorch exports GELU before operator set 20.
fn gelu(p: &mut Pattern, x: ValueId) -> ValueId {
    let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|v| p.number(v));
    let divided = p.op("Div", &[x, root]);
    let error = p.op("Erf", &[divided]);
    let raised = p.op("Add", &[error, one]);
    let product = p.op("Mul", &[x, raised]);
    p.op("Mul", &[product, half])
}

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))).
fn gelu_by_tanh(p: &mut Pattern, x: ValueId) -> ValueId {
    let [three, small, root, one, half] = [3.0, 0.044_715, 0.797_884_6, 1.0, 0.5].map(|v| p.number(v));
    let cube = p.op("Pow", &[x, three]);
    let scaled = p.op("Mul", &[small, cube]);
    let sum = p.op("Add", &[x, scaled]);
    let inner = p.op("Mul", &[root, sum]);
    let bent = p.op("Tanh", &[inner]);
    let raised = p.op("Add", &[one, bent]);
    let halved = p.op("Mul", &[half, x]);
    p.op("Mul", &[halved, raised])
}

/// x · sigmoid(x).
fn silu(p: &mut Pattern, x: ValueId) -> ValueId {
    let gate = p.op("Sigmoid", &[x]);
    p.op("Mul", &[x, gate])
}

const SPELLINGS: [Spelling; 3] = [gelu, gelu_by_tanh, silu];

#[test]
fn functions_written_out_are_one_map() {
    for spelling in SPELLINGS {
        let mut p = Pattern::new();
        let x = p.input(&[5, 48]);
        let y = spelling(&mut p, x);
        p.becomes(&[y], 1, &["FusedMap"]);
    }
}

#[test]
fn functions_written_out_are_the_epilogue_of_a_product() {
    for spelling in SPELLINGS {
        let mut p = Pattern::new();
        let x = p.input(&[5, 48]);
        let (w, bias) = (p.weights(&[48, 96]), p.weights(&[96]));
        let product = p.op("MatMul", &[x, w]);
        let sum = p.op("Add", &[product, bias]);
        let y = spelling(&mut p, sum);
        p.becomes(&[y], 1, &["FusedContraction"]);
    }
}

/// What a user is told of a view is that it is one, not what its nest lacks.
#[test]
fn views_are_told_as_such() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 4, 6]);
    let (axes, axis) =
        (Tensor::new(&[1], vec![0i64]).expect("a list"), p.sketch.constant(Tensor::scalar(1i64)));
    let axes = p.sketch.constant(axes);
    let view = p.op("Unsqueeze", &[x, axes]);
    let y = p.op("CumSum", &[view, axis]);
    p.stays_apart(&[y], &["Unsqueeze", "CumSum"], &Apart::View);

    let mut p = Pattern::new();
    let x = p.input(&[1, 4, 6]);
    let (axes, axis) =
        (Tensor::new(&[1], vec![0i64]).expect("a list"), p.sketch.constant(Tensor::scalar(1i64)));
    let axes = p.sketch.constant(axes);
    let summed = p.op("CumSum", &[x, axis]);
    let y = p.op("Squeeze", &[summed, axes]);
    p.stays_apart(&[y], &["CumSum", "Squeeze"], &Apart::ReadByView);
}
