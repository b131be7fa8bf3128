//! What is known about a value before it exists: its element type, its shape, and its content where that
//! follows from the model alone.

use super::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::{Shape, Tensor};

/// What is known about a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A tensor.
    Tensor(TensorFact),
    /// A sequence of values of this kind.
    Sequence(Box<Fact>),
    /// A value of this kind, or none.
    Optional(Box<Fact>),
}

/// What is known about a tensor.
#[derive(Clone, Debug)]
pub struct TensorFact {
    /// Element type.
    pub dtype: DType,
    /// Extents; `None` when even their number is unknown.
    pub shape: Option<Vec<Dim>>,
    /// The content, when it is known.
    pub content: Content,
}

/// What is known about a tensor's elements.
#[derive(Clone, Debug, Default)]
pub enum Content {
    /// Nothing.
    #[default]
    Unknown,
    /// All of them.
    Constant(Tensor),
    /// An integer tensor of at most one axis, each element an extent: the result of shape arithmetic. An
    /// element that only the data tells is [`Dim::Unknown`].
    Dims(Vec<Dim>),
    /// The same where some elements are negative, such as `[batch, -1]`.
    Integers(Vec<Integer>),
}

/// One element of an integer tensor in shape arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub enum Integer {
    /// An extent, or [`Dim::Unknown`] where nothing is known.
    Extent(Dim),
    /// A number below zero.
    Negative(i64),
}

impl Integer {
    /// The number, when it is known.
    pub fn known(&self) -> Option<i64> {
        match self {
            Self::Extent(d) => d.known().and_then(|n| i64::try_from(n).ok()),
            Self::Negative(v) => Some(*v),
        }
    }
}

impl From<i64> for Integer {
    fn from(value: i64) -> Self {
        usize::try_from(value).map_or(Self::Negative(value), |n| Self::Extent(Dim::Known(n)))
    }
}

impl From<Dim> for Integer {
    fn from(dim: Dim) -> Self {
        Self::Extent(dim)
    }
}

impl PartialEq for TensorFact {
    /// Equal dtype and shape; the content is not compared.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape
    }
}

/// Longer integer tensors are data, not shape arithmetic.
const LONGEST: usize = 1024;

