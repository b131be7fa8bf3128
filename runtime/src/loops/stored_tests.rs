//! Groups that store several values.

use super::apart::Apart;
use super::fuse::{BranchesOfShapes, fuse, fuse_for_device};
use super::pattern_tests::Pattern;
use super::sketch::Sketch;
use crate::exec::fact_of;
use crate::graph::{Fact, Graph, infer};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::tensor::{Tensor, ValueRef};

/// What a classifier ends in: both are outputs.
#[test]
fn a_product_stores_scores_and_what_is_made_of_them() {
    let mut p = Pattern::new();
    let x = p.input(&[6, 80]);
    let scores = p.dense(x, 80, 96);
    let shares = p.op("Sigmoid", &[scores]);
    p.becomes(&[scores, shares], 1, &["FusedContraction"]);
}

/// The sums themselves are read elsewhere, as is a value half way; of a product of rows and of one of a batch.
#[test]
fn a_product_stores_its_sums_and_values_behind_them() {
    for shape in [&[70, 64][..], &[2, 3, 5, 64]] {
        let mut p = Pattern::new();
        let x = p.input(shape);
        let w = p.weights(&[64, 70]);
        let sums = p.op("MatMul", &[x, w]);
        let half = p.op("Tanh", &[sums]);
        let row = p.weights(&[70]);
        let y = p.op("Mul", &[half, row]);
        p.becomes(&[half, y, sums], 1, &["FusedContraction"]);
    }
}

/// A residual block that is activated ahead: the sum is read by the activation and by the next sum.
#[test]
fn a_convolution_stores_a_sum_and_its_activation() {
    for filters in [8, 2] {
        let mut p = Pattern::new();
        let (x, skipped) = (p.input(&[2, 5, 9, 10]), p.input(&[2, filters, 9, 10]));
        let (w, next) = (p.weights(&[filters, 5, 3, 3]), p.weights(&[filters, filters, 1, 1]));
        let border = vec![("pads", Attribute::Ints(vec![1; 4]))];
        let convolved = p.with("Conv", border, &[x, w]);
        let sum = p.op("Add", &[convolved, skipped]);
        let active = p.op("Sigmoid", &[sum]);
        let convolved = p.op("Conv", &[active, next]);
        let y = p.op("Add", &[sum, convolved]);
        p.becomes(&[y], 2, &["FusedContraction", "FusedContraction"]);
    }
}

#[test]
fn a_pool_stores_what_it_finds_and_what_is_made_of_it() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 9, 12, 13]);
    let pooled = p.with("AveragePool", vec![("kernel_shape", Attribute::Ints(vec![2, 3]))], &[x]);
    let y = p.op("Exp", &[pooled]);
    p.becomes(&[pooled, y], 1, &["FusedContraction"]);
}

/// A GPU makes what is ahead of the convolution by itself, the sum behind the convolution's, and the activation of it.
#[test]
fn a_group_falls_apart_into_what_a_gpu_takes_in() {
    let mut p = Pattern::new();
    let (x, skipped) = (p.input(&[2, 9, 9, 10]), p.input(&[2, 8, 9, 10]));
    let w = p.weights(&[8, 9, 3, 3]);
    let made = p.op("Tanh", &[x]);
    let convolved = p.with("Conv", vec![("pads", Attribute::Ints(vec![1; 4]))], &[made, w]);
    let sum = p.op("Add", &[convolved, skipped]);
    let active = p.op("Sigmoid", &[sum]);
    let Sketch { mut graph, inputs, .. } = p.sketch;
    graph.outputs = vec![sum, active];
    let facts: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
    let known = infer(&graph, &facts).expect("facts");
    let names = |graph: &Graph| graph.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>();
    let apart = fuse_for_device(&graph, &known).expect("groups");
    assert_eq!(names(&apart), ["Tanh", "FusedContraction", "Sigmoid"]);
    let (whole, _) = fuse(graph, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
    assert_eq!(names(&whole), ["FusedContraction"]);
}

/// What stands between a value and the group's last node reads it before the group has run.
#[test]
fn a_value_that_is_read_ahead_of_the_groups_end_is_made_ahead() {
    let mut p = Pattern::new();
    let x = p.input(&[6, 80]);
    let w = p.weights(&[80, 96]);
    let sums = p.op("MatMul", &[x, w]);
    let half = p.op("Tanh", &[sums]);
    let axis = p.sketch.constant(Tensor::scalar(0i64));
    let running = p.op("CumSum", &[sums, axis]);
    let y = p.op("Add", &[half, running]);
    p.stays_apart(&[y], &["MatMul", "CumSum", "FusedMap"], &Apart::NoRewrite);
}

/// Rows that are written elsewhere have nothing beside them.
#[test]
fn a_product_that_writes_through_an_exchange_of_axes_stores_one_value() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 3, 5, 64]);
    let w = p.weights(&[64, 70]);
    let sums = p.op("MatMul", &[x, w]);
    let half = p.op("Tanh", &[sums]);
    let y = p.transposed(half, &[0, 2, 1, 3]);
    p.stays_apart(&[half, y], &["FusedContraction", "Transpose"], &Apart::Output);
}

/// A sum that a normalisation and a later sum read stays with the product that makes it: rows that fold are no epilogue.
#[test]
fn a_product_keeps_its_epilogue_ahead_of_a_normalisation() {
    let mut p = Pattern::new();
    let (x, z) = (p.input(&[6, 80]), p.input(&[6, 64]));
    let made = p.dense(x, 80, 64);
    let sum = p.op("Add", &[made, z]);
    let normal = p.normalised(sum, 64);
    p.becomes(&[sum, normal], 2, &["FusedContraction", "FusedRows"]);
}

#[test]
fn a_mean_and_a_variance_are_stored_in_one_pass() {
    let mut p = Pattern::new();
    let x = p.input(&[5, 64]);
    let mean = p.reduce("ReduceMean", x);
    let away = p.op("Sub", &[x, mean]);
    let square = p.op("Mul", &[away, away]);
    let variance = p.reduce("ReduceMean", square);
    p.becomes(&[mean, variance], 1, &["FusedRows"]);
}

/// One element for a row is stored by another loop than one for each place.
#[test]
fn a_mean_is_not_stored_beside_what_is_normalised() {
    let mut p = Pattern::new();
    let x = p.input(&[5, 64]);
    let mean = p.reduce("ReduceMean", x);
    let away = p.op("Sub", &[x, mean]);
    p.stays_apart(&[mean, away], &["ReduceMean", "Sub"], &Apart::Output);
}
