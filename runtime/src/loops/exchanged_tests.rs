//! Weights that many rows read transposed are brought into the order of a product once, at load.

use super::pattern_tests::Pattern;
use super::sketch::Sketch;
use super::tests::run;
use crate::cpu::contraction::SKINNY;
use crate::dtype::DType;
use crate::exec::fact_of;
use crate::graph::exchange_weights;
use crate::memory::Budget;
use crate::ops::Accuracy;
use crate::ops::attributes::Attribute;
use crate::precision::Precision;
use crate::reference::{RefValue, run_graph};
use crate::tensor::ValueRef;
use crate::testing::{Tolerance, compare_value};
use std::cell::Cell;

#[test]
fn weights_that_many_rows_read_exchanged_are_exchanged_once() {
    // Few rows, enough of them, and a matrix that no cache holds.
    let forms = [(SKINNY, 24, 16, false), (SKINNY + 1, 24, 16, true), (SKINNY + 1, 8200, 128, false)];
    for (rows, columns, depth, exchanged) in forms {
        let mut p = Pattern::new();
        let (x, w) = (p.input(&[rows, depth]), p.weights(&[columns, depth]));
        let y = p.with("Gemm", vec![("transB", Attribute::Int(1))], &[x, w]);
        let Sketch { mut graph, inputs, .. } = p.sketch;
        graph.outputs = vec![y];
        graph.values[x.index()].declared = Some(fact_of(ValueRef::Tensor(inputs[0].view())));
        let reference = RefValue::from_value(&inputs[0].clone().into()).expect("a tensor");
        let want = run_graph(&graph, &[reference]).expect("a reference");
        let released = Cell::new(0);
        exchange_weights(&mut graph, Precision::F32, &Budget::unlimited(), &|part| {
            released.set(released.get() + part.len());
        });
        let read = graph.nodes[0].inputs[1].and_then(|id| graph.constant(id)).expect("weights");
        assert_eq!(read.shape(), if exchanged { [depth, columns] } else { [columns, depth] });
        assert_eq!(released.get(), if exchanged { columns * depth * 4 } else { 0 });
        let got = run(graph, &inputs, 2);
        compare_value(&got[0], &want[0], Tolerance::of(Accuracy::Reduction, DType::F32)).expect("equal");
    }
}
