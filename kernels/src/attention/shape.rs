//! An attention as a caller describes it, checked and made a launch.

use super::{BOOL, MOST_WIDTH, Params, Strides, scalar, tensor};
use crate::device::Global;
use crate::element::Element;
use crate::gemm::Factors;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};

/// A mask: how it lies over scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mask {
    /// Between images, heads and queries; 0 where it is for all of them.
    pub strides: Strides,
    /// Whether there is an element for each key, or one for all.
    pub by_key: bool,
    /// Keys that it tells of; those behind are masked.
    pub keys: u32,
    /// The type of terms, or none for truth values.
    pub element: Option<Element>,
}

/// An attention as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Type of queries, keys, values and Y.
    pub element: Element,
    /// What queries, keys, values and weights of f32 may be rounded to.
    pub factors: Factors,
    /// Images.
    pub images: u32,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, which divide those of queries.
    pub kv_heads: u32,
    /// Queries.
    pub queries: u32,
    /// Keys.
    pub keys: u32,
    /// Elements of a query and a key.
    pub width: u32,
    /// Elements of a value.
    pub value_width: u32,
    /// Where queries lie, then keys, values and Y.
    pub strides: [Strides; 4],
    /// The mask.
    pub mask: Option<Mask>,
    /// Position of the first query among the keys.
    pub past: u32,
    /// Keys before a query's position that it sees, or [`UNBOUNDED`](super::UNBOUNDED).
    pub left: u32,
    /// Keys behind it, or [`UNBOUNDED`](super::UNBOUNDED).
    pub right: u32,
    /// The factor of products.
    pub scale: f32,
    /// The bound of scores; 0: none.
    pub cap: f32,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// The queries.
    pub q: Buffer,
    /// The keys.
    pub k: Buffer,
    /// The values.
    pub v: Buffer,
    /// The mask, where the shape has one.
    pub mask: Buffer,
    /// A 64-bit number of valid keys for each image, or none. Queries are the last ones of them.
    pub lengths: Buffer,
    /// Y.
    pub y: Buffer,
}

