//! A node's attributes as the model gives them, read once into the typed fields of an operator. What an
//! operator does not read is refused: a silently ignored attribute is a wrong answer.

use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Graph;
use crate::graph::fact::{Fact, Facts};
use crate::reference::RefInputs;
use crate::tensor::Tensor;
use std::cell::Cell;
use std::sync::Arc;

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    String(Arc<str>),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Arc<str>>),
    /// A type; operators that declare one read nothing but its presence.
    Type(Fact),
    Body(Body),
}

/// A graph given as an attribute. Its inputs are the formal ones, then one for each captured value, whose
/// outer values are appended to the node's inputs, the bodies' captures in the order of the bodies.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) graph: Graph,
    /// How many inputs of `graph` are formal; the rest are captures.
    pub(crate) formal_inputs: usize,
}

/// What [`super::OpDef::parse`] sees of a node: attributes, versions, and how many inputs and outputs are
/// there.
pub(crate) struct NodeSpec {
    pub(crate) attributes: Vec<(Arc<str>, Attribute, Cell<bool>)>,
    /// Version of the operator's domain that the model imports.
    pub(crate) opset: i64,
    /// Which formal inputs are given; an absent optional one is `false`. Captures are not counted.
    pub(crate) inputs: Vec<bool>,
    /// Which outputs are wanted.
    pub(crate) outputs: Vec<bool>,
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty, $what:literal) => {
        $(#[$doc])*
        pub(crate) fn $name(&self, name: &str) -> Result<Option<$type>, OpError> {
            match self.take(name) {
                None => Ok(None),
                Some(Attribute::$variant(value)) => Ok(Some(value.clone())),
                // Exporters write an empty list with whatever list type they like.
                Some(_) => Err(OpError::attribute(name, concat!("is not ", $what))),
            }
        }
    };
}

impl NodeSpec {
    fn take(&self, name: &str) -> Option<&Attribute> {
        let (_, value, read) = self.attributes.iter().find(|(n, _, _)| &**n == name)?;
        read.set(true);
        Some(value)
    }

    getter!(/// An integer, when given.
        int, Int, i64, "an integer");
    getter!(/// A float, when given.
        float, Float, f32, "a float");
    getter!(/// A string, when given.
        string, String, Arc<str>, "a string");
    getter!(/// A tensor, when given.
        tensor, Tensor, Tensor, "a tensor");
    getter!(/// A list of integers, when given.
        ints, Ints, Vec<i64>, "a list of integers");
    getter!(/// A list of floats, when given.
        floats, Floats, Vec<f32>, "a list of floats");
    getter!(/// A list of strings, when given.
        strings, Strings, Vec<Arc<str>>, "a list of strings");
    getter!(/// A type, when given.
        fact, Type, Fact, "a type");
    getter!(/// A graph, when given.
        body, Body, Body, "a graph");

    /// An integer, or `default`.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> Result<i64, OpError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A float, or `default`.
    pub(crate) fn float_or(&self, name: &str, default: f32) -> Result<f32, OpError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A 0/1 integer, or `default`; other values are refused.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, OpError> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(OpError::attribute(name, format!("is {other}; 0 or 1 is meant"))),
        }
    }

    /// A list of non-negative integers, when given.
    pub(crate) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, OpError> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        values
            .iter()
            .map(|&v| usize::try_from(v).map_err(|_| OpError::attribute(name, format!("holds {v}"))))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An element type given by its number, when given.
    pub(crate) fn dtype(&self, name: &str) -> Result<Option<DType>, OpError> {
        let Some(code) = self.int(name)? else { return Ok(None) };
        crate::onnx::dtype_of_code(code)
            .map(Some)
            .ok_or_else(|| OpError::attribute(name, format!("is {code}, which is no element type")))
    }

    /// Whether the attribute is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(n, _, _)| &**n == name)
    }

    /// Whether input `index` is given.
    pub(crate) fn has_input(&self, index: usize) -> bool {
        self.inputs.get(index).copied().unwrap_or(false)
    }

    /// Whether output `index` is wanted.
    pub(crate) fn has_output(&self, index: usize) -> bool {
        self.outputs.get(index).copied().unwrap_or(false)
    }

    /// The first attribute that nobody has read.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.attributes.iter().find(|(_, _, read)| !read.get()).map(|(n, _, _)| &**n)
    }
}

/// A list of integers that older versions of an operator take as an attribute and newer ones as an input.
#[derive(Clone, Debug)]
pub(crate) enum IntList {
    /// Not given.
    Absent,
    /// Given by the node.
    Fixed(Vec<i64>),
    /// Given by this input.
    Input(usize),
}

/// What is known of an [`IntList`] before the run.
#[derive(Clone, Debug)]
pub(crate) enum KnownInts {
    /// It is not given.
    Absent,
    /// It is an input of unknown content, and of this length where that is known.
    Unknown(Option<usize>),
    /// Its elements.
    Known(Vec<i64>),
}

impl IntList {
    /// Attribute `name` where `is_input` is false, input `index` otherwise.
    pub(crate) fn parse(spec: &NodeSpec, name: &str, is_input: bool, index: usize) -> Result<Self, OpError> {
        Ok(match is_input {
            false => spec.ints(name)?.map_or(Self::Absent, Self::Fixed),
            true if spec.has_input(index) => Self::Input(index),
            true => Self::Absent,
        })
    }

    /// What is known of it. An input must be a list of `int32` or `int64`.
    pub(crate) fn known(&self, inputs: Facts<'_>) -> Result<KnownInts, OpError> {
        let index = match self {
            Self::Absent => return Ok(KnownInts::Absent),
            Self::Fixed(values) => return Ok(KnownInts::Known(values.clone())),
            Self::Input(index) => *index,
        };
        let fact = inputs.typed(index, &[DType::I32, DType::I64])?;
        if fact.rank().is_some_and(|r| r > 1) {
            return Err(OpError::input(index, "is not a list"));
        }
        Ok(fact.as_i64s().map_or(KnownInts::Unknown(fact.element_count()), KnownInts::Known))
    }

    /// Its elements where the kernel is prepared, when they are given.
    pub(crate) fn prepared(&self, inputs: Facts<'_>) -> Result<Option<Vec<i64>>, OpError> {
        match self.known(inputs)? {
            KnownInts::Absent => Ok(None),
            KnownInts::Known(values) => Ok(Some(values)),
            KnownInts::Unknown(_) => Err(OpError::unsupported("a list parameter of so many elements")),
        }
    }

    /// Its elements in the reference execution, when they are given.
    pub(crate) fn reference(&self, inputs: &RefInputs<'_>) -> Result<Option<Vec<i64>>, OpError> {
        match self {
            Self::Absent => Ok(None),
            Self::Fixed(values) => Ok(Some(values.clone())),
            Self::Input(index) => inputs.tensor(*index)?.to_i64s().map(Some),
        }
    }
}
