//! How close an output has to be to the expected one.
//!
//! The suite's own rule is `|got − want| ≤ atol + rtol · |want|`, with a least `rtol` where the output is bfloat16.
//! Expected values were computed in the output's type, and some carry more rounding of their own than that rule
//! allows for, so that an answer nearer to the exact one fails. Such outputs are judged by that rounding, and the
//! report names every case that needs it:
//!
//! - DFT in f32. Every element is a sum over the whole signal, so its rounding goes with the largest element:
//!   where the sum is zero, the expected value is what is left of cancelling.
//! - Function bodies (`_expanded`) in f16. The expected values are the operator's, which rounds once; its body
//!   rounds after each node. Two steps of the type are allowed, as the suite's rule for bfloat16 does.
//! - Products in f16 on a GPU. Its tensor cores take factors in f16, also those that are made on the way, like the
//!   weights of attention, so that a result is rounded twice: two steps again.

use super::case::Case;
use recurve::testing::Tolerance;
use recurve::{DType, Value};

/// Which rule an output passed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// The suite's.
    Suite,
    /// The rounding of the expected values.
    ExpectedRounding,
}

/// The suite's tolerance for an output that should be `want`.
pub(super) fn of_suite(case: &Case, bfloat16_rtol: f64, want: &Value) -> Tolerance {
    let bfloat16 = want.as_tensor().is_some_and(|tensor| tensor.dtype() == DType::BF16);
    let relative = if bfloat16 { case.rtol.max(bfloat16_rtol) } else { case.rtol };
    Tolerance { relative, absolute: case.atol }
}

/// The tolerance for an output whose expected value `want` is known to carry more rounding, or that a GPU rounds once more.
pub(super) fn of_expected_rounding(case: &Case, want: &Value, on_gpu: bool) -> Option<Tolerance> {
    const F16_STEP: f64 = 1.0 / 1024.0;
    let tensor = want.as_tensor()?;
    match tensor.dtype() {
        DType::F32 if case.operator.as_deref() == Some("DFT") => {
            let largest = tensor.to_vec::<f32>()?.into_iter().fold(0f32, |most, v| most.max(v.abs()));
            let absolute = case.atol.max(f64::from(f32::EPSILON) * f64::from(largest));
            Some(Tolerance { relative: case.rtol, absolute })
        }
        DType::F16 if on_gpu || case.name.contains("_expanded") => {
            Some(Tolerance { relative: case.rtol.max(2.0 * F16_STEP), absolute: case.atol })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recurve::Tensor;

    fn case(name: &str, operator: &str) -> Case {
        let text = format!(
            r#"{{"name": "{name}", "group": "node", "path": "node/{name}", "operator": "{operator}",
                "operators": [], "dtypes": [], "rtol": 0.001, "atol": 1e-7, "random": false, "data_sets": 1}}"#
        );
        serde_json::from_str(&text).expect("a case")
    }

    #[test]
    fn only_the_named_kinds_have_a_wider_tolerance() {
        let single: Value = Tensor::new(&[2], vec![8f32, 0.0]).expect("a tensor").into();
        let half: Value = Tensor::new(&[1], vec![half::f16::ONE]).expect("a tensor").into();
        let transform = of_expected_rounding(&case("dft", "DFT"), &single, false).expect("a tolerance");
        assert!((transform.absolute - 8.0 * f64::from(f32::EPSILON)).abs() < 1e-12);
        assert!(of_expected_rounding(&case("dft", "DFT"), &half, false).is_none());
        assert!(of_expected_rounding(&case("add", "Add"), &single, true).is_none());
        assert!(of_expected_rounding(&case("gelu", "Gelu"), &half, false).is_none());
        let body = of_expected_rounding(&case("gelu_expanded", "Gelu"), &half, false).expect("a tolerance");
        assert!(body.relative < 0.002 && body.absolute < 1e-6);
        assert!(of_expected_rounding(&case("attention", "Attention"), &half, true).is_some());
    }
}
