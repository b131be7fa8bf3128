//! Outputs beside the result of a kernel, element for element of the same extents: what an epilogue stores besides what it
//! makes of finished rows.
//!
//! Kernels hand out parts of the result to threads, each part to one. Whoever holds a part of the result may write the
//! same elements of what lies alongside; which elements these are follows from the addresses of the part, so that no
//! index of a kernel has to be believed.

use super::io::Slot;
use crate::error::OpError;
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Range;

/// The outputs beside a result.
#[derive(Debug)]
pub(crate) struct Alongside<'a> {
    /// Addresses of the result.
    result: Range<usize>,
    /// Bytes of an element of the result.
    width: usize,
    outputs: SmallVec<[Output; 2]>,
    borrowed: PhantomData<&'a mut [u8]>,
}

#[derive(Debug)]
struct Output {
    start: *mut u8,
    width: usize,
}

// SAFETY: it is several mutable slices of bytes, of which disjoint parts are handed out, each to one thread.
unsafe impl Sync for Alongside<'_> {}
// SAFETY: as above.
unsafe impl Send for Alongside<'_> {}

impl<'a> Alongside<'a> {
    /// All of `outputs` but the first, whose elements have `width` bytes; those beside it have `widths`. They are taken
    /// out of their slots.
    pub(crate) fn take(outputs: &mut [Slot<'a>], width: usize, widths: &[usize]) -> Result<Self, OpError> {
        let lost = || OpError::internal("an output beside the result has another size");
        let (first, rest) = outputs.split_first_mut().ok_or_else(lost)?;
        let Slot::Fixed { bytes, .. } = first else { return Err(lost()) };
        let range = bytes.as_ptr_range();
        let result = range.start as usize..range.end as usize;
        let count = bytes.len() / width.max(1);
        let mut taken = SmallVec::new();
        for (at, &width) in widths.iter().enumerate() {
            let slot = rest.get_mut(at).ok_or_else(lost)?;
            let Slot::Fixed { bytes, .. } = std::mem::replace(slot, Slot::Absent) else { return Err(lost()) };
            if Some(bytes.len()) != count.checked_mul(width) {
                return Err(lost());
            }
            taken.push(Output { start: bytes.as_mut_ptr(), width });
        }
        Ok(Self { result, width, outputs: taken, borrowed: PhantomData })
    }

    /// The elements beside those of `part`, a part of the result.
    pub(crate) fn beside<'p>(&'p self, part: &'p mut [u8]) -> Result<SmallVec<[&'p mut [u8]; 4]>, OpError> {
        let own = part.as_ptr_range();
        let (start, end) = (own.start as usize, own.end as usize);
        if start < self.result.start || end > self.result.end || self.width == 0 {
            return Err(OpError::internal("rows are finished outside the result"));
        }
        let (first, count) = ((start - self.result.start) / self.width, part.len() / self.width);
        let mut all: SmallVec<[&'p mut [u8]; 4]> = SmallVec::new();
        all.push(part);
        for output in &self.outputs {
            // SAFETY: `part` lies in the result, whose elements the output has as many of, so that these elements are
            // inside it. They are borrowed as long as `part`, which nobody else holds and no other part overlaps, so
            // that nobody else is given them meanwhile.
            all.push(unsafe {
                std::slice::from_raw_parts_mut(output.start.add(first * output.width), count * output.width)
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    #[test]
    fn a_part_of_the_result_has_its_elements_alongside() {
        let (mut result, mut other, mut strange) = ([0u8; 16], [0u8; 32], [0u8; 8]);
        let fixed = |dtype, bytes| Slot::Fixed { dtype, shape: &[4], bytes };
        let mut slots = [fixed(DType::F32, &mut result), fixed(DType::F64, &mut other)];
        let beside = Alongside::take(&mut slots, 4, &[8]).expect("of one size");
        let Slot::Fixed { bytes, .. } = &mut slots[0] else { panic!("the result stays") };
        let parts = beside.beside(&mut bytes[4..12]).expect("a part");
        assert_eq!((parts[0].len(), parts[1].len()), (8, 16));
        parts.into_iter().for_each(|part| part.fill(7));
        assert!(beside.beside(&mut strange).is_err(), "what is no part of the result");
        assert_eq!(other, [[0u8; 8], [7; 8], [7; 8], [0; 8]].concat()[..]);
    }

    #[test]
    fn outputs_of_other_sizes_are_refused() {
        let (mut result, mut other) = ([0u8; 16], [0u8; 12]);
        let fixed = |bytes| Slot::Fixed { dtype: DType::F32, shape: &[4], bytes };
        let mut slots = [fixed(&mut result[..]), fixed(&mut other[..])];
        assert!(Alongside::take(&mut slots, 4, &[4]).is_err());
        let mut alone = [Slot::Absent];
        assert!(Alongside::take(&mut alone, 4, &[4]).is_err());
    }
}
