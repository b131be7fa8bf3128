//! Attention, as `attention` computes it; keys and values of a cache are joined with the new ones first, where there is one.

use super::composition::{Composition, Place};
use super::copy::size;
use super::{element, extent};
use crate::cpu::attention::{Attention, MaskForm};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::attention::{Buffers, Mask, Shape, Strides, UNBOUNDED};
use recurve_kernels::copy::{Region, Side};
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// Which inputs and outputs what is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    pub(crate) mask: usize,
    /// Keys and values of the cache.
    pub(crate) past: [usize; 2],
    pub(crate) lengths: usize,
}

pub(super) fn strides(packed: bool, heads: usize, rows: usize, width: usize) -> Result<Strides, GpuReject> {
    let many = || GpuReject::Form("an attention of so many elements".into());
    let product = |a: usize, b: usize| extent(a.checked_mul(b).ok_or_else(many)?);
    let (row, head) = (product(heads, width)?, product(rows, width)?);
    let image = product(heads, head as usize)?;
    Ok(if packed {
        Strides { image, head: extent(width)?, row }
    } else {
        Strides { image, head, row: extent(width)? }
    })
}

/// The launches of `plan` of inputs 0 to 2.
pub(crate) fn kernel(site: &GpuSite<'_>, plan: &Attention, roles: Roles) -> Result<GpuKernel, GpuReject> {
    let sizes = &plan.sizes;
    let dtype = site.dtype(0)?;
    if site.dtype(2)? != dtype {
        return Err(GpuReject::Form("an attention of keys and values of two types".into()));
    }
    if plan.wide_softmax {
        return Err(GpuReject::Form("a softmax in float64".into()));
    }
    if site.wanted.get(3).copied().unwrap_or(false) {
        return Err(GpuReject::Form("an attention that shows its scores".into()));
    }
    let total = sizes.total();
    let mut whole = Composition::new("attention");
    let (from, packed) = caches(site, &mut whole, plan, roles, [dtype; 2])?;
    let mask = plan.mask.as_ref().map(|mask| masked(site, mask, roles.mask)).transpose()?;
    let bound = |bound: Option<usize>| bound.map_or(UNBOUNDED, |n| n.min(i32::MAX as usize) as u32);
    let right = if plan.visible.causal { Some(0) } else { plan.visible.right };
    let shape = Shape {
        element: element(dtype)?,
        factors: site.factors(),
        images: extent(sizes.batch)?,
        heads: extent(sizes.heads)?,
        kv_heads: extent(sizes.kv_heads)?,
        queries: extent(sizes.queries)?,
        keys: extent(total)?,
        width: extent(sizes.width)?,
        value_width: extent(sizes.value_width)?,
        strides: [
            strides(plan.packed, sizes.heads, sizes.queries, sizes.width)?,
            strides(packed[0], sizes.kv_heads, total, sizes.width)?,
            strides(packed[1], sizes.kv_heads, total, sizes.value_width)?,
            strides(plan.packed, sizes.heads, sizes.queries, sizes.value_width)?,
        ],
        mask,
        past: extent(sizes.past)?,
        left: bound(plan.visible.left),
        right: bound(right),
        scale: plan.scale as f32,
        cap: plan.softcap as f32,
    };
    shape.accepts()?;
    let device = site.device;
    let launch = GpuKernel::new(move |operands| {
        let [q, k, v, mask, lengths] =
            [0, 1, 2, 3, 4].map(|at| operands.inputs.get(at).copied().unwrap_or_default());
        let buffers = Buffers { q, k, v, mask, lengths, y: operands.outputs[0] };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    let optional = |index: usize| if site.inputs.has(index) { Place::Input(index) } else { Place::Nowhere };
    let inputs = vec![Place::Input(0), from[0], from[1], optional(roles.mask), optional(roles.lengths)];
    if site.wanted.first().copied().unwrap_or(true) {
        whole.add("attend", launch, inputs, vec![Place::Output(0)])?;
    }
    Ok(whole.finish())
}

/// Joins keys and values with those of the cache, where there is one or somebody asks for them. Where they are read from, and
/// whether heads lie side by side there.
pub(super) fn caches(
    site: &GpuSite<'_>,
    whole: &mut Composition,
    plan: &Attention,
    roles: Roles,
    types: [DType; 2],
) -> Result<([Place; 2], [bool; 2]), GpuReject> {
    let sizes = &plan.sizes;
    let present = |at: usize| site.wanted.get(at).copied().unwrap_or(false);
    let (keys, total) = (sizes.keys, sizes.total());
    let mut from = [Place::Input(1), Place::Input(2)];
    let mut packed = [plan.packed; 2];
    for (part, width) in [(0, sizes.width), (1, sizes.value_width)] {
        let dtype = types[part];
        if sizes.past == 0 && !present(1 + part) {
            continue;
        }
        let elements =
            [sizes.batch, sizes.kv_heads, total, width].iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        let bytes = elements.and_then(|n| n.checked_mul(size(dtype).ok()? as usize));
        let bytes = bytes.ok_or_else(|| GpuReject::Form("a cache of so many elements".into()))?;
        let to = if present(1 + part) { Place::Output(1 + part) } else { whole.between(bytes)? };
        if sizes.past > 0 {
            let old = joined(site, dtype, plan, (sizes.past, 0, false), width)?;
            whole.add(&format!("past {part}"), old, vec![Place::Input(roles.past[part])], vec![to])?;
        }
        let new = joined(site, dtype, plan, (keys, sizes.past, plan.packed), width)?;
        whole.add(&format!("new {part}"), new, vec![Place::Input(1 + part)], vec![to])?;
        (from[part], packed[part]) = (to, false);
    }
    Ok((from, packed))
}

/// A copy of the `rows` keys or values of input 0 of the copy to those from `first` on, heads one behind the other there.
fn joined(
    site: &GpuSite<'_>,
    dtype: DType,
    plan: &Attention,
    (rows, first, packed): (usize, usize, bool),
    width: usize,
) -> Result<GpuKernel, GpuReject> {
    let sizes = &plan.sizes;
    let steps = |s: Strides| [i64::from(s.image), i64::from(s.head), i64::from(s.row), 1];
    let from = steps(strides(packed, sizes.kv_heads, rows, width)?);
    let to = steps(strides(false, sizes.kv_heads, sizes.total(), width)?);
    let extents = [sizes.batch, sizes.kv_heads, rows, width].map(|extent| extent as u64);
    let (x, y) = (Side { first: 0, steps: &from }, Side { first: (first * width) as u64, steps: &to });
    let (region, device) = (Region::new(size(dtype)?, &extents, x, y)?, site.device);
    Ok(GpuKernel::new(move |operands| {
        let prepared = region.prepare(operands.inputs[0], operands.outputs[0], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

fn masked(site: &GpuSite<'_>, mask: &MaskForm, input: usize) -> Result<Mask, GpuReject> {
    let element = match site.dtype(input)? {
        DType::Bool => None,
        dtype => Some(element(dtype)?),
    };
    let [image, head, row] = mask.strides;
    let strides = Strides { image: extent(image)?, head: extent(head)?, row: extent(row)? };
    Ok(Mask { strides, by_key: mask.step != 0, keys: extent(mask.covered)?, element })
}