impl TensorFact {
    /// A tensor of `dtype` and `shape` whose content is unknown.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        Self { dtype, shape: Some(shape), content: Content::Unknown }
    }

    /// A tensor of `dtype` of known extents.
    pub fn known(dtype: DType, shape: &[usize]) -> Self {
        Self::new(dtype, shape.iter().map(|&d| Dim::Known(d)).collect())
    }

    /// A tensor of `dtype` of which not even the rank is known.
    pub fn unranked(dtype: DType) -> Self {
        Self { dtype, shape: None, content: Content::Unknown }
    }

    /// A tensor of `dtype` and `rank` axes of unknown extents.
    pub fn ranked(dtype: DType, rank: usize) -> Self {
        Self::new(dtype, vec![Dim::Unknown; rank])
    }

    /// A constant.
    #[allow(clippy::needless_pass_by_value, reason = "a tensor is a handle; callers give theirs away")]
    pub fn constant(tensor: Tensor) -> Self {
        Self { content: Content::Constant(tensor.clone()), ..Self::known(tensor.dtype(), tensor.shape()) }
    }

    /// The same with `content`.
    pub(crate) fn with_content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// With the content of `data`, whose elements it holds in the same order under another shape.
    pub(crate) fn with_content_of(self, data: &TensorFact) -> Self {
        if let (Some(constant), Some(shape)) = (data.as_constant(), self.known_shape())
            && let Ok(tensor) = constant.reshaped(&shape)
        {
            return self.with_content(Content::Constant(tensor));
        }
        match data.as_integers() {
            Some(values) => self.with_integers(values),
            None => self,
        }
    }

    /// Whether both shapes are known to be the same, whatever the symbols stand for.
    pub(crate) fn has_shape_of(&self, other: &TensorFact) -> bool {
        match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => a == b && !a.contains(&Dim::Unknown),
            _ => false,
        }
    }

    /// Number of axes, when it is known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// All extents, when they are known.
    pub fn known_shape(&self) -> Option<Shape> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    /// The constant, when the content is known in full.
    pub fn as_constant(&self) -> Option<&Tensor> {
        match &self.content {
            Content::Constant(t) => Some(t),
            _ => None,
        }
    }

    /// The elements as integers, when they are known in full.
    pub(crate) fn as_i64s(&self) -> Option<Vec<i64>> {
        match &self.content {
            Content::Constant(t) => t.view().to_i64s().ok(),
            Content::Dims(d) => d.iter().map(|d| d.known().and_then(|n| i64::try_from(n).ok())).collect(),
            Content::Integers(v) => v.iter().map(Integer::known).collect(),
            Content::Unknown => None,
        }
    }

    /// The elements of an integer tensor of at most one axis as extents and negative numbers, when they are
    /// known at least as expressions.
    pub(crate) fn as_integers(&self) -> Option<Vec<Integer>> {
        match &self.content {
            Content::Dims(d) => Some(d.iter().cloned().map(Integer::Extent).collect()),
            Content::Integers(v) => Some(v.clone()),
            Content::Constant(t) if self.dtype.is_int() && t.shape().len() <= 1 && t.len() <= LONGEST => {
                Some(t.view().to_i64s().ok()?.into_iter().map(Integer::from).collect())
            }
            _ => None,
        }
    }

    /// With the content `values`, as long as they are an integer tensor of at most one axis and of a length
    /// that shape arithmetic has.
    pub(crate) fn with_integers(self, values: Vec<Integer>) -> Self {
        let fits = self.dtype.is_int()
            && self.rank().is_some_and(|r| r <= 1)
            && self.element_count() == Some(values.len())
            && values.len() <= LONGEST;
        if !fits || values.iter().all(|v| *v == Integer::Extent(Dim::Unknown)) && !values.is_empty() {
            return self;
        }
        let known: Option<Vec<i64>> = values.iter().map(Integer::known).collect();
        let constant = known.zip(self.known_shape()).and_then(|(v, shape)| match self.dtype {
            DType::I64 => Tensor::new(&shape, v).ok(),
            DType::I32 => {
                Tensor::new(&shape, v.iter().map(|&v| i32::try_from(v).ok()).collect::<Option<_>>()?).ok()
            }
            _ => None,
        });
        let content = match constant {
            Some(tensor) => Content::Constant(tensor),
            None if values.iter().any(|v| matches!(v, Integer::Negative(_))) => Content::Integers(values),
            None => Content::Dims(
                values
                    .into_iter()
                    .map(|v| match v {
                        Integer::Extent(d) => d,
                        Integer::Negative(_) => Dim::Unknown,
                    })
                    .collect(),
            ),
        };
        self.with_content(content)
    }

    /// The elements as extents, when they are known at least as expressions; `None` where one is negative.
    pub(crate) fn as_dims(&self) -> Option<Vec<Dim>> {
        let extent = |v: Integer| match v {
            Integer::Extent(d) => Some(d),
            Integer::Negative(_) => None,
        };
        self.as_integers()?.into_iter().map(extent).collect()
    }

    /// Number of elements, when it is known.
    pub(crate) fn element_count(&self) -> Option<usize> {
        self.known_shape().and_then(|s| crate::tensor::element_count(&s))
    }

    /// Bytes, when they are known.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.element_count().and_then(|n| self.dtype.bytes(n))
    }
}

impl From<TensorFact> for Fact {
    fn from(fact: TensorFact) -> Self {
        Self::Tensor(fact)
    }
}

impl Fact {
    /// The tensor's fact, when it is one.
    pub fn tensor(&self) -> Option<&TensorFact> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

/// The facts of a node's inputs, with the accessors that shape inference needs. An absent optional input is
/// `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a>(pub(crate) &'a [Option<&'a Fact>]);

impl<'a> Facts<'a> {
    /// Number of inputs, trailing absent ones included.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether input `index` is there.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(Option::is_some)
    }

