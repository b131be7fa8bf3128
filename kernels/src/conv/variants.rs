//! The kernels that convolutions are computed by: which one takes a shape, and how it is launched.

use super::{Buffers, MOST_AXES, Params, Shape, Spread, scalar, tensor};
use crate::device::Global;
use crate::dtype::DType;
use crate::element::Element;
use crate::elements;
use crate::epilogue::{Epilogue, shared_bytes};
use crate::gemm::{self, Factors, split_k};
use crate::implicit::Field;
use crate::launch::{Device, Entry, Geometry, Prepared, Reject};

/// One kernel of the family for one element type.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The stable name.
    pub id: &'static str,
    /// Type of X and W.
    pub element: Element,
    pub(super) entry: &'static Entry<Params>,
    /// Filters and positions of a block's tile.
    pub(super) tile: u32,
    /// Terms of a step.
    pub(super) step: u32,
    pub(super) threads: u32,
    pub(super) shared: u32,
    /// Bytes of a slab of sums.
    pub(super) slab: u32,
    /// Weights that it copies at once: a filter's begin at a multiple of them.
    pub(super) piece: u32,
    /// What it rounds factors to.
    pub(super) factors: Factors,
}

/// A convolution as launches: the convolution itself, and the sum of its parts where terms are split.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Writes Y, or the parts.
    pub product: Prepared<Params>,
    /// Writes Y from the parts.
    pub sum: Option<Prepared<gemm::Params>>,
}

/// Every variant, in the order in which they are tried: tensor cores where they apply.
pub static VARIANTS: &[Variant] = &[
    tensor::F16_VARIANT,
    tensor::BF16_VARIANT,
    tensor::TF32_VARIANT,
    scalar::variant("scalar_f32", Element::F32, &scalar::CONV_F32),
    scalar::variant("scalar_f16", Element::F16, &scalar::CONV_F16),
    scalar::variant("scalar_bf16", Element::BF16, &scalar::CONV_BF16),
];

/// The variant of this id.
pub fn by_id(id: &str) -> Result<&'static Variant, Reject> {
    VARIANTS.iter().find(|variant| variant.id == id).ok_or(Reject::UnknownVariant)
}

/// The variant, and the parts of the terms, for a convolution whose factors may be rounded so; one that wants packed
/// weights only if `packs`.
pub fn choose(
    shape: &Shape,
    factors: Factors,
    packs: bool,
    device: &Device,
) -> Result<(&'static Variant, u32), Reject> {
    let accepts = |variant: &&Variant| {
        variant.accepts(shape, factors, device).is_ok() && (packs || !variant.is_packed(shape))
    };
    let accepted = VARIANTS.iter().find(accepts);
    let variant = accepted.ok_or(Reject::ElementType { operand: "X" })?;
    Ok((variant, variant.parts(shape, device)))
}

impl Variant {
    /// Whether the variant computes `shape` on `device`.
    pub fn accepts(&self, shape: &Shape, factors: Factors, device: &Device) -> Result<(), Reject> {
        shape.accepts()?;
        if shape.element != self.element {
            return Err(Reject::ElementType { operand: "X" });
        }
        if device.capability < self.entry.kernel.capability {
            return Err(Reject::Capability { needed: self.entry.kernel.capability, got: device.capability });
        }
        if self.factors != Factors::Own && factors != self.factors {
            return Err(Reject::Unsupported { what: "factors that are to stay as they are" });
        }
        Ok(())
    }

    /// Blocks of one part of the terms.
    pub(super) fn blocks(&self, shape: &Shape) -> u64 {
        let positions = shape.extents().sizes().0.div_ceil(self.tile.into());
        positions.saturating_mul(shape.filters.div_ceil(self.tile).into()).saturating_mul(shape.groups.into())
    }

    /// The parts of the terms that keep a device busy.
    fn parts(&self, shape: &Shape, device: &Device) -> u32 {
        let idle = u64::from(device.multiprocessors) / self.blocks(shape).max(1);
        let steps = shape.extents().sizes().1.div_ceil(self.step.into());
        // A part shorter than eight steps does not hide its start.
        idle.min(steps / 8).clamp(1, 16) as u32
    }

    /// Bytes of the workspace for a number of parts.
    pub fn workspace_bytes(&self, shape: &Shape, splits: u32) -> u64 {
        let [_, _, outputs] = shape.extents().elements();
        if splits < 2 { 0 } else { outputs.saturating_mul(4 * u64::from(splits)) }
    }

