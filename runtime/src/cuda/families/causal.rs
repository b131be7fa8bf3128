//! Convolutions of each channel by itself over what came before: the past and the input side by side, a convolution of them
//! without padding, and their end as the past of what follows.

use super::composition::{Composition, Place};
use super::conv;
use super::copy::{self, Columns};
use super::located::{bytes, nothing};
use super::map;
use super::tail::Behind;
use crate::cpu::row_epilogue::EpilogueInput;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::Builder;
use crate::ops::window::Span;

/// The launches: inputs are x, weights, a bias and the past, outputs the result, times its own sigmoid where `silu`, and
/// the state.
pub(crate) fn kernel(site: &GpuSite<'_>, silu: bool) -> Result<GpuKernel, GpuReject> {
    let (x, weights, dtype) = (site.input_shape(0)?, site.input_shape(1)?, site.dtype(0)?);
    let ([images, channels, length], taps) = ([x[0], x[1], x[2]], weights[2]);
    let (kept, rows) = (taps - 1, images * channels);
    if rows == 0 {
        return Ok(nothing());
    }
    let width = kept + length;
    let mut whole = Composition::new("");
    let mut line = Place::Input(0);
    if kept > 0 {
        let mut past = Place::Input(3);
        if !site.inputs.has(3) {
            past = whole.between(bytes(dtype, &[rows, kept])?)?;
            whole.add("nothing", map::zeros(site, dtype, &[rows, kept])?, Vec::new(), vec![past])?;
        }
        line = whole.between(bytes(dtype, &[rows, width])?)?;
        let parts = [
            Columns { input: 0, from: (0, kept), to: (0, width), count: kept },
            Columns { input: 1, from: (0, length), to: (kept, width), count: length },
        ];
        let joined = copy::columns(site, dtype, rows, &parts)?;
        whole.add("line", joined, vec![past, Place::Input(0)], vec![line])?;
    }
    if site.wanted.first() == Some(&true) {
        let fact = Fact::from(TensorFact::known(dtype, &[images, channels, width]));
        let mut given = vec![Some(&fact), site.inputs.0[1]];
        let mut operands = vec![line, Place::Input(1)];
        if site.inputs.has(2) {
            given.push(site.inputs.0[2]);
            operands.push(Place::Input(2));
        }
        let mut builder = Builder::new(&[dtype]);
        let sum = builder.input(0);
        let gate = builder.sigmoid(sum);
        let y = builder.mul(sum, gate);
        let program = builder.finish(&[(y, dtype)]).map_err(|_| GpuReject::NoKernel)?;
        let behind = Behind { program, inputs: vec![EpilogueInput::Result] };
        let inner = GpuSite {
            inputs: Facts(&given),
            outputs: &site.outputs[..1],
            wanted: &[true],
            behind: silu.then_some(&behind),
            strided: &[],
            ..*site
        };
        let span =
            Span { input: width, output: length, kernel: taps, stride: 1, dilation: 1, begin: 0, end: 0 };
        let convolved = conv::kernel(&inner, channels, &[span])?;
        // Weights that are packed need not be there.
        let unread = convolved.leaves_unread(&inner, 1);
        if unread {
            operands[1] = Place::Nowhere;
        }
        whole.add("convolution", convolved, operands, vec![Place::Output(0)])?;
    }
    if site.wanted.get(1) == Some(&true) && kept > 0 {
        let end = [Columns { input: 0, from: (length, width), to: (0, kept), count: kept }];
        let state = copy::columns(site, dtype, rows, &end)?;
        whole.add("state", state, vec![line], vec![Place::Output(1)])?;
    }
    Ok(whole.finish())
}