    /// Input `index` of any kind.
    pub(crate) fn value(&self, index: usize) -> Result<&'a Fact, OpError> {
        self.0.get(index).copied().flatten().ok_or_else(|| OpError::input(index, "is missing"))
    }

    /// Input `index` as a tensor.
    pub(crate) fn tensor(&self, index: usize) -> Result<&'a TensorFact, OpError> {
        self.value(index)?.tensor().ok_or_else(|| OpError::input(index, "is not a tensor"))
    }

    /// Input `index` as a tensor, when it is there.
    pub(crate) fn optional(&self, index: usize) -> Result<Option<&'a TensorFact>, OpError> {
        if self.has(index) { self.tensor(index).map(Some) } else { Ok(None) }
    }

    /// Input `index` as a tensor of one of `dtypes`.
    pub(crate) fn typed(&self, index: usize, dtypes: &[DType]) -> Result<&'a TensorFact, OpError> {
        let fact = self.tensor(index)?;
        if dtypes.contains(&fact.dtype) { Ok(fact) } else { Err(OpError::DType { index, got: fact.dtype }) }
    }

    /// Between `least` and `most` inputs, the first `least` of them present.
    pub(crate) fn expect_count(&self, least: usize, most: usize) -> Result<(), OpError> {
        if let Some(index) = (0..least).find(|&i| !self.has(i)) {
            return Err(OpError::input(index, "is missing"));
        }
        if self.len() > most {
            return Err(OpError::input(most, format!("is one too many: at most {most} are taken")));
        }
        Ok(())
    }
}

/// Whether output 0 has the shape of input 0, both tensors.
pub(crate) fn keeps_shape(inputs: Facts<'_>, outputs: &[Fact]) -> bool {
    let output = outputs.first().and_then(Fact::tensor);
    inputs.tensor(0).ok().zip(output).is_some_and(|(x, y)| y.has_shape_of(x))
}

/// Axis `axis` of `rank`, counted from the end when negative.
pub(crate) fn normal_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = rank as i64;
    if axis < -signed || axis >= signed {
        return Err(OpError::value(format!("axis {axis} is outside a tensor of rank {rank}")));
    }
    Ok(if axis < 0 { (axis + signed) as usize } else { axis as usize })
}

/// Axes of `rank`, counted from the end when negative, each at most once.
pub(crate) fn normal_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut named = vec![false; rank];
    let mut out = Vec::with_capacity(axes.len());
    for &axis in axes {
        let axis_at = normal_axis(axis, rank)?;
        if std::mem::replace(&mut named[axis_at], true) {
            return Err(OpError::value(format!("axis {axis} is named twice")));
        }
        out.push(axis_at);
    }
    Ok(out)
}

/// The shape that `shapes` broadcast to by the multidirectional rule of the specification.
pub(crate) fn broadcast_dims(shapes: &[&[Dim]]) -> Result<Vec<Dim>, OpError> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::Known(1); rank];
    for shape in shapes {
        for (o, d) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            *o = match (&*o, d) {
                (Dim::Known(1), d) => d.clone(),
                (o, Dim::Known(1)) => o.clone(),
                (a, b) if a == b => a.clone(),
                (Dim::Known(a), Dim::Known(b)) => {
                    return Err(OpError::shape(format!("extents {a} and {b} do not broadcast")));
                }
                // A known extent above 1 fixes the result: the other side must be it or 1.
                (Dim::Known(a), _) | (_, Dim::Known(a)) => Dim::Known(*a),
                (a, b) => {
                    if *a == Dim::Unknown || *b == Dim::Unknown {
                        Dim::Unknown
                    } else {
                        let (x, y) = (a.to_string().min(b.to_string()), a.to_string().max(b.to_string()));
                        Dim::opaque(format!("broadcast({x},{y})"))
                    }
                }
            };
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_symbols_and_refuses_conflicts() {
        let (b, one, four) = (Dim::symbol("batch"), Dim::Known(1), Dim::Known(4));
        let got =
            broadcast_dims(&[&[b.clone(), one.clone()], std::slice::from_ref(&four)]).expect("broadcasts");
        assert_eq!(got, [b.clone(), four.clone()]);
        assert_eq!(
            broadcast_dims(&[&[b], std::slice::from_ref(&four)]).expect("broadcasts"),
            std::slice::from_ref(&four)
        );
        assert!(broadcast_dims(&[&[four], &[Dim::Known(3)]]).is_err());
        assert_eq!(broadcast_dims(&[&[Dim::Known(0)], &[one]]).expect("broadcasts"), [Dim::Known(0)]);
    }

    #[test]
    fn axes_count_from_the_end() {
        assert_eq!(normal_axes(&[-1, 0], 3).expect("valid"), [2, 0]);
        assert!(normal_axes(&[-1, 2], 3).is_err());
        assert!(normal_axis(3, 3).is_err());
        assert!(normal_axis(i64::MIN, 3).is_err());
    }
}
