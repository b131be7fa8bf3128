//! # BlockedConv
//! Conv over channels in blocks of 16: `[images, channels / 16, height, width, 16]` where Conv has `[images, channels,
//! height, width]`, weights and bias as Conv has them. Models have none: [`crate::loops::block_channels`] puts it in the
//! place of Conv. An input of fewer channels than a block is read as it is.

use super::conv::{output_dims, reference_shape, reference_terms, spans};
use super::mat_mul::product_cost;
use super::window::{Span, Window};
use super::{Cost, Op, PackSite, Packed};
use crate::cpu::blocked::{BLOCK, BlockedConvolution, Channels, Operands, PackedBlocks, pack};
use crate::cpu::row_epilogue::Finish;
use crate::cpu::{CpuSite, Kernel};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use std::any::Any;
use std::sync::Arc;

/// See the module's documentation. Two spatial axes, f32, constant weights.
#[derive(Debug)]
pub(super) struct BlockedConv {
    pub(super) window: Window,
    pub(super) channels: Channels,
}

impl BlockedConv {
    /// The shape of the input as Conv has it.
    fn plain(&self, x: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let channels = Dim::Known(self.channels.channels());
        let fits = |got: Option<usize>, want: usize| got.is_none_or(|got| got == want);
        match x {
            [images, blocks, height, width, lanes] if self.channels.in_blocks() => {
                let count = self.channels.channels() / BLOCK;
                if !fits(blocks.known(), count) || !fits(lanes.known(), BLOCK) {
                    return Err(OpError::shape(format!(
                        "{x:?} are no {channels} channels in blocks of {BLOCK}"
                    )));
                }
                Ok(vec![images.clone(), channels, height.clone(), width.clone()])
            }
            [_, given, _, _]
                if !self.channels.in_blocks() && fits(given.known(), self.channels.channels()) =>
            {
                Ok(x.to_vec())
            }
            _ => Err(OpError::shape(format!("{x:?} is no input of {channels} channels"))),
        }
    }

    fn groups(&self) -> usize {
        match self.channels {
            Channels::All { .. } => 1,
            Channels::Each(channels) => channels,
        }
    }

    /// The windows over an input of shape `x`, as Conv has it.
    fn spans(&self, x: &[usize], w: &[usize]) -> Result<[Span; 2], OpError> {
        let spans = spans(&self.window, x, w)?;
        spans.try_into().map_err(|_| OpError::internal("windows of two axes"))
    }

    /// The images and windows of a known input.
    fn bound(&self, inputs: Facts<'_>) -> Result<Option<(usize, [Span; 2])>, OpError> {
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let Some(plain) = x.shape.as_deref().map(|x| self.plain(x)).transpose()? else { return Ok(None) };
        let Some(w) = w.known_shape() else { return Ok(None) };
        // The number of images is no part of a window.
        let known: Option<Vec<usize>> = plain[1..].iter().map(Dim::known).collect();
        let Some(known) = known else { return Ok(None) };
        let images = plain[0].known().unwrap_or(1);
        Ok(Some((images, self.spans(&[&[images], known.as_slice()].concat(), &w)?)))
    }
}

/// The shape of planes of `shape` in blocks of channels.
fn in_blocks(shape: &[Dim]) -> Option<Vec<Dim>> {
    let [images, channels, spatial @ ..] = shape else { return None };
    let blocks = channels.known()? / BLOCK;
    Some([&[images.clone(), Dim::Known(blocks)], spatial, &[Dim::Known(BLOCK)]].concat())
}

