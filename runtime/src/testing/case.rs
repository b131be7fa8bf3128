//! A use of one operator: attributes and inputs.

use crate::dtype::DType;
use crate::ops::attributes::Attribute;
use crate::tensor::{Tensor, Value};

/// A random valid use of one operator.
#[derive(Clone, Debug)]
pub struct Case {
    pub(crate) opset: i64,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
    pub(crate) inputs: Vec<Option<Value>>,
    /// Inputs that the model holds as constants.
    pub(crate) constant: Vec<usize>,
    pub(crate) outputs: usize,
}

impl Case {
    /// A use of the newest version without attributes, of one output.
    pub(crate) fn new(inputs: impl IntoIterator<Item = Tensor>) -> Self {
        Self {
            opset: crate::ops::NEWEST_OPSET,
            attributes: Vec::new(),
            inputs: inputs.into_iter().map(|t| Some(t.into())).collect(),
            constant: Vec::new(),
            outputs: 1,
        }
    }

    /// Of opset `opset`.
    pub(crate) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    /// With an attribute.
    pub(crate) fn with(mut self, name: &'static str, value: Attribute) -> Self {
        self.attributes.push((name, value));
        self
    }

    /// With an integer attribute.
    pub(crate) fn int(self, name: &'static str, value: i64) -> Self {
        self.with(name, Attribute::Int(value))
    }

    /// With an attribute that names an element type.
    pub(crate) fn dtype(self, name: &'static str, value: DType) -> Self {
        const CODES: i64 = 64;
        let code = (0..CODES).find(|&code| crate::onnx::dtype_of_code(code) == Some(value));
        self.int(name, code.unwrap_or_default())
    }

    /// With a list-of-integers attribute.
    pub(crate) fn ints(self, name: &'static str, value: &[i64]) -> Self {
        self.with(name, Attribute::Ints(value.to_vec()))
    }

    /// With a float attribute.
    pub(crate) fn float(self, name: &'static str, value: f32) -> Self {
        self.with(name, Attribute::Float(value))
    }

    /// With a string attribute.
    pub(crate) fn string(self, name: &'static str, value: &str) -> Self {
        self.with(name, Attribute::String(value.into()))
    }

    /// With another input.
    pub(crate) fn input(mut self, tensor: Tensor) -> Self {
        self.inputs.push(Some(tensor.into()));
        self
    }

    /// With another input, or an absent one.
    pub(crate) fn optional(mut self, tensor: Option<Tensor>) -> Self {
        self.inputs.push(tensor.map(Into::into));
        self
    }

    /// Input `index` is a constant of the model.
    pub(crate) fn constant(mut self, index: usize) -> Self {
        self.constant.push(index);
        self
    }

    /// With `count` outputs.
    pub(crate) fn outputs(mut self, count: usize) -> Self {
        self.outputs = count;
        self
    }
}
