//! # MelWeightMatrix
//! The matrix `[dft_length / 2 + 1, num_mel_bins]` that weighs the bins of a spectrum into overlapping triangles
//! whose corners are evenly spaced on the mel scale, `2595 · log10(1 + f / 700)`, from `lower_edge_hertz` to
//! `upper_edge_hertz`. Opset 17. Computed in f64.

use super::attributes::NodeSpec;
use super::cosine_window::output_type;
use super::dft::scalar;
use super::reduction::truncated;
use super::{Accuracy, Op, OpDef};
use crate::cpu::moments::load_floats;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MelWeightMatrix",
    domain: "",
    since: &[17],
    until: None,
    dtypes: &[DType::I32, DType::I64],
    accuracy: Accuracy::Elementwise,
    parse,
    case,
};

#[derive(Debug)]
struct MelWeightMatrix {
    dtype: DType,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(MelWeightMatrix { dtype: output_type(node)? }))
}

/// A count that an input gives, which must be positive.
fn positive(value: i64, name: &str) -> Result<usize, OpError> {
    let fits = usize::try_from(value).ok().filter(|&v| v > 0);
    fits.ok_or_else(|| OpError::value(format!("{name} is {value}")))
}

/// The spectrum bins at the corners of the triangles.
fn corners(
    bins: usize,
    dft_length: i64,
    sample_rate: i64,
    (low, high): (f64, f64),
) -> Result<Vec<usize>, OpError> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let spectrum = dft_length as usize / 2 + 1;
    (0..bins + 2)
        .map(|i| {
            let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
            let bin = ((dft_length as f64 + 1.0) * hertz / sample_rate as f64).floor();
            // A corner at the end is only ever approached.
            if bin >= 0.0 && bin <= spectrum as f64 {
                Ok(bin as usize)
            } else {
                Err(OpError::value(format!("{hertz} Hz is outside the spectrum")))
            }
        })
        .collect()
}

fn run<T: Number>(io: &mut Io<'_, '_>) -> Result<(), OpError> {
    let number = |i: usize| scalar(&io.tensor(i)?.to_i64s()?, "an input");
    let (bins, dft_length, sample_rate) = (number(0)?, number(1)?, number(2)?);
    let mut edges = [0f64; 2];
    for (edge, index) in edges.iter_mut().zip([3, 4]) {
        load_floats(io.tensor(index)?, std::slice::from_mut(edge))?;
    }
    let bins = positive(bins, "num_mel_bins")?;
    positive(dft_length, "dft_length")?;
    positive(sample_rate, "sample_rate")?;
    // The output is made first: it is what the memory limit is asked for.
    let spectrum = dft_length as usize / 2 + 1;
    let y = io.shaped::<T>(0, &[spectrum, bins])?;
    let corners = corners(bins, dft_length, sample_rate, (edges[0], edges[1]))?;
    y.fill(T::default());
    for (i, corner) in corners.windows(3).enumerate() {
        let [low, centre, high] = [corner[0], corner[1], corner[2]];
        let mut put = |bin: usize, value: f64| {
            if let Some(y) = y.get_mut(bin * bins + i) {
                *y = T::from_f64(value);
            }
        };
        if low == centre {
            put(centre, 1.0);
        }
        for bin in low..=centre {
            if centre > low {
                put(bin, (bin - low) as f64 / (centre - low) as f64);
            }
        }
        for bin in centre..high {
            put(bin, (high - bin) as f64 / (high - centre) as f64);
        }
    }
    Ok(())
}

impl Op for MelWeightMatrix {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(5, 5)?;
        for index in 0..3 {
            inputs.typed(index, &[DType::I32, DType::I64])?;
        }
        for index in 3..5 {
            inputs.typed(index, FLOATS)?;
        }
        let value = |i: usize| -> Result<Option<i64>, OpError> {
            inputs.tensor(i)?.as_i64s().map(|v| scalar(&v, "an input")).transpose()
        };
        let known = |v: Option<i64>, name: &str| v.map(|v| positive(v, name)).transpose();
        let bins = known(value(0)?, "num_mel_bins")?.map_or(Dim::Unknown, Dim::Known);
        let spectrum = known(value(1)?, "dft_length")?.map_or(Dim::Unknown, |l| Dim::Known(l / 2 + 1));
        Ok(vec![TensorFact::new(self.dtype, vec![spectrum, bins]).into()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        dispatch!(self.dtype, numbers, T => Ok(Kernel::new(run::<T>)))
    }

    fn prepared_from(&self) -> &[usize] {
        &[0, 1, 2]
    }

    /// Spectrograms are weighed by a matrix that all of them share: its five numbers are constants or follow from integers
    /// among a model's inputs, and it is known when shapes are bound. Corners that data moves may be outside the spectrum,
    /// which is an error that only the host can tell of with its frequency.
    fn gpu(&self, _: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        Err(GpuReject::Form("mel weights between frequencies that are data".into()))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let number = |i: usize| Ok::<i64, OpError>(inputs.tensor(i)?.to_i64s()?[0]);
        let (bins, dft_length, rate) = (number(0)? as usize, number(1)?, number(2)?);
        let (low, high) = (inputs.tensor(3)?.as_floats()?[0], inputs.tensor(4)?.as_floats()?[0]);
        // Triangles between neighbouring corners, evaluated at every bin.
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
        let step = (mel(high) - mel(low)) / (bins + 2) as f64;
        let corner = |i: usize| {
            let hertz = 700.0 * ((mel(low) + i as f64 * step) / 2595.0 * 10f64.ln()).exp_m1();
            ((dft_length + 1) as f64 * hertz / rate as f64).floor()
        };
        let corners: Vec<f64> = (0..bins + 2).map(corner).collect();
        let spectrum = dft_length as usize / 2 + 1;
        let mut out = Vec::new();
        for bin in 0..spectrum {
            for i in 0..bins {
                let [low, centre, high] = [corners[i], corners[i + 1], corners[i + 2]];
                let at = bin as f64;
                out.push(if at >= centre && at < high {
                    (high - at) / (high - centre)
                } else if at == centre && low == centre {
                    1.0
                } else if at >= low && at <= centre {
                    (at - low) / (centre - low)
                } else {
                    0.0
                });
            }
        }
        let shape = [spectrum, bins];
        let out = if self.dtype.is_float() {
            RefTensor::floats(self.dtype, &shape, out)
        } else {
            let whole = out.into_iter().map(|v| truncated(self.dtype, v)).collect();
            RefTensor::ints(self.dtype, &shape, whole)
        };
        Ok(vec![out.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let whole =
        |g: &mut Gen, v: i64| if g.chance(0.5) { Tensor::scalar(v) } else { Tensor::scalar(v as i32) };
    let dft_length = g.int(8, 64);
    let (low, high) = (g.float(0.0, 100.0), g.float(500.0, 3900.0));
    let bins = g.int(1, 10);
    let mut case = Case::new([
        whole(g, bins),
        whole(g, dft_length),
        whole(g, 8000),
        Tensor::scalar(low as f32),
        Tensor::scalar(high as f32),
    ])
    .opset(17);
    if g.chance(0.7) {
        case = case.int("output_datatype", *g.pick(&[1, 10, 11, 16, 2, 3, 4, 5, 6, 7, 12, 13]));
    }
    if g.chance(0.6) {
        let edges = g.chance(0.5);
        for index in 0..if edges { 5 } else { 3 } {
            case = case.constant(index);
        }
    }
    case
}
