//! Elementwise functions of integer tensors whose elements are extents: shape arithmetic before the shapes
//! are known.

use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Content, TensorFact};

/// One element of an integer tensor that takes part in shape arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ops) enum Entry {
    /// A number.
    Int(i64),
    /// An extent, not known as a number.
    Dim(Dim),
}

/// The elements of a tensor of at most one axis, when something is known of them.
pub(in crate::ops) fn entries(fact: &TensorFact) -> Option<Vec<Entry>> {
    if !matches!(fact.dtype, DType::I64 | DType::I32) || fact.rank().is_none_or(|r| r > 1) {
        return None;
    }
    if let Some(values) = fact.as_i64s() {
        return Some(values.into_iter().map(Entry::Int).collect());
    }
    let entry = |d: Dim| match d.known().map(i64::try_from) {
        Some(Ok(n)) => Entry::Int(n),
        _ => Entry::Dim(d),
    };
    Some(fact.as_dims()?.into_iter().map(entry).collect())
}

/// The content of an elementwise function of `inputs`, whose element from entries of the inputs is `f`.
/// Negative results are not extents and are left unknown.
pub(in crate::ops) fn combined(inputs: &[&TensorFact], f: impl Fn(&[Entry]) -> Dim) -> Content {
    let Some(dtype) = inputs.last().map(|i| i.dtype) else { return Content::Unknown };
    let Some(columns) = inputs.iter().map(|i| entries(i)).collect::<Option<Vec<_>>>() else {
        return Content::Unknown;
    };
    let most = columns.iter().map(Vec::len).max().unwrap_or(0);
    let len = if columns.iter().any(Vec::is_empty) { 0 } else { most };
    if columns.iter().any(|c| c.len() != len && c.len() != 1) {
        return Content::Unknown;
    }
    let limit = if dtype == DType::I32 { i32::MAX as usize } else { i64::MAX as usize };
    let element = |i: usize| {
        let row: Vec<Entry> = columns.iter().map(|c| c[if c.len() == 1 { 0 } else { i }].clone()).collect();
        match f(&row) {
            Dim::Known(n) if n > limit => Dim::Unknown,
            dim => dim,
        }
    };
    Content::Dims((0..len).map(element).collect())
}

impl Entry {
    /// A number as an extent; negative numbers and overflows are none.
    pub(in crate::ops) fn extent(value: Option<i64>) -> Dim {
        value.and_then(|v| usize::try_from(v).ok()).map_or(Dim::Unknown, Dim::Known)
    }

    /// The extent; unknown for a negative number.
    pub(in crate::ops) fn dim(&self) -> Dim {
        match self {
            Self::Int(v) => Self::extent(Some(*v)),
            Self::Dim(d) => d.clone(),
        }
    }

    /// A function of two extents that is no polynomial, by its name; its arguments may be exchanged.
    pub(in crate::ops) fn symmetric(name: &str, a: &Self, b: &Self) -> Dim {
        let (a, b) = (a.dim(), b.dim());
        if a == b || a == Dim::Unknown || b == Dim::Unknown {
            return if a == b { a } else { Dim::Unknown };
        }
        let (x, y) = (a.to_string(), b.to_string());
        Dim::opaque(format!("{name}({},{})", (&x).min(&y), (&x).max(&y)))
    }
}
