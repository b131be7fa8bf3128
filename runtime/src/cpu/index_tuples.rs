//! Tensors of coordinates: each tuple along the last axis names a slice of another tensor.

use super::strided_copy::{dense_strides, span};
use crate::error::OpError;
use crate::tensor::Shape;

/// Tuples of coordinates into a tensor, behind leading batch axes that both share.
#[derive(Debug, Clone)]
pub(crate) struct IndexTuples {
    /// Extents and strides of the axes that a tuple names.
    extents: Shape,
    strides: Shape,
    /// Tuples of one batch, and the elements of one batch of the data.
    per_batch: usize,
    batch_stride: usize,
    /// Elements of a slice.
    run: usize,
    tuples: usize,
}

impl IndexTuples {
    /// Tuples of shape `indices` into a tensor of shape `data`, the first `batch` axes of both being equal.
    pub(crate) fn new(data: &[usize], indices: &[usize], batch: usize) -> Result<Self, OpError> {
        let misfit = || OpError::internal("index tuples do not fit their data");
        let (&depth, places) = indices.split_last().ok_or_else(misfit)?;
        let named = batch.checked_add(depth).filter(|&n| n <= data.len() && batch <= places.len());
        let named = named.ok_or_else(misfit)?;
        let strides: Shape = dense_strides(data).iter().map(|&s| s as usize).collect();
        Ok(Self {
            extents: data[batch..named].into(),
            strides: strides[batch..named].into(),
            per_batch: span(&places[batch..]),
            batch_stride: span(&data[batch..]),
            run: span(&data[named..]),
            tuples: span(places),
        })
    }

    /// Elements of a slice.
    pub(crate) fn run(&self) -> usize {
        self.run
    }

    /// Errs unless every coordinate lies in its axis.
    pub(crate) fn check(&self, indices: &[i64]) -> Result<(), OpError> {
        let depth = self.extents.len();
        if indices.len() != self.tuples * depth {
            return Err(OpError::internal("index tuples of another number than prepared for"));
        }
        for (at, &i) in indices.iter().enumerate() {
            let extent = self.extents[at % depth] as i64;
            if i < -extent || i >= extent {
                return Err(OpError::value(format!("index {i} is outside an axis of {extent}")));
            }
        }
        Ok(())
    }

    /// Where the slice of tuple number `at` starts, once [`Self::check`] has passed.
    pub(crate) fn place(&self, indices: &[i64], at: usize) -> usize {
        let depth = self.extents.len();
        let tuple = &indices[at * depth..(at + 1) * depth];
        let mut place = at / self.per_batch * self.batch_stride;
        for ((&i, &extent), &stride) in tuple.iter().zip(&self.extents).zip(&self.strides) {
            place += stride * if i < 0 { (i + extent as i64) as usize } else { i as usize };
        }
        place
    }
}
