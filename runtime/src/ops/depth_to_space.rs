//! # DepthToSpace
//! Channels become blocks of pixels: `[N, C, H, W]` to `[N, C/b², H·b, W·b]`. Seen as `[N, b, b, C/b², H, W]` (`DCR`) or
//! `[N, C/b², b, b, H, W]` (`CRD`), the two axes of extent `b` go behind H and W. Opsets 1, 11 (`mode`), 13, 28.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Nest, Opaque, extents, operand, rearranged};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "DepthToSpace",
    domain: "",
    since: &[1, 11, 13, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct DepthToSpace {
    block: usize,
    /// Whether the block's axes come behind the remaining channels.
    column_first: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let column_first = if spec.opset >= 11 { is_column_first(spec)? } else { false };
    Ok(Arc::new(DepthToSpace { block: block_size(spec)?, column_first }))
}

/// The `mode` attribute of this operator and of SpaceToDepth.
pub(super) fn is_column_first(spec: &NodeSpec) -> Result<bool, OpError> {
    match spec.string("mode")?.as_deref() {
        None | Some("DCR") => Ok(false),
        Some("CRD") => Ok(true),
        Some(other) => Err(OpError::attribute("mode", format!("is `{other}`"))),
    }
}

/// The `blocksize` attribute of this operator and of SpaceToDepth; its square fits an extent.
pub(super) fn block_size(spec: &NodeSpec) -> Result<usize, OpError> {
    let block = spec.int("blocksize")?.ok_or_else(|| OpError::attribute("blocksize", "is missing"))?;
    u32::try_from(block)
        .ok()
        .filter(|&b| b > 0)
        .map(|b| b as usize)
        .ok_or_else(|| OpError::attribute("blocksize", format!("is {block}")))
}

/// The channel that holds pixel `(i, j)` of the blocks of size `b` of channel `k` of `channels`, where these are the axes
/// `[k, i, j]` of a nest.
pub(super) fn block_channel(
    b: i64,
    channels: &Dim,
    column_first: bool,
    [k, i, j]: [usize; 3],
) -> Option<Affine> {
    if column_first {
        return Affine::axis(k).scaled(b)?.plus(i, 1)?.scaled(b)?.plus(j, 1);
    }
    let channels = i64::try_from(channels.known()?).ok()?;
    Affine::axis(i).scaled(b)?.plus(j, 1)?.scaled(channels)?.plus(k, 1)
}

/// `extent / divisor`, which must be exact.
pub(super) fn shared_out(extent: &Dim, divisor: usize) -> Result<Dim, OpError> {
    match (extent.known(), extent.exact_div(&Dim::Known(divisor))) {
        (_, Some(part)) => Ok(part),
        (Some(n), None) => Err(OpError::shape(format!("{n} does not divide by {divisor}"))),
        (None, None) => Ok(extent.floor_div(divisor)),
    }
}

impl DepthToSpace {
    /// The copy of a source of shape `from` to an output of shape `to`.
    fn copy(&self, from: &[usize], to: &[usize]) -> StridedCopy {
        let b = self.block;
        let (n, c, h, w) = (from[0], to[1], from[2], from[3]);
        let seen = if self.column_first { [n, c, b, b, h, w] } else { [n, b, b, c, h, w] };
        let s = dense_strides(&seen);
        let [channel, row, column] = if self.column_first { [1, 2, 3] } else { [3, 1, 2] };
        let strides = [s[0], s[channel], s[4], s[row], s[5], s[column]];
        StridedCopy::new(&[n, c, h, b, w, b], &strides, 0)
    }
}

impl Op for DepthToSpace {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, MOVABLE)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::ranked(x.dtype, 4).into()]) };
        let [n, c, h, w] = shape.as_slice() else {
            return Err(OpError::shape(format!("rank {} instead of 4", shape.len())));
        };
        let (b, channels) = (Dim::Known(self.block), shared_out(c, self.block * self.block)?);
        Ok(vec![TensorFact::new(x.dtype, vec![n.clone(), channels, h * &b, w * &b]).into()])
    }

    /// `y[n, c, h·b + i, w·b + j] = x[n, channel(c, i, j), h, w]`.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (from, to) =
            (extents(operand(inputs, 0)?)?, extents(outputs[0].tensor().ok_or(Opaque::Operator)?)?);
        let (Some(b), [n, _, h, w], [_, c, ..]) = (i64::try_from(self.block).ok(), from, to) else {
            return Err(Opaque::Extents);
        };
        let channel = block_channel(b, c, self.column_first, [1, 2, 3]).ok_or(Opaque::Extents)?;
        let pixel = |of: usize, within: usize| Affine::axis(of).scaled(b)?.plus(within, 1);
        let (row, column) = (pixel(4, 2).ok_or(Opaque::Extents)?, pixel(5, 3).ok_or(Opaque::Extents)?);
        let axes =
            vec![n.clone(), c.clone(), Dim::Known(self.block), Dim::Known(self.block), h.clone(), w.clone()];
        let source = vec![Affine::axis(0), channel, Affine::axis(4), Affine::axis(5)];
        rearranged(inputs, outputs, axes, source, vec![Affine::axis(0), Affine::axis(1), row, column])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let copy = self.copy(&from, &shape);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let copy = self.copy(&site.input_shape(0)?, &site.output_shape(0)?);
        families::copy::strided(site, &[copy])
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let (b, c) = (self.block, x.shape[1] / (self.block * self.block));
        let shape = [x.shape[0], c, x.shape[2] * b, x.shape[3] * b];
        let y = x.gathered(&shape, |flat| {
            let i = RefTensor::unravel(&shape, flat);
            let (row, column) = (i[2] % b, i[3] % b);
            let channel =
                if self.column_first { (i[1] * b + row) * b + column } else { (row * b + column) * c + i[1] };
            RefTensor::ravel(&x.shape, &[i[0], channel, i[2] / b, i[3] / b])
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let b = g.size(1, 3);
    let mut shape = g.shape(4);
    shape[1] *= b * b;
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 11, 13, 28]);
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset).int("blocksize", b as i64);
    if opset < 11 || g.chance(0.3) {
        case
    } else {
        case.string("mode", if g.chance(0.5) { "DCR" } else { "CRD" })
    }
}
