//! Convolutions bring their weights into the order of their kernels when a model is loaded, and never again: with weights
//! as they lie a convolution gives the same results, and only the clock would tell.

use super::case::Case;
use super::gen_case::Gen;
use super::single_node::written;
use crate::cpu::direct_convolution::PackedFilters;
use crate::cpu::panel_matrix::PanelMatrix;
use crate::cpu::winograd::PackedPoints;
use crate::dtype::DType;
use crate::exec::{BuildContext, Program};
use crate::memory::Budget;
use crate::onnx;
use crate::ops::OPS;
use crate::precision::{Precision, Storing};

/// A loaded model of one `Conv` of `x` under constant weights of shape `w`, of so many groups.
fn loaded(x: &[usize], w: &[usize], groups: i64, budget: &Budget) -> Program {
    let def = OPS.iter().find(|def| def.full_name() == "Conv").expect("an operator");
    let mut g = Gen::new(7);
    let case = Case::new([g.tensor(DType::F32, x), g.tensor(DType::F32, w)]).int("group", groups).constant(1);
    let model = written(def, &case).expect("a model").model;
    let graph = onnx::read_bytes(&model.into(), &Budget::unlimited()).expect("it is read").graph;
    let storing = Storing::new(Precision::F32);
    let context = BuildContext { budget, threads: 1, release: &|_| (), storing: &storing };
    Program::build(graph, context).expect("it is built")
}

#[test]
fn convolutions_pack_their_weights_at_load() {
    for (x, w) in [
        ([1, 16, 12, 12], [32, 16, 5, 5]),
        ([1, 64, 56, 56], [64, 64, 3, 3]),
        ([1, 64, 14, 14], [64, 64, 1, 1]),
    ] {
        let budget = Budget::unlimited();
        let program = loaded(&x, &w, 1, &budget);
        let packed = program.packed_of(0).unwrap_or_else(|| panic!("weights of {w:?} are not packed"));
        let data = &packed.data;
        let known = data.is::<PackedFilters>() || data.is::<PackedPoints>() || data.is::<PanelMatrix>();
        assert!(known, "{w:?}");
        assert_eq!(packed.consumed, [1], "the kernel reads the packed weights of {w:?} and no others");
        // They are charged to the budget, too: what is packed is held.
        let bytes = 4 * w.iter().product::<usize>();
        assert!(budget.used() >= bytes, "{} bytes for {bytes} of weights", budget.used());
    }
}

#[test]
fn convolutions_that_read_their_weights_as_they_lie_pack_nothing() {
    // Windows of one element over many positions are a product as they lie, and channels by themselves have rows of taps.
    for (w, groups) in [([32, 16, 1, 1], 1), ([16, 1, 3, 3], 16)] {
        let program = loaded(&[1, 16, 56, 56], &w, groups, &Budget::unlimited());
        assert!(program.packed_of(0).is_none(), "{w:?}");
    }
}
