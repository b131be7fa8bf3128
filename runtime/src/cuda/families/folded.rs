//! Functions of more operands than a map takes at once: one map after the other, each of what is folded so far and of the
//! operands that follow.

use super::composition::{Composition, Place};
use super::located::{Located, bytes, dense, kind, wide};
use crate::cpu::program::Layout;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::loops::program::{Builder, Reg};
pub(crate) use recurve_kernels::map::MOST_INPUTS;

/// `finish` of `fold` over all inputs, which broadcast to the shape of output 0.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    fold: impl Fn(&mut Builder, Reg, Reg) -> Reg,
    finish: impl Fn(&mut Builder, Reg, usize) -> Reg,
) -> Result<GpuKernel, GpuReject> {
    let (shape, dtype, count) = (site.output_shape(0)?, site.dtype(0)?, site.inputs.len());
    if shape.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    // What is folded so far is not rounded to the type of the operands.
    let inner = kind(dtype)?.dtype();
    let mut whole = Composition::new("folded");
    let mut so_far: Option<Place> = None;
    let mut next = 0;
    while next < count {
        let mut map = Located::behind(whole, site, &shape);
        let mut value = match so_far {
            Some(place) => Some(map.read(place, inner, dense(&shape), 0)?),
            None => None,
        };
        let room = MOST_INPUTS - usize::from(so_far.is_some());
        for input in (next..count).take(room) {
            let layout =
                Layout::broadcast(&shape, &site.input_shape(input)?).map_err(|_| GpuReject::NoKernel)?;
            let strides = wide(&layout.strides);
            let x = map.read(Place::Input(input), dtype, strides, 0)?;
            value = Some(value.map_or(x, |value| fold(&mut map.builder, value, x)));
        }
        next = count.min(next + room);
        let value = value.ok_or(GpuReject::NoKernel)?;
        if next == count {
            let y = finish(&mut map.builder, value, count);
            return Ok(map.store("last", y, dtype, Place::Output(0))?.finish());
        }
        let to = map.whole.between(bytes(inner, &shape)?)?;
        whole = map.store(&next.to_string(), value, inner, to)?;
        so_far = Some(to);
    }
    Err(GpuReject::NoKernel)
}
