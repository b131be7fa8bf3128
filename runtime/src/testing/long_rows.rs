//! Operators on one row or line alone look at the deadline within it.

use super::{Case, written};
use crate::exec::{CancelToken, Looks};
use crate::ops::OPS;
use crate::{DType, ErrorKind, RunOptions, Session, Tensor};

/// Elements of a row within which there are eight looks.
const LONG: usize = 8 * Looks::EVERY;

fn numbers(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let data = (0..count).map(|i| (i.wrapping_mul(40_503) % 1009) as f32 / 1009.0 - 0.5).collect();
    Tensor::new(shape, data).expect("a tensor")
}

fn integers(shape: &[usize], values: Vec<i64>) -> Tensor {
    Tensor::new(shape, values).expect("a tensor")
}

/// Uses of operators whose work is one row of `n` elements.
fn uses(n: usize) -> Vec<(&'static str, Case)> {
    let (row, column, image) = (numbers(&[1, n]), numbers(&[n, 2]), numbers(&[1, 1, n]));
    let one = || numbers(&[1]);
    let axis = |axis: i64| integers(&[1], vec![axis]);
    let scalar = |axis: i64| integers(&[], vec![axis]);
    let whole = integers(&[1, n], (0..n as i64).map(|i| i * 40_503 % 1009).collect());
    let of = |x: &Tensor| Case::new([x.clone()]);
    let mut all = Vec::new();
    for name in ["Softmax", "LogSoftmax", "Hardmax"] {
        all.push((name, of(&row)));
        all.push((name, of(&column).int("axis", 0)));
    }
    for name in ["ReduceSum", "ReduceMax", "ReduceLogSumExp"] {
        all.push((name, of(&row).input(axis(1)).constant(1)));
        all.push((name, of(&column).input(axis(0)).constant(1)));
    }
    all.push(("ReduceSum", of(&whole).input(axis(1)).constant(1)));
    all.push(("ReduceSum", Case::new([integers(&[n, 1], vec![1; n])]).input(axis(0)).constant(1)));
    for name in ["ArgMax", "ArgMin", "LpNormalization"] {
        all.push((name, of(&row).int("axis", 1)));
        all.push((name, of(&column).int("axis", 0)));
    }
    all.push(("CumSum", of(&row).input(scalar(1)).constant(1)));
    all.push(("CumProd", of(&column).input(scalar(0)).constant(1)));
    all.push(("LayerNormalization", of(&row).input(numbers(&[n]))));
    all.push(("LayerNormalization", of(&row).input(numbers(&[n])).outputs(3)));
    all.push(("RMSNormalization", of(&row).input(numbers(&[n]))));
    all.push(("InstanceNormalization", of(&image).input(one()).input(one())));
    all.push(("GroupNormalization", of(&image).input(one()).input(one()).int("num_groups", 1)));
    all.push(("MeanVarianceNormalization", of(&image).ints("axes", &[0, 2])));
    all.push(("GlobalLpPool", of(&image)));
    all.push(("GlobalMaxPool", of(&image)));
    let statistics = of(&image).input(one()).input(one()).input(one()).input(one());
    all.push(("BatchNormalization", statistics.int("training_mode", 1).outputs(3)));
    all.push(("TopK", of(&row).input(axis(3)).outputs(2)));
    all.push(("TopK", of(&row).input(axis(n as i64)).outputs(2)));
    all.push(("Unique", of(&row).outputs(4)));
    all.push(("Unique", of(&row).outputs(4).int("sorted", 0)));
    all.push(("Unique", Case::new([numbers(&[4, n])]).outputs(4).int("axis", 0)));
    let doubles = Tensor::new(&[1, n], (0..n).map(|i| i as f64 / n as f64).collect()).expect("a tensor");
    assert_eq!(doubles.dtype(), DType::F64);
    all.push(("Softmax", of(&doubles)));
    all.push(("ReduceSum", of(&doubles).input(axis(1)).constant(1)));
    all
}

#[test]
fn work_on_one_row_ends_within_it() {
    for ((name, long), (_, short)) in uses(LONG).into_iter().zip(uses(1 << 6)) {
        let def = OPS.iter().find(|def| def.full_name() == name).expect("an operator");
        let run = |case: &Case, token: &CancelToken| {
            let node = written(def, case).expect("a model");
            let session = Session::builder().with_threads(1).load_bytes(node.model).expect("loads");
            let options = RunOptions::default().with_cancel(token);
            session.run_with(node.inputs.iter().map(|(name, value)| (name.as_str(), value)), &options)
        };
        // Looks that are not within a row.
        let all = CancelToken::after(1 << 30);
        run(&short, &all).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let outside = (1 << 30) - all.left();
        let what =
            format!("{name} of {:?}", long.inputs[0].as_ref().map(|x| x.as_tensor().map(Tensor::shape)));
        let ended = run(&long, &CancelToken::after(outside + 2));
        let error = ended.err().unwrap_or_else(|| panic!("{what} does not look at the deadline"));
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{what}: {error:?}");
        run(&long, &CancelToken::default()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
}
