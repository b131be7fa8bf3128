//! Extents of tensors: known, an expression over named symbols such as `batch` and `time`, or unknown until
//! the data has been seen.
//!
//! An expression is a polynomial with integer coefficients over atoms; an atom is a symbol or a named opaque
//! function of dimensions (`max(time-1,0)`). Equal expressions are equal extents whatever the symbols are
//! bound to; unequal expressions may still be equal.

use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// Expressions larger than this are not kept: the extent becomes unknown until the data is there. A hostile
/// graph could otherwise double an expression at every node.
const MOST_ATOMS: usize = 64;
/// The same for the description of one opaque function.
const LONGEST_DESCRIPTION: usize = 1024;

/// One extent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A function of the model's symbolic dimensions.
    Expr(Arc<Poly>),
    /// Known only once the data is.
    Unknown,
}

/// A polynomial: monomials (sorted atoms) with non-zero coefficients, sorted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Poly(Vec<(Vec<Arc<str>>, i64)>);

impl Poly {
    fn constant(value: i64) -> Self {
        Self(if value == 0 { vec![] } else { vec![(vec![], value)] })
    }

    fn normal(mut terms: Vec<(Vec<Arc<str>>, i64)>) -> Option<Self> {
        terms.sort();
        let mut out: Vec<(Vec<Arc<str>>, i64)> = Vec::with_capacity(terms.len());
        for (atoms, k) in terms {
            match out.last_mut() {
                Some(last) if last.0 == atoms => last.1 = last.1.checked_add(k)?,
                _ => out.push((atoms, k)),
            }
        }
        out.retain(|(_, k)| *k != 0);
        Some(Self(out))
    }

    fn as_constant(&self) -> Option<i64> {
        match self.0.as_slice() {
            [] => Some(0),
            [(atoms, k)] if atoms.is_empty() => Some(*k),
            _ => None,
        }
    }
}

impl Dim {
    /// A named symbol.
    pub fn symbol(name: &str) -> Self {
        Self::Expr(Arc::new(Poly(vec![(vec![name.into()], 1)])))
    }

    /// A function of dimensions that is not polynomial, named by `description` in terms of its arguments:
    /// equal descriptions are equal extents.
    pub(crate) fn opaque(description: String) -> Self {
        if description.len() > LONGEST_DESCRIPTION {
            return Self::Unknown;
        }
        Self::Expr(Arc::new(Poly(vec![(vec![description.into()], 1)])))
    }

    /// The number, when it is known.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(*n),
            _ => None,
        }
    }

    fn poly(&self) -> Option<Poly> {
        match self {
            Self::Known(n) => Some(Poly::constant(i64::try_from(*n).ok()?)),
            Self::Expr(p) => Some((**p).clone()),
            Self::Unknown => None,
        }
    }

    fn of(poly: Option<Poly>) -> Self {
        let Some(poly) = poly else { return Self::Unknown };
        match poly.as_constant() {
            Some(k) => usize::try_from(k).map_or(Self::Unknown, Self::Known),
            None if poly.0.iter().map(|(atoms, _)| 1 + atoms.len()).sum::<usize>() > MOST_ATOMS => {
                Self::Unknown
            }
            None => Self::Expr(Arc::new(poly)),
        }
    }

    /// `self · factor + offset`, for signed shape arithmetic.
    pub(crate) fn affine(&self, factor: i64, offset: i64) -> Self {
        let scaled = self.poly().and_then(|p| {
            let terms: Option<Vec<_>> =
                p.0.into_iter().map(|(a, k)| Some((a, k.checked_mul(factor)?))).collect();
            let mut terms = terms?;
            terms.push((vec![], offset));
            Poly::normal(terms)
        });
        Self::of(scaled)
    }

    /// Whether the expression is a sum of products of symbols with positive coefficients, so that it is
    /// negative for no extents.
    pub(crate) fn is_sum_of_symbols(&self) -> bool {
        match self {
            Self::Known(_) => true,
            // An opaque function is written with a parenthesis.
            Self::Expr(p) => p.0.iter().all(|(atoms, k)| *k > 0 && atoms.iter().all(|a| !a.contains('('))),
            Self::Unknown => false,
        }
    }

    /// `⌊self / divisor⌋`; exact where every coefficient is a multiple, opaque otherwise.
    pub(crate) fn floor_div(&self, divisor: usize) -> Self {
        let (Ok(d), Some(p)) = (i64::try_from(divisor), self.poly()) else { return Self::Unknown };
        if d == 0 {
            return Self::Unknown;
        }
        if let Some(k) = p.as_constant() {
            return usize::try_from(k.div_euclid(d)).map_or(Self::Unknown, Self::Known);
        }
        if p.0.iter().all(|(_, k)| k % d == 0) {
            return Self::of(Some(Poly(p.0.into_iter().map(|(a, k)| (a, k / d)).collect())));
        }
        Self::opaque(format!("floor(({self})/{d})"))
    }

    /// `self / divisor` where the division is known to be exact: cancels common atoms.
    pub(crate) fn exact_div(&self, divisor: &Dim) -> Option<Self> {
        if let (Self::Known(a), Self::Known(b)) = (self, divisor) {
            return (*b != 0 && a % b == 0).then(|| Self::Known(a / b));
        }
        let (p, q) = (self.poly()?, divisor.poly()?);
        let [(atoms, k)] = q.0.as_slice() else {
            return (p == q).then_some(Self::Known(1));
        };
        let mut terms = Vec::with_capacity(p.0.len());
        for (mut a, c) in p.0 {
            for atom in atoms {
                let at = a.iter().position(|x| x == atom)?;
                a.remove(at);
            }
            if c.checked_rem(*k)? != 0 {
                return None;
            }
            terms.push((a, c.checked_div(*k)?));
        }
        Some(Self::of(Poly::normal(terms)))
    }

    /// The symbol, when the extent is one and nothing else.
    pub fn as_symbol(&self) -> Option<&str> {
        match self {
            Self::Expr(p) => match p.0.as_slice() {
                [(atoms, 1)] if atoms.len() == 1 => Some(&atoms[0]),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        Self::Known(value)
    }
}

impl Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        let sum = self.poly().zip(other.poly()).and_then(|(mut a, b)| {
            a.0.extend(b.0);
            Poly::normal(a.0)
        });
        Dim::of(sum)
    }
}

