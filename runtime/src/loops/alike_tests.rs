//! Products of one row in several spellings.

use super::pattern_tests::Pattern;
use crate::ops::attributes::Attribute;

/// One row by weights that are spelled in two ways, with a bias and without.
#[test]
fn products_of_a_row_are_one_however_they_are_spelled() {
    for (transposed, shape, biased) in [(0, [24, 40], true), (1, [40, 24], true), (1, [40, 24], false)] {
        let mut p = Pattern::new();
        let x = p.input(&[1, 24]);
        let v = p.weights(&[24, 40]);
        let a = if biased { p.dense(x, 24, 40) } else { p.op("MatMul", &[x, v]) };
        let (w, bias) = (p.weights(&shape), p.weights(&[40]));
        let b = p.with("Gemm", vec![("transB", Attribute::Int(transposed))], &[x, w, bias]);
        let (a, b) = (p.op("Sigmoid", &[a]), p.op("Tanh", &[b]));
        let y = p.op("Mul", &[a, b]);
        p.becomes(&[y], 0, &["Gemm", "FusedMap"]);
    }
}
