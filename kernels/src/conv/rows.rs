//! Weights in rows that begin where a kernel's copies do: a filter's terms, and zeros up to whole pieces behind them.

use super::{Shape, Variant};

impl Variant {
    /// Weights from filter to filter, as it reads them.
    pub(super) fn row(&self, shape: &Shape) -> u64 {
        shape.extents().sizes().1.next_multiple_of(self.piece.into())
    }

    /// Whether it reads weights otherwise than a model has them.
    pub fn is_packed(&self, shape: &Shape) -> bool {
        self.row(shape) != shape.extents().sizes().1
    }

    /// Bytes of the weights as it reads them.
    pub fn weight_bytes(&self, shape: &Shape) -> u64 {
        let filters = u64::from(shape.groups) * u64::from(shape.filters);
        filters.saturating_mul(self.row(shape)).saturating_mul(shape.element.bytes())
    }

    /// Packs weights: zeros behind each filter's, up to whole pieces. `packed` has [`Variant::weight_bytes`].
    pub fn pack(&self, shape: &Shape, weights: &[u8], packed: &mut [u8]) {
        let (size, terms) = (shape.element.bytes() as usize, shape.extents().sizes().1 as usize);
        if terms == 0 {
            return;
        }
        packed.fill(0);
        let rows = packed.chunks_exact_mut(self.row(shape) as usize * size);
        for (to, from) in rows.zip(weights.chunks_exact(terms * size)) {
            to[..from.len()].copy_from_slice(from);
        }
    }
}
