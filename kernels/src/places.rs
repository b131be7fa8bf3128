//! Places that indices name: `base + Σ_c index_c · stride_c`, a tuple of indices for each element or one for many.
//!
//! Elements are numbered along up to six axes; each axis moves the base and the place of the tuple by a step. So are the
//! elements of a gather and of a scatter, along one axis or several, found.

use crate::device::Global;
use crate::device::math::divide;
use crate::elements::{self, MOST};
use crate::launch::{Buffer, Reject};

/// Most axes of elements, and most indices of a tuple.
pub const MOST_AXES: usize = 6;

/// What a launch takes to find places.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Places {
    indices: Global<u8>,
    /// Last axis first; that of the first axis is not needed.
    extents: [u32; MOST_AXES],
    steps: [u32; MOST_AXES],
    index_steps: [u32; MOST_AXES],
    /// Of the axes that a tuple names.
    limits: [u32; MOST_AXES],
    strides: [u32; MOST_AXES],
    depth: u32,
    /// Whether indices have 64 bits.
    wide: u32,
}

const _: () = assert!(size_of::<Places>() == 136);

/// Index `at`, of 64 bits where it is `wide`.
#[inline(always)]
#[track_caller]
pub(crate) fn index_at(indices: Global<u8>, wide: u32, at: usize) -> i64 {
    if wide != 0 { indices.cast::<u64>().load(at) as i64 } else { i64::from(indices.cast::<i32>().load(at)) }
}

/// The place on an axis that an index names, if there is one. Indices below 0 count from the end.
#[inline(always)]
pub(crate) fn inside(index: i64, extent: u32) -> Option<u32> {
    let from_start = if index < 0 { index.wrapping_add(i64::from(extent)) } else { index };
    if from_start >= 0 && from_start < i64::from(extent) { Some(from_start as u32) } else { None }
}

impl Places {
    /// The place of element `number`, or none where an index is outside its axis.
    #[inline(always)]
    pub(crate) fn find(&self, number: u32) -> Option<u32> {
        let (mut place, mut tuple, mut rest) = (0u32, 0u32, number);
        for axis in 0..MOST_AXES - 1 {
            let (quotient, at) = divide(rest, self.extents[axis]);
            place += at * self.steps[axis];
            tuple += at * self.index_steps[axis];
            rest = quotient;
        }
        place += rest * self.steps[MOST_AXES - 1];
        tuple += rest * self.index_steps[MOST_AXES - 1];
        let mut all_inside = true;
        for c in 0..MOST_AXES {
            if (c as u32) < self.depth {
                let at = (tuple + c as u32) as usize;
                match inside(index_at(self.indices, self.wide, at), self.limits[c]) {
                    Some(index) => place = place.wrapping_add(index.wrapping_mul(self.strides[c])),
                    None => all_inside = false,
                }
            }
        }
        if all_inside { Some(place) } else { None }
    }
}

/// How elements lie, as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// The last axis first: its extent, what it moves the place by, and what it moves the tuple by.
    axes: [[u32; 3]; MOST_AXES],
    /// Each index of a tuple: the extent of the axis that it names, and the step of that axis.
    named: [[u32; 2]; MOST_AXES],
    depth: u32,
    index: u32,
    indices: u64,
    elements: u64,
    count: u64,
}

fn limit(name: &'static str, got: u64, limit: u64) -> Result<(), Reject> {
    if got > limit { Err(Reject::Extent { name, got, limit }) } else { Ok(()) }
}

impl Form {
    /// Elements along `axes`, the first axis first, each its extent, what it moves the place by and what it moves the tuple
    /// by; tuples that name axes of these extents and steps in an array of `elements`; `indices` of `index` bytes in all.
    /// Axes of extent 1 are dropped, and neighbours that step alike are one.
    pub fn new(
        axes: &[[u64; 3]],
        named: &[[u64; 2]],
        (index, indices): (u32, u64),
        elements: u64,
    ) -> Result<Self, Reject> {
        if index != 4 && index != 8 {
            return Err(Reject::ElementType { operand: "indices" });
        }
        let count = axes.iter().fold(1, |n: u64, axis| n.saturating_mul(axis[0]));
        let most = MOST_AXES as u64;
        elements::limit("elements", count)?;
        elements::limit("elements of the array", elements)?;
        elements::limit("indices", indices)?;
        limit("indices of a tuple", named.len() as u64, most)?;
        let mut form = Self {
            axes: [[1, 0, 0]; MOST_AXES],
            named: [[0, 0]; MOST_AXES],
            depth: named.len() as u32,
            index,
            indices,
            elements,
            count,
        };
        if count == 0 {
            return Ok(form);
        }
        let far = Reject::Unsupported { what: "a place outside its array" };
        let (mut rank, mut place, mut tuple) = (0usize, 0u64, named.len() as u64);
        for &[extent, step, of_tuple] in axes.iter().rev().filter(|axis| axis[0] != 1) {
            place = place.saturating_add((extent - 1).saturating_mul(step));
            tuple = tuple.saturating_add((extent - 1).saturating_mul(of_tuple));
            if step > MOST || of_tuple > MOST {
                return Err(far);
            }
            let inner = rank.checked_sub(1).and_then(|at| form.axes.get_mut(at));
            let along = |by: u32, extent: u32| u64::from(by) * u64::from(extent);
            match inner {
                Some([inner, by, of]) if along(*by, *inner) == step && along(*of, *inner) == of_tuple => {
                    *inner = (along(*inner, 1) * extent) as u32;
                }
                _ => {
                    rank += 1;
                    limit("axes", rank as u64, most)?;
                    form.axes[rank - 1] = [extent as u32, step as u32, of_tuple as u32];
                }
            }
        }
        // Where a named axis is empty no index is inside it.
        let mut empty = false;
        for (slot, &[extent, step]) in form.named.iter_mut().zip(named) {
            empty |= extent == 0;
            place = place.saturating_add(extent.saturating_sub(1).saturating_mul(step));
            if extent > MOST || step > MOST {
                return Err(far);
            }
            *slot = [extent as u32, step as u32];
        }
        if place >= elements && !empty {
            return Err(far);
        }
        if tuple > indices {
            return Err(Reject::Length { operand: "indices", needed: tuple, got: indices });
        }
        Ok(form)
    }

    /// Elements that have places.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Elements of the array that places are in.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// What a launch takes, the buffer having been checked.
    pub(crate) fn places(&self, indices: Buffer) -> Result<Places, Reject> {
        indices.holds("indices", self.indices * u64::from(self.index), self.index.into())?;
        let mut places = Places {
            indices: Global::from_address(indices.address),
            extents: [1; MOST_AXES],
            steps: [0; MOST_AXES],
            index_steps: [0; MOST_AXES],
            limits: [0; MOST_AXES],
            strides: [0; MOST_AXES],
            depth: self.depth,
            wide: u32::from(self.index == 8),
        };
        for at in 0..MOST_AXES {
            [places.extents[at], places.steps[at], places.index_steps[at]] = self.axes[at];
            [places.limits[at], places.strides[at]] = self.named[at];
        }
        Ok(places)
    }
}
