//! Products of one row in several spellings.

use super::alike::spell_alike;
use super::pattern_tests::Pattern;
use super::sketch::Sketch;
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::{Fact, infer};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::tensor::ValueRef;

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

/// Where a product is rounded before a row is added to it, the row stays apart from the product.
#[test]
fn rows_stay_apart_from_products_that_are_rounded() {
    for (dtype, joined) in [(DType::F32, true), (DType::F64, true), (DType::F16, false), (DType::BF16, false)]
    {
        let mut p = Pattern::of(dtype);
        let x = p.input(&[1, 24]);
        let (w, bias) = (p.weights(&[24, 40]), p.weights(&[40]));
        let a = p.op("MatMul", &[x, w]);
        let a = p.op("Add", &[a, bias]);
        let (w, bias) = (p.weights(&[24, 40]), p.weights(&[40]));
        let b = p.op("Gemm", &[x, w, bias]);
        let Sketch { mut graph, inputs, .. } = p.sketch;
        graph.outputs = vec![a, b];
        let given: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let facts = infer(&graph, &given).expect("facts");
        assert_eq!(spell_alike(&mut graph, &facts, &Budget::unlimited()).is_some(), joined, "{dtype}");
    }
}
