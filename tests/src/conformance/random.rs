//! Cases whose expected output is one draw of many: judged by dtype, shape, support and moments.

use super::case::Case;
use half::{bf16, f16};
use recurve::values::Bool;
use recurve::{DType, Outputs, Tensor, Value};

/// Standard deviations that a count may be from its mean.
const SIGMAS: f64 = 6.0;

/// Judges the outputs `got` of `case` on `inputs`; `wanted` is one draw.
pub(super) fn judge(case: &Case, inputs: &[Value], got: &Outputs, wanted: &[Value]) -> Result<(), String> {
    let got: Vec<&Tensor> = tensors(got.iter().map(|(_, value)| value))?;
    let wanted: Vec<&Tensor> = tensors(wanted)?;
    for (got, wanted) in got.iter().zip(&wanted) {
        if (got.dtype(), got.shape()) != (wanted.dtype(), wanted.shape()) {
            return Err(format!("{got:?} instead of {wanted:?}"));
        }
    }
    let inputs: Vec<Vec<f64>> = tensors(inputs)?.into_iter().map(numbers).collect::<Result<_, _>>()?;
    let outputs: Vec<Vec<f64>> = got.into_iter().map(numbers).collect::<Result<_, _>>()?;
    match case.operator.as_deref() {
        Some("Bernoulli") => bernoulli(&inputs[0], &outputs[0]),
        Some("Dropout") => {
            let ratio = inputs.get(1).and_then(|ratio| ratio.first()).copied().unwrap_or(0.5);
            dropout(&inputs[0], ratio, &outputs[0], outputs.get(1).map(Vec::as_slice))
        }
        other => Err(format!("there is no judge of random outputs for {other:?}")),
    }
}

/// Every element is 0 or 1; the count of ones is near the sum of the probabilities.
fn bernoulli(probabilities: &[f64], drawn: &[f64]) -> Result<(), String> {
    if let Some(x) = drawn.iter().find(|&&x| x != 0.0 && x != 1.0) {
        return Err(format!("{x} is not 0 or 1"));
    }
    let mean: f64 = probabilities.iter().sum();
    let variance: f64 = probabilities.iter().map(|p| p * (1.0 - p)).sum();
    near("ones", drawn.iter().sum(), mean, variance)
}

/// Every element is 0 or its input scaled; the mask says which; the count kept is near its mean.
fn dropout(x: &[f64], ratio: f64, y: &[f64], mask: Option<&[f64]>) -> Result<(), String> {
    let scale = if ratio < 1.0 { 1.0 / (1.0 - ratio) } else { 0.0 };
    for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
        let kept = (y - x * scale).abs() <= 1e-5 * x.abs() * scale;
        let fits = match mask.map(|mask| mask[i] != 0.0) {
            Some(true) => kept,
            Some(false) => y == 0.0,
            None => kept || y == 0.0,
        };
        if !fits {
            return Err(format!("element {i} is {y} for input {x}, ratio {ratio} and mask {mask:?}"));
        }
    }
    let n = x.len() as f64;
    let kept = y.iter().filter(|&&y| y != 0.0).count() as f64;
    near("elements kept", kept, n * (1.0 - ratio), n * ratio * (1.0 - ratio))
}

fn near(what: &str, got: f64, mean: f64, variance: f64) -> Result<(), String> {
    if (got - mean).abs() <= SIGMAS * variance.sqrt() {
        return Ok(());
    }
    Err(format!("{got} {what} where {mean:.1} ± {:.1} are likely", variance.sqrt()))
}

fn tensors<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<Vec<&'a Tensor>, String> {
    values.into_iter().map(|value| value.as_tensor().ok_or_else(|| "not a tensor".to_owned())).collect()
}

/// The elements of a numeric or boolean tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    let numbers = match tensor.dtype() {
        DType::F32 => tensor.to_vec::<f32>().map(|v| v.into_iter().map(f64::from).collect()),
        DType::F64 => tensor.to_vec::<f64>(),
        DType::F16 => tensor.to_vec::<f16>().map(|v| v.into_iter().map(f64::from).collect()),
        DType::BF16 => tensor.to_vec::<bf16>().map(|v| v.into_iter().map(f64::from).collect()),
        DType::I64 => tensor.to_vec::<i64>().map(|v| v.into_iter().map(|x| x as f64).collect()),
        DType::I32 => tensor.to_vec::<i32>().map(|v| v.into_iter().map(f64::from).collect()),
        DType::Bool => tensor.to_vec::<Bool>().map(|v| v.iter().map(|b| f64::from(b.get())).collect()),
        _ => None,
    };
    numbers.ok_or_else(|| format!("{} where numbers are expected", tensor.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_outside_support_or_far_from_the_mean_are_found() {
        assert!(bernoulli(&[0.5; 100], &[1.0, 0.0].repeat(50)).is_ok());
        assert!(bernoulli(&[0.5; 100], &[1.0; 100]).is_err());
        assert!(bernoulli(&[0.5; 2], &[0.5, 1.0]).is_err());
        assert!(bernoulli(&[0.0; 3], &[0.0, 0.0, 1.0]).is_err());
        let x = [1.0; 64];
        let y = [2.0, 0.0].repeat(32);
        let mask = [1.0, 0.0].repeat(32);
        assert!(dropout(&x, 0.5, &y, Some(&mask)).is_ok());
        assert!(dropout(&x, 0.5, &y, Some(&x)).is_err());
        assert!(dropout(&x, 0.5, &x, None).is_err());
        assert!(dropout(&x, 0.5, &[2.0; 64], None).is_err());
    }
}