impl Strides {
    /// Elements up to the last one of `width` along each row.
    fn reach(&self, images: u32, heads: u32, rows: u32, width: u32) -> u64 {
        let along = |extent: u32, step: u32| u64::from(extent.saturating_sub(1)) * u64::from(step);
        let first = along(images, self.image).saturating_add(along(heads, self.head));
        first.saturating_add(along(rows, self.row)).saturating_add(width.into())
    }
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        let limit = u64::from(u32::MAX / 4);
        for (name, got, limit) in [
            ("width", self.width.into(), MOST_WIDTH.into()),
            ("width of values", self.value_width.into(), MOST_WIDTH.into()),
            ("queries", self.queries.into(), limit),
            ("keys", u64::from(self.keys) + u64::from(self.past), limit),
        ] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) || self.width == 0 {
            return Err(Reject::Multiple { name: "heads", got: self.heads.into(), of: self.kv_heads.into() });
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        if self.images == 0 || self.heads == 0 || self.queries == 0 || self.value_width == 0 {
            return Ok(None);
        }
        let size = self.element.bytes();
        let [q, k, v, y] = self.strides;
        for (operand, buffer, reach) in [
            ("q", buffers.q, q.reach(self.images, self.heads, self.queries, self.width)),
            ("k", buffers.k, k.reach(self.images, self.kv_heads, self.keys, self.width)),
            ("v", buffers.v, v.reach(self.images, self.kv_heads, self.keys, self.value_width)),
            ("y", buffers.y, y.reach(self.images, self.heads, self.queries, self.value_width)),
        ] {
            let empty = self.keys == 0 && (operand == "k" || operand == "v");
            if !empty {
                buffer.holds(operand, reach.saturating_mul(size), size)?;
            }
        }
        let mut mask = (Strides::default(), 0, 0, BOOL);
        if let Some(given) = &self.mask {
            let size = given.element.map_or(1, Element::bytes);
            let along = if given.by_key { given.keys } else { 1 };
            let reach = given.strides.reach(self.images, self.heads, self.queries, along);
            buffers.mask.holds("mask", reach.saturating_mul(size), size)?;
            let element = given.element.map_or(BOOL, |element| element as u32);
            mask = (given.strides, u32::from(given.by_key), given.keys, element);
        }
        if buffers.lengths.is_some() {
            buffers.lengths.holds("lengths", 8 * u64::from(self.images), 8)?;
        }
        let params = Params {
            q: Global::from_address(buffers.q.address),
            k: Global::from_address(buffers.k.address),
            v: Global::from_address(buffers.v.address),
            mask: Global::from_address(if self.mask.is_some() { buffers.mask.address } else { 0 }),
            lengths: Global::from_address(buffers.lengths.address),
            y: Global::from_address(buffers.y.address),
            of_q: q,
            of_k: k,
            of_v: v,
            of_y: y,
            of_mask: mask.0,
            mask_step: mask.1,
            mask_keys: mask.2,
            mask_type: mask.3,
            queries: self.queries,
            keys: self.keys,
            group: self.heads / self.kv_heads,
            width: self.width,
            value_width: self.value_width,
            past: self.past,
            left: self.left,
            right: self.right,
            scale: self.scale,
            cap: self.cap,
            reserved: 0,
        };
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &scalar::ATTENTION_F32,
            Element::F16 => &scalar::ATTENTION_F16,
            Element::BF16 => &scalar::ATTENTION_BF16,
        };
        let geometry = scalar::geometry(self.images, self.heads, self.queries, self.width, self.value_width);
        let (entry, geometry) = tensor::chosen(self, buffers, device).unwrap_or((entry, geometry));
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNBOUNDED;
    use super::*;
    use crate::cases::EMULATED;
    use crate::launch::Launch;

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows = Strides { image: 0, head: 0, row: 8 };
        let shape = Shape {
            element: Element::F32,
            factors: Factors::Own,
            images: 1,
            heads: 1,
            kv_heads: 1,
            queries: 2,
            keys: 3,
            width: 8,
            value_width: 8,
            strides: [rows; 4],
            mask: None,
            past: 0,
            left: UNBOUNDED,
            right: UNBOUNDED,
            scale: 1.0,
            cap: 0.0,
        };
        assert!(Shape { width: 257, ..shape }.accepts().is_err());
        assert!(Shape { kv_heads: 2, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good =
            Buffers { q: buffer(64), k: buffer(96), v: buffer(96), y: buffer(64), ..Buffers::default() };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { v: buffer(92), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "v", needed: 96, got: 92 }));
        let halves = Shape { element: Element::F16, ..shape };
        let entry = |shape: &Shape, device: &Device| {
            shape.prepare(&good, device).map(|prepared| prepared.map(|p| p.kernel().entry))
        };
        assert_eq!(entry(&shape, &EMULATED), Ok(Some("attention_f32")));
        assert_eq!(entry(&halves, &EMULATED), Ok(Some("attention_tensor_f16_64")));
        assert_eq!(entry(&halves, &Device { capability: 75, ..EMULATED }), Ok(Some("attention_f16")));
        let apart = Shape { strides: [rows, Strides { row: 9, ..rows }, rows, rows], ..halves };
        assert_eq!(entry(&apart, &EMULATED), Ok(Some("attention_f16")));
        let rounded = Shape { factors: Factors::Tf32, ..shape };
        assert_eq!(entry(&rounded, &EMULATED), Ok(Some("attention_tensor_tf32_64")));
        assert_eq!(entry(&rounded, &Device { capability: 75, ..EMULATED }), Ok(Some("attention_f32")));
        let apart = Shape { strides: [rows, Strides { image: 10, ..rows }, rows, rows], ..rounded };
        assert_eq!(entry(&apart, &EMULATED), Ok(Some("attention_f32")));
        // Wide heads of f32 share more than some GPUs have.
        let rows = Strides { row: 132, ..rows };
        let wide = Shape { width: 132, value_width: 132, strides: [rows; 4], ..rounded };
        let buffers = Buffers { q: buffer(1056), k: buffer(1584), v: buffer(1584), y: buffer(1056), ..good };
        for (shared, expected) in [(227, "attention_tensor_tf32_256"), (99, "attention_f32")] {
            let device = Device { shared_bytes: shared << 10, ..EMULATED };
            let prepared = wide.prepare(&buffers, &device).expect("a launch").expect("elements");
            assert_eq!(prepared.kernel().entry, expected);
        }
        let mask = Mask { strides: Strides::default(), by_key: true, keys: 3, element: None };
        let masked = Shape { mask: Some(mask), ..shape };
        assert_eq!(masked.prepare(&good, &EMULATED).err(), Some(Reject::Absent { operand: "mask" }));
    }
}
