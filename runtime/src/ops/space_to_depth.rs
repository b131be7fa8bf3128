//! # SpaceToDepth
//! Blocks of pixels become channels: `[N, C, H, W]` to `[N, C·b², H/b, W/b]`, the inverse of DepthToSpace: the position
//! in the block is the slowest part of the new channel (`DCR`) or the quickest (`CRD`). Opsets 1, 13, 28 (`mode`).

use super::attributes::NodeSpec;
use super::depth_to_space::{block_channel, block_size, is_column_first, shared_out};
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
    name: "SpaceToDepth",
    domain: "",
    since: &[1, 13, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SpaceToDepth {
    block: usize,
    column_first: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let column_first = if spec.opset >= 28 { is_column_first(spec)? } else { false };
    Ok(Arc::new(SpaceToDepth { block: block_size(spec)?, column_first }))
}

impl SpaceToDepth {
    /// The copy of a source of shape `from` to an output of shape `to`.
    fn copy(&self, from: &[usize], to: &[usize]) -> StridedCopy {
        let b = self.block;
        let (n, c, h, w) = (from[0], from[1], to[2], to[3]);
        let s = dense_strides(&[n, c, h, b, w, b]);
        if self.column_first {
            StridedCopy::new(&[n, c, b, b, h, w], &[s[0], s[1], s[3], s[5], s[2], s[4]], 0)
        } else {
            StridedCopy::new(&[n, b, b, c, h, w], &[s[0], s[3], s[5], s[1], s[2], s[4]], 0)
        }
    }
}

impl Op for SpaceToDepth {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, MOVABLE)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::ranked(x.dtype, 4).into()]) };
        let [n, c, h, w] = shape.as_slice() else {
            return Err(OpError::shape(format!("rank {} instead of 4", shape.len())));
        };
        let channels = c * &Dim::Known(self.block * self.block);
        let (h, w) = (shared_out(h, self.block)?, shared_out(w, self.block)?);
        Ok(vec![TensorFact::new(x.dtype, vec![n.clone(), channels, h, w]).into()])
    }

    /// `y[n, channel(c, i, j), h, w] = x[n, c, h·b + i, w·b + j]`.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (from, to) =
            (extents(operand(inputs, 0)?)?, extents(outputs[0].tensor().ok_or(Opaque::Operator)?)?);
        let (Some(b), [n, c, ..], [.., h, w]) = (i64::try_from(self.block).ok(), from, to) else {
            return Err(Opaque::Extents);
        };
        let channel = block_channel(b, c, self.column_first, [1, 2, 3]).ok_or(Opaque::Extents)?;
        let pixel = |of: usize, within: usize| Affine::axis(of).scaled(b)?.plus(within, 1);
        let (row, column) = (pixel(4, 2).ok_or(Opaque::Extents)?, pixel(5, 3).ok_or(Opaque::Extents)?);
        let axes =
            vec![n.clone(), c.clone(), Dim::Known(self.block), Dim::Known(self.block), h.clone(), w.clone()];
        let target = vec![Affine::axis(0), channel, Affine::axis(4), Affine::axis(5)];
        rearranged(inputs, outputs, axes, vec![Affine::axis(0), Affine::axis(1), row, column], target)
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
        let (b, c) = (self.block, x.shape[1]);
        let shape = [x.shape[0], c * b * b, x.shape[2] / b, x.shape[3] / b];
        let y = x.gathered(&shape, |flat| {
            let i = RefTensor::unravel(&shape, flat);
            let (channel, place) =
                if self.column_first { (i[1] / (b * b), i[1] % (b * b)) } else { (i[1] % c, i[1] / c) };
            RefTensor::ravel(&x.shape, &[i[0], channel, i[2] * b + place / b, i[3] * b + place % b])
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
    shape[2] *= b;
    shape[3] *= b;
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 13, 28]);
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset).int("blocksize", b as i64);
    if opset < 28 || g.chance(0.3) {
        case
    } else {
        case.string("mode", if g.chance(0.5) { "DCR" } else { "CRD" })
    }
}
