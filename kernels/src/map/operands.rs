//! How operands lie in memory beside the elements of a map, which are numbered as the outputs lie.

use super::interpreter::Access;
use crate::dtype::DType;
use crate::launch::Reject;

/// Most axes, once those that can be one are.
pub const MOST_AXES: usize = 5;

/// An input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Operand {
    pub(super) dtype: DType,
    pub(super) access: Access,
    /// In elements, for the merged axes.
    pub(super) strides: [u32; MOST_AXES],
    /// The first element that is read.
    pub(super) first: u64,
    /// Elements up to the last one that is read.
    pub(super) reach: u64,
}

/// The space of a map and its inputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    extents: Vec<u32>,
    pub(super) inputs: Vec<Operand>,
}

impl Layout {
    /// Inputs of these types with these strides, in elements and 0 where an axis is broadcast, from these first elements
    /// on, over a dense space of `extents`. Axes of which all operands step alike become one.
    pub fn new(extents: &[u64], inputs: &[(DType, &[u64], u64)]) -> Result<Self, Reject> {
        let mut merged: Vec<(u64, Vec<u64>)> = Vec::new();
        for (axis, &extent) in extents.iter().enumerate() {
            let mut strides = Vec::new();
            for (_, of, _) in inputs {
                strides
                    .push(*of.get(axis).ok_or(Reject::Unsupported { what: "an operand of another rank" })?);
            }
            if extent == 1 {
                continue;
            }
            match merged.last_mut() {
                Some((outer, steps))
                    if steps.iter().zip(&strides).all(|(o, i)| Some(*o) == i.checked_mul(extent)) =>
                {
                    *outer = outer.checked_mul(extent).ok_or(too_many(u64::MAX))?;
                    *steps = strides;
                }
                _ => merged.push((extent, strides)),
            }
        }
        if merged.len() > MOST_AXES {
            return Err(Reject::Extent { name: "axes", got: merged.len() as u64, limit: MOST_AXES as u64 });
        }
        let count = merged.iter().try_fold(1u64, |n, (extent, _)| n.checked_mul(*extent)).unwrap_or(u64::MAX);
        if count > u64::from(u32::MAX) {
            return Err(too_many(count));
        }
        let extents: Vec<u64> = merged.iter().map(|(extent, _)| *extent).collect();
        let mut operands = Vec::new();
        for (number, &(dtype, _, first)) in inputs.iter().enumerate() {
            let strides: Vec<u64> = merged.iter().map(|(_, strides)| strides[number]).collect();
            operands.push(Operand::new(dtype, &extents, &strides, first)?);
        }
        Ok(Self { extents: extents.iter().map(|&extent| extent as u32).collect(), inputs: operands })
    }

    /// Elements.
    pub(super) fn count(&self) -> u64 {
        self.extents.iter().map(|&extent| u64::from(extent)).product()
    }

    /// The last four extents, last axis first; 1 where there is none. The first extent of five is not needed.
    pub(super) fn extents_word(&self) -> [u32; 4] {
        let at = |axis: usize| self.extents.iter().rev().nth(axis).copied().unwrap_or(1);
        [at(0), at(1), at(2), at(3)]
    }
}

fn too_many(got: u64) -> Reject {
    Reject::Extent { name: "elements", got, limit: u32::MAX.into() }
}

impl Operand {
    fn new(dtype: DType, extents: &[u64], strides: &[u64], first: u64) -> Result<Self, Reject> {
        let steps = extents.iter().zip(strides);
        let reach = steps.clone().try_fold(first.saturating_add(1), |reach, (extent, stride)| {
            (extent.saturating_sub(1)).checked_mul(*stride).and_then(|span| reach.checked_add(span))
        });
        let reach = match reach {
            Some(reach) if u32::try_from(reach).is_ok() => reach,
            _ => {
                return Err(Reject::Extent {
                    name: "reach",
                    got: reach.unwrap_or(u64::MAX),
                    limit: u32::MAX.into(),
                });
            }
        };
        let empty = extents.contains(&0);
        let mut dense = 1;
        let is_dense = steps.rev().all(|(extent, stride)| {
            let fits = *stride == dense;
            dense *= extent;
            fits
        });
        let rows = extents.last().is_some_and(|extent| extent % 4 == 0);
        let along = strides.last().copied().unwrap_or(0);
        let aligned = strides.iter().rev().skip(1).all(|stride| stride % 4 == 0);
        // Four elements are loaded at once where they start at a multiple of four.
        let even = first.is_multiple_of(4);
        let access = if strides.iter().all(|&stride| stride == 0) {
            Access::Scalar
        } else if is_dense && even {
            Access::Dense
        } else if rows && (along == 0 || (along == 1 && aligned && even)) {
            Access::Row
        } else {
            Access::Gather
        };
        let mut last_first = [0; MOST_AXES];
        for (slot, stride) in last_first.iter_mut().zip(strides.iter().rev()) {
            *slot = *stride as u32;
        }
        Ok(Self { dtype, access, strides: last_first, first, reach: if empty { 0 } else { reach } })
    }

    /// Whether four elements are loaded at once.
    pub(super) fn is_vector(&self) -> bool {
        self.access == Access::Dense || (self.access == Access::Row && self.strides[0] == 1)
    }
}