impl Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim {
        let difference = self.poly().zip(other.poly()).and_then(|(mut a, b)| {
            for (atoms, k) in b.0 {
                a.0.push((atoms, k.checked_neg()?));
            }
            Poly::normal(a.0)
        });
        Dim::of(difference)
    }
}

impl Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        if let (Dim::Known(a), Dim::Known(b)) = (self, other) {
            return a.checked_mul(*b).map_or(Dim::Unknown, Dim::Known);
        }
        // A product of large sums would grow without bound; past this it is not worth knowing.
        const MAX_TERMS: usize = 64;
        let product = self.poly().zip(other.poly()).and_then(|(a, b)| {
            if a.0.len() * b.0.len() > MAX_TERMS {
                return None;
            }
            let mut terms = Vec::new();
            for (x, j) in &a.0 {
                for (y, k) in &b.0 {
                    let mut atoms: Vec<_> = x.iter().chain(y).cloned().collect();
                    atoms.sort();
                    terms.push((atoms, j.checked_mul(*k)?));
                }
            }
            Poly::normal(terms)
        });
        Dim::of(product)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Unknown => f.write_str("?"),
            Self::Expr(p) => {
                // Constants last: `time-1`, not `-1+time`.
                let (constant, rest): (Vec<_>, Vec<_>) = p.0.iter().partition(|(a, _)| a.is_empty());
                for (i, (atoms, k)) in rest.into_iter().chain(constant).enumerate() {
                    let sign = if *k < 0 {
                        "-"
                    } else if i > 0 {
                        "+"
                    } else {
                        ""
                    };
                    let size = k.unsigned_abs();
                    f.write_str(sign)?;
                    match (atoms.is_empty(), size) {
                        (true, _) => write!(f, "{size}")?,
                        (false, 1) => f.write_str(&atoms.join("*"))?,
                        (false, _) => write!(f, "{size}*{}", atoms.join("*"))?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_normalises() {
        let (t, b) = (Dim::symbol("time"), Dim::symbol("batch"));
        assert_eq!(&(&t + &b) - &b, t);
        assert_eq!(&t - &t, Dim::Known(0));
        assert_eq!(
            (&(&t * &b) * &Dim::Known(4)).exact_div(&(&b * &Dim::Known(2))),
            Some(&t * &Dim::Known(2))
        );
        assert_eq!(t.affine(1, -1).to_string(), "time-1");
        assert_eq!(t.affine(2, 4).floor_div(2), t.affine(1, 2));
        assert_eq!(t.floor_div(2), t.floor_div(2));
        assert_ne!(t.floor_div(2), t.floor_div(3));
        assert_eq!(&Dim::Unknown + &t, Dim::Unknown);
        assert_eq!(&Dim::Known(usize::MAX) * &Dim::Known(2), Dim::Unknown);
    }
}
