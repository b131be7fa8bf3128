//! How far the outputs of two sessions of one model are apart.

use super::Session;
use crate::error::Error;
use crate::precision::Deviation;
use crate::tensor::{Tensor, ValueRef};

impl Session {
    /// Runs this session and `other` on the same inputs, and tells how far each output that both have is from that of
    /// `other`; outputs that are no tensors of numbers are left out.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::settings::Precision;
    /// let exact = Session::builder().load_bytes(MODEL)?;
    /// let session = Session::builder().with_precision(Precision::F16).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let deviations = session.deviations(&exact, [("question", &question), ("h", &state), ("c", &state)])?;
    /// assert!(deviations.iter().all(|d| d.relative < 1e-2));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn deviations<'a, V: Into<ValueRef<'a>> + Copy>(
        &self,
        other: &Session,
        inputs: impl IntoIterator<Item = (&'a str, V), IntoIter: Clone>,
    ) -> Result<Vec<Deviation>, Error> {
        let inputs = inputs.into_iter();
        let (got, want) = (self.run(inputs.clone())?, other.run(inputs)?);
        let mut deviations = Vec::new();
        for output in &self.outputs {
            let pair = (got.tensor(&output.name), want.tensor(&output.name));
            if let (Ok(got), Ok(want)) = pair
                && let Some([absolute, relative]) = deviation(got, want)
            {
                deviations.push(Deviation { name: output.name.clone(), absolute, relative });
            }
        }
        Ok(deviations)
    }
}

/// The largest difference, by itself and over the largest element of `want`.
fn deviation(got: &Tensor, want: &Tensor) -> Option<[f64; 2]> {
    let (got, want) = (got.to_f64s()?, want.to_f64s()?);
    if got.len() != want.len() {
        return Some([f64::INFINITY; 2]);
    }
    let difference = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    };
    let absolute = got.iter().zip(&want).map(difference).fold(0f64, f64::max);
    let largest = want.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let relative = if absolute == 0.0 { 0.0 } else { absolute / largest };
    Some([absolute, relative])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_counts() {
        let of = |values: &[f32]| Tensor::new(&[values.len()], values.to_vec()).expect("a tensor");
        let between = |a: &[f32], b: &[f32]| deviation(&of(a), &of(b)).expect("numbers");
        assert_eq!(between(&[1.0, -4.0], &[1.5, -4.0]), [0.5, 0.125]);
        assert_eq!(between(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]), [0.0, 0.0]);
        assert_eq!(between(&[f32::NAN, 1.0], &[1.0, 1.0]), [f64::INFINITY; 2]);
        assert_eq!(between(&[1.0], &[0.0]), [1.0, f64::INFINITY]);
        assert_eq!(between(&[], &[]), [0.0, 0.0]);
    }
}
