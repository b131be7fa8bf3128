//! Elementwise functions of integer tensors whose elements are extents: shape arithmetic before the shapes
//! are known.

use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Integer, TensorFact};

/// One element of an integer tensor that takes part in shape arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ops) enum Entry {
    /// A number.
    Int(i64),
    /// An extent that is not known as a number, or [`Dim::Unknown`].
    Dim(Dim),
}

impl Entry {
    pub(in crate::ops) const UNKNOWN: Self = Self::Dim(Dim::Unknown);

    /// The number, when there is one.
    pub(in crate::ops) fn number(value: Option<i64>) -> Self {
        value.map_or(Self::UNKNOWN, Self::Int)
    }

    /// The extent; unknown for a negative number.
    pub(in crate::ops) fn dim(&self) -> Dim {
        match self {
            Self::Int(v) => usize::try_from(*v).map_or(Dim::Unknown, Dim::Known),
            Self::Dim(d) => d.clone(),
        }
    }

    /// A function of two extents that is no polynomial, by its name; its arguments may be exchanged, and of
    /// two equal ones it is either.
    pub(in crate::ops) fn symmetric(name: &str, a: &Self, b: &Self) -> Self {
        let (a, b) = (a.dim(), b.dim());
        if a == b || a == Dim::Unknown || b == Dim::Unknown {
            return Self::Dim(if a == b { a } else { Dim::Unknown });
        }
        let (x, y) = (a.to_string(), b.to_string());
        Self::Dim(Dim::opaque(format!("{name}({},{})", (&x).min(&y), (&x).max(&y))))
    }

    fn integer(self, dtype: DType) -> Integer {
        match self {
            Self::Int(v) if dtype == DType::I32 && i32::try_from(v).is_err() => Dim::Unknown.into(),
            Self::Int(v) => v.into(),
            Self::Dim(d) => d.into(),
        }
    }
}

/// The types that shapes are computed in.
fn holds_extents(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::I32)
}

/// The elements of a tensor of at most one axis, when something is known of them.
pub(in crate::ops) fn entries(fact: &TensorFact) -> Option<Vec<Entry>> {
    let entry = |value: Integer| match (value.known(), value) {
        (Some(v), _) => Entry::Int(v),
        (None, Integer::Extent(d)) => Entry::Dim(d),
        (None, Integer::Negative(_)) => Entry::UNKNOWN,
    };
    holds_extents(fact.dtype).then(|| fact.as_integers())?.map(|v| v.into_iter().map(entry).collect())
}

/// Element `i` of a column that broadcasts.
pub(in crate::ops) fn broadcast_at<T>(column: &[T], i: usize) -> Option<&T> {
    column.get(if column.len() == 1 { 0 } else { i })
}

/// `fact` with the content that follows from `f` of the elements of `inputs`, where they are shape arithmetic.
pub(in crate::ops) fn with_entries(
    fact: TensorFact,
    inputs: &[&TensorFact],
    f: impl Fn(&[Entry]) -> Entry,
) -> TensorFact {
    let columns: Option<Vec<_>> = inputs.iter().map(|i| entries(i)).collect();
    let (Some(columns), Some(len), true) = (columns, fact.element_count(), holds_extents(fact.dtype)) else {
        return fact;
    };
    let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
    if len > longest {
        return fact;
    }
    let element = |i: usize| {
        let row: Option<Vec<Entry>> = columns.iter().map(|c| broadcast_at(c, i).cloned()).collect();
        Some(f(&row?).integer(fact.dtype))
    };
    match (0..len).map(element).collect() {
        Some(values) => fact.with_integers(values),
        None => fact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fact::{Fact, Facts};
    use crate::ops::attributes::NodeSpec;
    use crate::ops::find;
    use crate::tensor::Tensor;

    fn inferred(name: &str, inputs: &[TensorFact]) -> TensorFact {
        let spec = NodeSpec {
            attributes: Vec::new(),
            opset: crate::ops::NEWEST_OPSET,
            inputs: vec![true; inputs.len()],
            outputs: vec![true],
        };
        let op = find("", name, spec.opset).and_then(|def| (def.parse)(&spec).ok()).expect("is there");
        let facts: Vec<Fact> = inputs.iter().cloned().map(Fact::Tensor).collect();
        let given: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        op.infer(Facts(&given)).expect("infers")[0].tensor().cloned().expect("a tensor")
    }

    fn shape_of(dims: &[Dim]) -> TensorFact {
        let values = dims.iter().cloned().map(Integer::Extent).collect();
        TensorFact::known(DType::I64, &[dims.len()]).with_integers(values)
    }

    fn constant(values: &[i64]) -> TensorFact {
        TensorFact::constant(Tensor::new(&[values.len()], values.to_vec()).expect("fits"))
    }

    #[test]
    fn shapes_are_computed_before_they_are_known() {
        let time = Dim::symbol("time");
        let shape = shape_of(&[time.clone(), 6.into()]);
        let dims = |fact: TensorFact| -> Vec<Dim> {
            entries(&fact).expect("known").iter().map(Entry::dim).collect()
        };
        assert_eq!(dims(inferred("Add", &[shape.clone(), constant(&[2])])), [time.affine(1, 2), 8.into()]);
        assert_eq!(
            dims(inferred("Sub", &[shape.clone(), constant(&[2, 3])])),
            [time.affine(1, -2), 3.into()]
        );
        assert_eq!(dims(inferred("Mul", &[shape.clone(), shape.clone()])), [&time * &time, 36.into()]);
        assert_eq!(dims(inferred("Div", &[shape.clone(), constant(&[2])])), [time.floor_div(2), 3.into()]);
        let most = inferred("Max", &[shape.clone(), constant(&[1, 9])]);
        assert_eq!(dims(most)[1], Dim::Known(9));
        let cast = TensorFact { dtype: DType::I64, ..shape.clone() };
        assert_eq!(dims(inferred("Identity", &[cast])), [time, 6.into()]);
    }

    #[test]
    fn an_extent_is_never_the_wildcard() {
        let shape = shape_of(&[Dim::symbol("batch"), 4.into()]);
        let wild = inferred("Equal", &[shape.clone(), constant(&[-1])]);
        assert!(wild.as_constant().is_some());
        let filled = inferred("Where", &[wild, constant(&[1]), shape.clone()]);
        assert_eq!(entries(&filled), entries(&shape));
        // An expression that may be negative is not decided, nor is one extent against another.
        let less = shape_of(&[Dim::symbol("time").affine(1, -5)]);
        assert!(inferred("Equal", &[less, constant(&[-1])]).as_constant().is_none());
        assert!(inferred("Equal", &[shape, constant(&[4, 4])]).as_constant().is_none());
    }
}