impl Op for BlockedConv {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let Some(given) = x.shape.as_deref() else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let shape = output_dims(&self.window, self.groups(), Some(&self.plain(given)?), w.shape.as_deref())?;
        let shape = shape.and_then(|shape| in_blocks(&shape));
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let weights = inputs.tensor(1).ok().and_then(TensorFact::known_shape);
        product_cost(inputs, outputs, weights.and_then(|w| crate::tensor::element_count(w.get(1..)?)))
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let w = operand(inputs, 1)?.known_shape().ok_or(Opaque::Extents)?;
        let y = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?;
        let bound = self.bound(inputs).map_err(|_| Opaque::Extents)?;
        let (_, spans) = bound.ok_or(Opaque::Extents)?;
        // Image, block, line, position, filter of the block; block, channel of the block, taps.
        let mut axes = y.to_vec();
        let each = matches!(self.channels, Channels::Each(_));
        let blocked = self.channels.in_blocks();
        let (blocks, lanes) = match (each, blocked) {
            (true, _) => (1, 1),
            (false, true) => (w[1] / BLOCK, BLOCK),
            (false, false) => (1, w[1]),
        };
        axes.extend([blocks, lanes, w[2], w[3]].map(Dim::Known));
        let signed = |v: usize| i64::try_from(v).ok();
        let index = || {
            let block = BLOCK as i64;
            let filter = Affine::axis(4).plus(1, block)?;
            let place = |axis: usize| {
                let span = &spans[axis];
                let moved = Affine::axis(2 + axis).scaled(signed(span.stride)?)?;
                moved.plus(7 + axis, signed(span.dilation)?)?.shifted(-signed(span.begin)?)
            };
            let (down, across) = (place(0)?, place(1)?);
            let at = match (each, blocked) {
                (true, _) => vec![Affine::axis(0), Affine::axis(1), down, across, Affine::axis(4)],
                (false, true) => vec![Affine::axis(0), Affine::axis(5), down, across, Affine::axis(6)],
                (false, false) => vec![Affine::axis(0), Affine::axis(6), down, across],
            };
            let channel = Affine::axis(6).plus(5, block)?;
            Some((at, vec![filter.clone(), channel, Affine::axis(7), Affine::axis(8)], filter))
        };
        let (at, tap, filter) = index().ok_or(Opaque::Extents)?;
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let sources = [nest.read(0, at, Outside::Value(0.0))?, nest.read(1, tap, Outside::Never)?];
        let sum = nest.fold(Fold::Sum, &[5, 6, 7, 8], &sources, |p, v| p.mul(v[0], v[1]))?;
        let mut sources = vec![sum];
        if inputs.has(2) {
            sources.push(nest.read(2, vec![filter], Outside::Never)?);
        }
        let store = (0..5).map(Affine::axis).collect();
        nest.store(store, &[], &sources, |p, v| v.get(1).map_or(v[0], |&bias| p.add(v[0], bias)))
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let Some(weights) = site.inputs.tensor(1)?.as_constant() else { return Ok(None) };
        let spans = match site.inputs.tensor(0) {
            Ok(_) => self.bound(site.inputs)?.map(|(_, spans)| spans),
            // Nothing is known of the input yet.
            Err(_) => None,
        };
        let taps = weights.shape()[2..].iter().product();
        let windows = (taps, spans);
        let packed = pack(weights.view().bytes(), self.channels, windows, site.budget, site.release)?;
        Ok(Some(Packed { data: Arc::new(packed), consumed: vec![1] }))
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let missing = || OpError::internal("a convolution in blocks whose weights were not packed");
        let weights = site.packed_as::<PackedBlocks>().ok_or_else(missing)?;
        let (images, spans) = self.bound(site.inputs)?.ok_or_else(missing)?;
        let made = BlockedConvolution::new(images, self.channels, spans, &weights);
        let made = made.ok_or_else(|| OpError::shape("the window's extents are too large"))?;
        let (biased, epilogue) = (site.inputs.has(2), site.epilogue.cloned());
        let scratch = made.scratch(site.threads);
        let kernel = Kernel::new(move |io| {
            let bias = if biased { Some(io.input::<f32>(2)?) } else { None };
            let operands = Operands { x: io.input::<f32>(0)?, weights: &weights, bias };
            let finish = Finish::bind(epilogue.as_deref(), io)?;
            made.run(io.context, operands, io.output_and_scratch(0)?, &finish)
        });
        Ok(kernel.with_scratch(scratch))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let bias = inputs.optional(2)?.map(RefTensor::as_floats).transpose()?;
        let given: Vec<Dim> = x.shape.iter().map(|&d| Dim::Known(d)).collect();
        let plain: Option<Vec<usize>> = self.plain(&given)?.iter().map(Dim::known).collect();
        let plain = plain.ok_or_else(|| OpError::internal("a known shape"))?;
        let spans = self.spans(&plain, &w.shape)?;
        let shape = reference_shape(&spans, &plain, &w.shape);
        // Where an element of planes lies in blocks.
        let place = |shape: &[usize], flat: usize| {
            let at = RefTensor::unravel(shape, flat);
            let blocks = [shape[0], shape[1] / BLOCK, shape[2], shape[3], BLOCK];
            RefTensor::ravel(&blocks, &[at[0], at[1] / BLOCK, at[2], at[3], at[1] % BLOCK])
        };
        let (data, weights) = (x.as_floats()?, w.as_floats()?);
        let mut out = vec![0.0; shape.iter().product()];
        if let Some(bias) = bias {
            for flat in 0..out.len() {
                out[place(&shape, flat)] = bias[RefTensor::unravel(&shape, flat)[1]];
            }
        }
        reference_terms(&spans, self.groups(), (&plain, &w.shape), |flat, from, to| {
            let from = if self.channels.in_blocks() { place(&plain, from) } else { from };
            out[place(&shape, flat)] += data[from] * weights[to];
        });
        let blocks = [shape[0], shape[1] / BLOCK, shape[2], shape[3], BLOCK];
        Ok(vec![RefTensor::floats(x.dtype, &blocks, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
