//! Normalisations of channels and of groups of them: one pass over rows with the maps around them.

use super::apart::Apart;
use super::pattern_tests::Pattern;
use super::sketch::Sketch;
use super::tests::run;
use super::{BranchesOfShapes, fuse};
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::{Fact, ValueId};
use crate::memory::Budget;
use crate::ops::Accuracy;
use crate::ops::attributes::Attribute;
use crate::reference::{RefValue, run_graph};
use crate::tensor::{Tensor, ValueRef};
use crate::testing::{Gen, Tolerance, compare_value};

impl Pattern {
    fn group_norm(&mut self, x: ValueId, [channels, groups]: [usize; 2]) -> ValueId {
        let (scale, bias) = (self.weights(&[channels]), self.weights(&[channels]));
        self.with(
            "GroupNormalization",
            vec![("num_groups", Attribute::Int(groups as i64))],
            &[x, scale, bias],
        )
    }

    fn silu(&mut self, x: ValueId) -> ValueId {
        let gate = self.op("Sigmoid", &[x]);
        self.op("Mul", &[x, gate])
    }
}

#[test]
fn groups_of_channels_take_maps_before_and_behind() {
    for (shape, groups) in [
        (&[2, 6, 8, 9][..], 3),
        (&[2, 6, 8, 9], 1),
        (&[3, 4, 40], 4),
        (&[2, 6, 1, 64], 2),
        (&[2, 64, 65], 2),
        (&[5, 128], 2),
        (&[1, 6, 70, 64], 2),
        (&[2, 8, 3, 5, 7], 4),
    ] {
        let mut p = Pattern::new();
        let (x, residual) = (p.input(shape), p.input(shape));
        let sum = p.op("Add", &[x, residual]);
        let normal = p.group_norm(sum, [shape[1], groups]);
        let y = p.silu(normal);
        let along: Vec<usize> = std::iter::once(shape[1]).chain(shape[2..].iter().map(|_| 1)).collect();
        let (scale, shift) = (p.weights(&along), p.weights(&[&[1], &along[..]].concat()));
        let scaled = p.op("Mul", &[y, scale]);
        let shifted = p.op("Add", &[shift, scaled]);
        let y = p.op("Add", &[shifted, residual]);
        p.becomes(&[y], 2, &["FusedRows"]);
    }
}

/// Spreading what is one element for a channel would cost more than a pass.
#[test]
fn groups_of_channels_of_few_elements_stay_apart() {
    for [height, width] in [[7, 7], [1, 63]] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 8, height, width]);
        let normal = p.group_norm(x, [8, 4]);
        let y = p.silu(normal);
        p.stays_apart(&[y], &["GroupNormalization", "FusedMap"], &Apart::ShortRuns);
    }
}

#[test]
fn channels_by_themselves_take_maps_before_and_behind() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 6, 5, 9]);
    let size = p.op("Abs", &[x]);
    let (scale, bias) = (p.weights(&[6]), p.weights(&[6]));
    let normal = p.op("InstanceNormalization", &[size, scale, bias]);
    let y = p.silu(normal);
    p.becomes(&[y], 1, &["FusedRows"]);
}

/// As exporters spell it that do not have it.
#[test]
fn groups_that_are_put_together_by_reshapes_are_one_pass() {
    for (together, names) in [
        (&[0, 3, -1][..], &["FusedRows"][..]),
        (&[2, 3, 2, 80], &["FusedRows"]),
        // Five is no number of groups of six channels, and one image is not two.
        (&[2, 5, -1], &["Reshape", "InstanceNormalization", "Reshape", "FusedMap"]),
        (&[1, 6, -1], &["Reshape", "InstanceNormalization", "Reshape", "FusedMap"]),
    ] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 6, 8, 10]);
        let list = |all: &[i64]| Tensor::new(&[all.len()], all.to_vec()).expect("a list");
        let (target, back) = (p.sketch.constant(list(together)), p.sketch.constant(list(&[2, 6, 8, 10])));
        let groups = together[1] as usize;
        let (scale, bias) = (p.weights(&[groups]), p.weights(&[groups]));
        let put = p.op("Reshape", &[x, target]);
        let normal = p.op("InstanceNormalization", &[put, scale, bias]);
        let apart = p.op("Reshape", &[normal, back]);
        let (scale, bias) = (p.weights(&[6, 1, 1]), p.weights(&[6, 1, 1]));
        let scaled = p.op("Mul", &[apart, scale]);
        let shifted = p.op("Add", &[scaled, bias]);
        let y = p.silu(shifted);
        p.becomes(&[y], 0, names);
    }
}

