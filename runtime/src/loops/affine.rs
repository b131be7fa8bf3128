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

    /// Quotient and remainder by `divisor`, where the remainder is one wherever axes are below `extents`.
    pub(crate) fn divided(
        &self,
        divisor: i64,
        extents: impl Fn(usize) -> Option<usize>,
    ) -> Option<(Self, Self)> {
        let mut quotient = Self::constant(self.offset.checked_div_euclid(divisor)?);
        let mut remainder = Self::constant(self.offset.checked_rem_euclid(divisor)?);
        let mut most = remainder.offset;
        for &(axis, k) in &self.terms {
            if k % divisor == 0 {
                quotient = quotient.plus(axis, k / divisor)?;
            } else {
                let last = i64::try_from(extents(axis)?.saturating_sub(1)).ok()?;
                most = most.checked_add(k.checked_mul(last)?)?;
                remainder = remainder.plus(axis, k)?;
            }
        }
        let within = most < divisor && remainder.terms.iter().all(|t| t.1 > 0);
        within.then_some((quotient, remainder))
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

    #[test]
    fn divides() {
        let flat =
            Affine::axis(0).scaled(6).and_then(|a| a.plus(1, 2)).and_then(|a| a.shifted(-5)).expect("small");
        // 6 a + 2 b - 5 = 6 (a - 1) + 2 b + 1, of which the latter is below 6 for b below 3.
        let (quotient, remainder) = flat.divided(6, |_| Some(3)).expect("a remainder");
        assert_eq!((quotient.to_string(), remainder.to_string()), ("a0-1".into(), "2·a1+1".into()));
        assert!(flat.divided(6, |_| Some(4)).is_none());
        assert!(flat.divided(6, |_| None).is_none());
        assert!(flat.divided(0, |_| Some(1)).is_none());
        // Nothing is left over of multiples, whatever their extents.
        let (quotient, remainder) = flat.divided(1, |_| None).expect("a remainder");
        assert_eq!((quotient, remainder), (flat, Affine::constant(0)));
        assert!(Affine::axis(0).scaled(-1).and_then(|a| a.divided(2, |_| Some(2))).is_none());
    }
}
