//! Operators whose weights are stored in another format, held to their references on weights that were rounded to the
//! format first: what is left is the error of the arithmetic, in the class that the operator has anyway.

use super::compare::{Tolerance, compare_value};
use super::gen_case::Gen;
use super::operator::{parse, run};
use crate::dtype::DType;
use crate::ops::OPS;
use crate::ops::attributes::Attribute;
use crate::precision::{Precision, Storing};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use half::{bf16, f16};

/// Rounds `weights`, whose rows have a factor each: of the last axis, or of the first of two where `by_column`.
fn rounded(weights: &RefTensor, precision: Precision, by_column: bool) -> RefTensor {
    let RefData::Float(values) = &weights.data else { panic!("weights that are no floats") };
    let last = weights.shape.last().copied().unwrap_or(1).max(1);
    let row_of = |at: usize| if by_column { at % last } else { at / last };
    let mut largest = vec![0f64; values.len()];
    values.iter().enumerate().for_each(|(at, v)| largest[row_of(at)] = largest[row_of(at)].max(v.abs()));
    let single = weights.dtype != DType::F64;
    let round = |(at, v): (usize, &f64)| match precision {
        Precision::F32 | Precision::Tf32 => *v,
        Precision::F16 => f16::from_f32(*v as f32).to_f64(),
        Precision::Bf16 => bf16::from_f32(*v as f32).to_f64(),
        Precision::Int8 => {
            let factor = largest[row_of(at)] / 127.0;
            let factor = if single { f64::from(factor as f32) } else { factor };
            if factor == 0.0 { 0.0 } else { (v / factor).round_ties_even().clamp(-127.0, 127.0) * factor }
        }
    };
    let data = RefData::Float(values.iter().enumerate().map(round).collect());
    RefTensor { dtype: weights.dtype, shape: weights.shape.clone(), data }
}

/// How many inputs of the case of `seed` were stored in `precision`, all of which came out right.
fn check(name: &str, seed: u64, precision: Precision) -> usize {
    let def = OPS.iter().find(|def| def.full_name() == name).expect("an operator");
    let case = (def.case)(&mut Gen::new(seed));
    let op = parse(def, &case).expect("parses");
    let storing = Storing::new(precision);
    let got = run(def, &op, &case, 1 + (seed % 2) as usize, &storing).expect("runs");
    let transposed =
        case.attributes.iter().any(|(n, v)| *n == "transB" && matches!(v, Attribute::Int(v) if *v != 0));
    let by_column = name == "MatMul" || name == "Gemm" && !transposed;
    let stored: Vec<usize> =
        storing.finish().weights.iter().filter(|w| w.kept.is_none()).map(|w| w.input).collect();
    let given: Vec<Option<RefValue>> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let value = RefValue::from_value(value.as_ref()?).expect("a reference input");
            Some(match value {
                RefValue::Tensor(t) if stored.contains(&index) => rounded(&t, precision, by_column).into(),
                other => other,
            })
        })
        .collect();
    let given: Vec<Option<&RefValue>> = given.iter().map(Option::as_ref).collect();
    let want = op.reference(&RefInputs(&given)).expect("a reference");
    for (output, (got, want)) in got.iter().zip(&want).enumerate() {
        let dtype = got.as_tensor().map_or(DType::F32, crate::Tensor::dtype);
        let compared = compare_value(got, want, Tolerance::of(def.accuracy, dtype));
        assert!(compared.is_ok(), "{name} {seed} {precision}, output {output}: {compared:?}\n{case:?}");
    }
    stored.len()
}

#[test]
fn stored_weights_are_their_rounded_selves() {
    for (name, seeds) in [("LSTM", 60), ("GRU", 60), ("RNN", 60), ("MatMul", 800), ("Gemm", 300)] {
        for precision in [Precision::F16, Precision::Bf16, Precision::Int8] {
            let stored: usize = (0..seeds).map(|seed| check(name, seed, precision)).sum();
            assert!(stored >= 5, "{name} {precision}: {stored} inputs were stored so");
        }
    }
}

#[test]
fn nothing_is_stored_otherwise_unless_asked_for() {
    assert_eq!((0..50).map(|seed| check("LSTM", seed, Precision::F32)).sum::<usize>(), 0);
}