/// A value between the operators that is read elsewhere keeps them as they are.
#[test]
fn channels_put_together_that_are_read_elsewhere_stay_so() {
    for elsewhere in 0..2 {
        let mut p = Pattern::new();
        let x = p.input(&[2, 6, 5, 9]);
        let list = |all: &[i64]| Tensor::new(&[all.len()], all.to_vec()).expect("a list");
        let (target, back) = (p.sketch.constant(list(&[0, 3, -1])), p.sketch.constant(list(&[2, 6, 5, 9])));
        let (scale, bias) = (p.weights(&[3]), p.weights(&[3]));
        let put = p.op("Reshape", &[x, target]);
        let normal = p.op("InstanceNormalization", &[put, scale, bias]);
        let apart = p.op("Reshape", &[normal, back]);
        let other = [put, normal][elsewhere];
        p.becomes(&[apart, other], 0, &["Reshape", "InstanceNormalization", "Reshape"]);
    }
}

/// What is read across groups is none of their rows.
#[test]
fn groups_that_are_read_in_another_order_stay_apart() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 6, 6, 8]);
    let normal = p.group_norm(x, [6, 3]);
    let exchanged = p.with("Transpose", vec![("perm", Attribute::Ints(vec![0, 2, 1, 3]))], &[normal]);
    let y = p.op("Tanh", &[exchanged]);
    p.stays_apart(&[y], &["GroupNormalization", "FusedMap"], &Apart::Rows);
    // As many channels, of which the reader's are others.
    let mut p = Pattern::new();
    let x = p.input(&[1, 6, 6, 8]);
    let normal = p.group_norm(x, [6, 3]);
    let wide = p.input(&[5, 1, 1, 1]);
    let y = p.op("Add", &[normal, wide]);
    p.stays_apart(&[y], &["GroupNormalization", "Add"], &Apart::Rows);
}

/// Two groupings in a row are two passes.
#[test]
fn groups_of_other_sizes_stay_apart() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 12, 5, 9]);
    let first = p.group_norm(x, [12, 3]);
    let second = p.group_norm(first, [12, 4]);
    p.stays_apart(&[second], &["GroupNormalization", "GroupNormalization"], &Apart::Rows);
}

/// The same in every type of floats, each tensor in it.
#[test]
fn groups_of_channels_in_other_types_are_rounded_as_their_operators_are() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let mut g = Gen::new(5);
        let mut s = Sketch::default();
        let shape = [2, 6, 8, 9];
        let x = g.tensor_in(dtype, &shape, -2.0, 2.0);
        let x = s.input(x);
        let [scale, bias] = [0, 1].map(|_| {
            let tensor = g.tensor_in(dtype, &[6], -0.5, 0.5);
            s.constant(tensor)
        });
        let groups = vec![("num_groups", Attribute::Int(2))];
        let normal = s.node("GroupNormalization", groups, &[x, scale, bias]).expect("a node");
        let gate = s.node("Sigmoid", vec![], &[normal]).expect("a node");
        let y = s.node("Mul", vec![], &[normal, gate]).expect("a node");
        let Sketch { mut graph, inputs, .. } = s;
        graph.outputs = vec![y];
        let given = [RefValue::from_value(&inputs[0].clone().into()).expect("a tensor")];
        let want = run_graph(&graph, &given).expect("a reference");
        let facts: Vec<Fact> = inputs.iter().map(|t| fact_of(ValueRef::Tensor(t.view()))).collect();
        let (fused, _) = fuse(graph, &facts, &Budget::unlimited(), BranchesOfShapes::AsTheyAre);
        assert_eq!(fused.nodes.iter().map(|n| n.def.name).collect::<Vec<_>>(), ["FusedRows"], "{dtype}");
        let tolerance = Tolerance::of(Accuracy::Reduction, dtype);
        compare_value(&run(fused, &inputs, 2)[0], &want[0], tolerance).expect("equal");
    }
}
