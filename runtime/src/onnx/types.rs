//! Declared types of values.

use super::element_type::dtype_of_code;
use super::proto::{TypeProto, ValueInfoProto};
use crate::error::Error;
use crate::graph::{Dim, Fact, TensorFact};

/// The fact that a declaration states, or `None` where it states no type.
pub(super) fn declared_fact(info: &ValueInfoProto) -> Result<Option<Fact>, Error> {
    info.r#type.as_ref().map_or(Ok(None), |t| fact(t, &info.name))
}

/// The fact of a type; extents without a name are named after `name` and their axis.
pub(super) fn fact(proto: &TypeProto, name: &str) -> Result<Option<Fact>, Error> {
    let refuse = |what: String| Error::model(format!("the type of `{name}` {what}"));
    if let Some(tensor) = &proto.tensor_type {
        if tensor.elem_type == 0 {
            return Ok(None);
        }
        let dtype = dtype_of_code(tensor.elem_type.into())
            .ok_or_else(|| refuse(format!("has element type {}, which is not known", tensor.elem_type)))?;
        let shape = tensor.shape.as_ref().map(|shape| {
            let dim = |(axis, d): (usize, &super::proto::DimensionProto)| {
                if let Some(n) = d.dim_value.and_then(|v| usize::try_from(v).ok()) {
                    return Dim::Known(n);
                }
                match d.dim_param.as_deref().map(str::trim) {
                    Some(symbol) if !symbol.is_empty() => Dim::symbol(symbol),
                    _ => Dim::symbol(&format!("{name}.{axis}")),
                }
            };
            shape.dim.iter().enumerate().map(dim).collect()
        });
        return Ok(Some(TensorFact { shape, ..TensorFact::unranked(dtype) }.into()));
    }
    let element = |e: &super::proto::ElementTypeProto| match &e.elem_type {
        Some(t) => fact(t, name),
        None => Ok(None),
    };
    if let Some(sequence) = &proto.sequence_type {
        return Ok(element(sequence)?.map(|f| Fact::Sequence(Box::new(f))));
    }
    if let Some(optional) = &proto.optional_type {
        return Ok(element(optional)?.map(|f| Fact::Optional(Box::new(f))));
    }
    if proto.map_type.is_some() || proto.opaque_type.is_some() || proto.sparse_tensor_type.is_some() {
        return Err(refuse("is a map, an opaque or a sparse type, which no operator here takes".into()));
    }
    Ok(None)
}
