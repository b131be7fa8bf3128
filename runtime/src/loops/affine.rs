//! Affine functions of the axes of a nest: `offset + Σ coefficient · axis`, the indices of reads and writes.

use smallvec::SmallVec;
use std::fmt;

/// An affine function. Each axis has at most one term, none of them zero, in ascending order of axes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Affine {
    terms: SmallVec<[(usize, i64); 2]>,
    offset: i64,
}

impl Affine {
    /// The same number everywhere.
    pub(crate) fn constant(offset: i64) -> Self {
        Self { terms: SmallVec::new(), offset }
    }

    /// The axis itself.
    pub(crate) fn axis(axis: usize) -> Self {
        Self { terms: SmallVec::from_slice(&[(axis, 1)]), offset: 0 }
    }

    /// `factor · axis`, added.
    pub(crate) fn plus(mut self, axis: usize, factor: i64) -> Option<Self> {
        match self.terms.binary_search_by_key(&axis, |t| t.0) {
            Ok(at) => {
                self.terms[at].1 = self.terms[at].1.checked_add(factor)?;
                if self.terms[at].1 == 0 {
                    self.terms.remove(at);
                }
            }
            Err(at) if factor != 0 => self.terms.insert(at, (axis, factor)),
            Err(_) => {}
        }
        Some(self)
    }

    /// The same, shifted by `offset`.
    pub(crate) fn shifted(mut self, offset: i64) -> Option<Self> {
        self.offset = self.offset.checked_add(offset)?;
        Some(self)
    }

    /// `factor · self`.
    pub(crate) fn scaled(&self, factor: i64) -> Option<Self> {
        if factor == 0 {
            return Some(Self::constant(0));
        }
        let terms: Option<SmallVec<_>> =
            self.terms.iter().map(|&(axis, k)| Some((axis, k.checked_mul(factor)?))).collect();
        Some(Self { terms: terms?, offset: self.offset.checked_mul(factor)? })
    }

    /// The sum of two.
    pub(crate) fn sum(&self, other: &Self) -> Option<Self> {
        let mut out = self.clone();
        for &(axis, k) in &other.terms {
            out = out.plus(axis, k)?;
        }
        out.shifted(other.offset)
    }

    /// The function of other axes that results when each axis `i` is `axes[i]`; `None` where one has no place.
    pub(crate) fn compose(&self, axes: &[Option<Self>]) -> Option<Self> {
        let mut out = Self::constant(self.offset);
        for &(axis, k) in &self.terms {
            out = out.sum(&axes.get(axis)?.as_ref()?.scaled(k)?)?;
        }
        Some(out)
    }

    /// What remains where all axes are zero.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// Axes with their factors.
    pub(crate) fn terms(&self) -> &[(usize, i64)] {
        &self.terms
    }

    /// The value at `point`.
    #[cfg(test)]
    pub(crate) fn at(&self, point: &[usize]) -> i64 {
        self.terms.iter().fold(self.offset, |sum, &(axis, k)| sum + k * point[axis] as i64)
    }
}

/// `2·a0+a1-3`.
impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &(axis, k)) in self.terms.iter().enumerate() {
            let sign = if k < 0 {
                "-"
            } else if i > 0 {
                "+"
            } else {
                ""
            };
            match k.unsigned_abs() {
                1 => write!(f, "{sign}a{axis}")?,
                k => write!(f, "{sign}{k}·a{axis}")?,
            }
        }
        match self.offset {
            0 if !self.terms.is_empty() => Ok(()),
            k if self.terms.is_empty() => write!(f, "{k}"),
            k => write!(f, "{k:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composes() {
        let flat =
            Affine::axis(0).scaled(6).and_then(|a| a.plus(1, 1)).and_then(|a| a.shifted(-3)).expect("small");
        assert_eq!(flat.to_string(), "6·a0+a1-3");
        let swapped = [Some(Affine::axis(1)), Affine::axis(0).shifted(2)];
        let composed = flat.compose(&swapped).expect("small");
        assert_eq!(composed.to_string(), "a0+6·a1-1");
        assert_eq!(composed.at(&[4, 5]), flat.at(&[5, 6]));
        assert_eq!(Affine::axis(0).plus(0, -1), Some(Affine::constant(0)));
        assert!(Affine::axis(0).scaled(i64::MAX).and_then(|a| a.scaled(2)).is_none());
    }
}
