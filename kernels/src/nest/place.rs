//! Where operands are read and written: affine functions of the axes, and the ranges that they stay in.

use crate::launch::Reject;

/// `offset + Σ factor · axis`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Affine {
    /// Where all axes are 0.
    pub offset: i64,
    /// Axes with their factors.
    pub terms: Vec<(usize, i64)>,
}

/// Most that a place may be, so that 32 bits hold it and what is added on the way.
pub(super) const LIMIT: i128 = i32::MAX as i128;

pub(super) fn too_far(got: i128) -> Reject {
    Reject::Extent { name: "reach", got: u64::try_from(got).unwrap_or(u64::MAX), limit: LIMIT as u64 }
}

impl Affine {
    /// The least and the largest value over axes of these extents, none of which is 0.
    pub(super) fn range(&self, extents: &[u64]) -> Result<(i128, i128), Reject> {
        let (mut low, mut high) = (i128::from(self.offset), i128::from(self.offset));
        for &(axis, factor) in &self.terms {
            let extent =
                extents.get(axis).ok_or(Reject::Unsupported { what: "an axis that is not there" })?;
            let span = i128::from(extent.saturating_sub(1)) * i128::from(factor);
            if span < 0 { low += span } else { high += span }
        }
        if low < -LIMIT || high > LIMIT {
            return Err(too_far(high.max(-low)));
        }
        Ok((low, high))
    }

    /// The place in a dense array of `shape` of the element at `index`.
    pub(super) fn dense(index: &[Self], shape: &[u64]) -> Result<Self, Reject> {
        if index.len() != shape.len() {
            return Err(Reject::Unsupported { what: "an operand of another rank" });
        }
        let (mut place, mut stride) = (Self::default(), 1i64);
        let far = || too_far(i128::MAX);
        for (at, &extent) in index.iter().zip(shape).rev() {
            let moved = |k: i64| k.checked_mul(stride).ok_or_else(far);
            place.offset = place.offset.checked_add(moved(at.offset)?).ok_or_else(far)?;
            for &(axis, factor) in &at.terms {
                let factor = moved(factor)?;
                match place.terms.iter_mut().find(|term| term.0 == axis) {
                    Some(term) => term.1 = term.1.checked_add(factor).ok_or_else(far)?,
                    None => place.terms.push((axis, factor)),
                }
            }
            stride = i64::try_from(extent).ok().and_then(|e| e.checked_mul(stride)).ok_or_else(far)?;
        }
        if i128::from(stride) > LIMIT {
            return Err(too_far(stride.into()));
        }
        Ok(place)
    }

    /// As the kernel reads it.
    pub(super) fn words(&self, extent: u64, to: &mut Vec<[u32; 4]>) {
        to.push([self.offset as u32, self.terms.len() as u32, extent as u32, 0]);
        for pair in self.terms.chunks(2) {
            let of = |at: usize| pair.get(at).map_or((0, 0), |&(axis, factor)| (axis as u32, factor as u32));
            let ((a, of_a), (b, of_b)) = (of(0), of(1));
            to.push([a, of_a, b, of_b]);
        }
    }
}