    /// Checks everything and makes the launches; the terms in `splits` parts.
    pub fn prepare(
        &self,
        shape: &Shape,
        (factors, splits): (Factors, u32),
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Plan, Reject> {
        let outputs = shape.extents().elements()[2];
        self.prepare_part(shape, (factors, splits), (shape.extents().field(), outputs), buffers, device)
    }

    /// The same where positions lie at `places` in a Y of that extent; all terms in one part.
    pub fn prepare_at(
        &self,
        shape: &Shape,
        factors: Factors,
        places: [Spread; MOST_AXES],
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        for (axis, place) in shape.axes.iter().zip(&places) {
            let last = u64::from(axis.output.saturating_sub(1)) * u64::from(place.step);
            let (got, limit) = (last + u64::from(place.first), place.extent.saturating_sub(1).into());
            if got > limit {
                return Err(Reject::Extent { name: "position", got, limit });
            }
        }
        let planes = [shape.images, shape.groups, shape.filters].map(u64::from);
        let factors_of_y = planes.into_iter().chain(places.iter().map(|place| place.extent.into()));
        let outputs = factors_of_y.fold(1u64, u64::saturating_mul);
        elements::limit("elements", outputs)?;
        let field = shape.extents().field().with_places(places);
        Ok(self.prepare_part(shape, (factors, 1), (field, outputs), buffers, device)?.product)
    }

    fn prepare_part(
        &self,
        shape: &Shape,
        (factors, splits): (Factors, u32),
        (mut field, outputs): (Field, u64),
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Plan, Reject> {
        self.accepts(shape, factors, device)?;
        shape.check(buffers, self.weight_bytes(shape), u64::from(self.piece) * shape.element.bytes())?;
        let last = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, shape.element.into())?;
        field.row = self.row(shape) as u32;
        if splits == 0 {
            return Err(Reject::Extent { name: "parts", got: 0, limit: 16 });
        }
        let bytes = self.workspace_bytes(shape, splits);
        buffers.workspace.holds("workspace", bytes, 4)?;
        // Parts are stored as they are.
        let parts = (splits > 1)
            .then(|| Epilogue::new(None, buffers.workspace, bytes / 4, DType::F32))
            .transpose()?;
        let epilogue = parts.unwrap_or(last);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            w: Global::from_address(buffers.w.address),
            epilogue,
            field,
            outputs,
            splits,
            split_terms: field.terms.div_ceil(splits).next_multiple_of(self.step),
        };
        let tiles = [field.positions.div_ceil(self.tile), shape.filters.div_ceil(self.tile)];
        let geometry = Geometry {
            grid: [tiles[0], tiles[1], shape.groups.saturating_mul(splits)],
            ..Geometry::linear(1, self.threads)
        };
        let shared = shared_bytes(self.slab, self.threads, epilogue.slots()).max(self.shared);
        let product = Prepared::new(self.entry, geometry.with_shared(shared), params, device)?;
        let sum =
            parts.map(|_| split_k::sum(buffers.workspace, (splits, outputs), last, device)).transpose()?;
        Ok(Plan { product, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Axis;
    use super::*;
    use crate::cases::EMULATED;
    use crate::launch::Buffer;

    const SHAPE: Shape = Shape {
        element: Element::F32,
        images: 1,
        groups: 1,
        channels: 2,
        filters: 4,
        axes: [
            Axis::NONE,
            Axis::NONE,
            Axis { input: 8, output: 6, kernel: 3, stride: 1, dilation: 1, begin: 0 },
        ],
    };

    #[test]
    fn what_does_not_fit_is_refused() {
        let own = (Factors::Own, 1);
        let scalar = by_id("scalar_f32").expect("a variant");
        assert!(Shape { images: 0, ..SHAPE }.accepts().is_err());
        assert!(Shape { channels: u32::MAX, ..SHAPE }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let workspace = Buffer::default();
        let good = Buffers { x: buffer(64), w: buffer(96), y: buffer(96), workspace, program: None };
        assert!(scalar.prepare(&SHAPE, own, &good, &EMULATED).is_ok());
        let short = Buffers { w: buffer(92), ..good };
        let refused = scalar.prepare(&SHAPE, own, &short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "w", needed: 96, got: 92 }));
        let refused = scalar.prepare(&SHAPE, (Factors::Own, 2), &good, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Absent { operand: "workspace" }));
        let many = Shape { groups: 70_000, ..SHAPE };
        let all = buffer(u64::from(u32::MAX));
        let wide = Buffers { x: all, w: all, y: all, ..good };
        assert!(matches!(scalar.prepare(&many, own, &wide, &EMULATED).err(), Some(Reject::Grid { .. })));
    }

    #[test]
    fn tensor_cores_are_taken_where_they_may_be_and_parts_where_tiles_are_few() {
        let device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };
        let id = |shape: &Shape, factors, device: &Device| {
            choose(shape, factors, false, device).map(|(variant, parts)| (variant.id, parts))
        };
        let deep = Shape { channels: 512, filters: 64, ..SHAPE };
        assert_eq!(id(&deep, Factors::Own, &device), Ok(("scalar_f32", 16)));
        assert_eq!(id(&deep, Factors::Tf32, &device), Ok(("tensor_tf32", 12)));
        let half = Shape { element: Element::F16, ..deep };
        assert_eq!(id(&half, Factors::Own, &device), Ok(("tensor_f16", 6)));
        assert_eq!(id(&half, Factors::Own, &Device { capability: 75, ..device }), Ok(("scalar_f16", 16)));
        let odd = Shape { channels: 3, ..half };
        assert_eq!(id(&odd, Factors::Own, &device), Ok(("scalar_f16", 1)));
        let (packed, _) = choose(&odd, Factors::Own, true, &device).expect("a variant");
        assert_eq!((packed.id, packed.weight_bytes(&odd)), ("tensor_f16", 64 * 16 * 2));
    }
}
