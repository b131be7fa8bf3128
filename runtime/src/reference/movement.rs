//! Data movement that several operators' references share.

use super::tensor::{RefData, RefTensor, wrap};
use crate::error::OpError;

/// `parts` one behind the other along `axis`.
pub(crate) fn joined(parts: &[&RefTensor], axis: i64) -> Result<RefTensor, OpError> {
    let first = *parts.first().ok_or_else(|| OpError::value("nothing to concatenate"))?;
    let axis = if axis < 0 { axis + first.shape.len() as i64 } else { axis } as usize;
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
    let n: usize = shape.iter().product();
    // Which part each element comes from, and from where in it.
    let sources: Vec<(usize, usize)> = (0..n)
        .map(|flat| {
            let mut index = RefTensor::unravel(&shape, flat);
            let mut part = 0;
            while index[axis] >= parts[part].shape[axis] {
                index[axis] -= parts[part].shape[axis];
                part += 1;
            }
            (part, RefTensor::ravel(&parts[part].shape, &index))
        })
        .collect();
    fn pick<'a, T: Clone + 'a>(
        parts: &[&'a RefTensor],
        sources: &[(usize, usize)],
        of: impl Fn(&'a RefData) -> Option<&'a Vec<T>>,
    ) -> Option<Vec<T>> {
        let lists: Option<Vec<&Vec<T>>> = parts.iter().map(|p| of(&p.data)).collect();
        let lists = lists?;
        Some(sources.iter().map(|&(part, at)| lists[part][at].clone()).collect())
    }
    let data = match &first.data {
        RefData::Float(_) => {
            pick(parts, &sources, |d| if let RefData::Float(v) = d { Some(v) } else { None })
                .map(RefData::Float)
        }
        RefData::Int(_) => {
            pick(parts, &sources, |d| if let RefData::Int(v) = d { Some(v) } else { None }).map(RefData::Int)
        }
        RefData::Bool(_) => pick(parts, &sources, |d| if let RefData::Bool(v) = d { Some(v) } else { None })
            .map(RefData::Bool),
        RefData::Text(_) => pick(parts, &sources, |d| if let RefData::Text(v) = d { Some(v) } else { None })
            .map(RefData::Text),
    };
    let data = data.ok_or_else(|| OpError::internal("parts of different types"))?;
    Ok(RefTensor { dtype: first.dtype, shape, data })
}

/// `data` with update `i` written to, or combined with, element `places[i]`, one after the other; `how` is
/// `none`, `add`, `mul`, `max` or `min`.
pub(crate) fn scattered(
    data: &RefTensor,
    updates: &RefTensor,
    places: &[usize],
    how: &str,
) -> Result<RefTensor, OpError> {
    fn apply<T: Clone>(to: &mut [T], updates: &[T], places: &[usize], meet: impl Fn(&T, &T) -> T) {
        for (&at, update) in places.iter().zip(updates) {
            to[at] = meet(&to[at], update);
        }
    }
    let mut out = data.clone();
    match (&mut out.data, &updates.data) {
        (RefData::Float(to), RefData::Float(u)) => apply(to, u, places, |&a, &b| match how {
            "add" => a + b,
            "mul" => a * b,
            "max" | "min" if a.is_nan() || b.is_nan() => f64::NAN,
            "max" => a.max(b),
            "min" => a.min(b),
            _ => b,
        }),
        (RefData::Int(to), RefData::Int(u)) => apply(to, u, places, |&a, &b| match how {
            "add" => wrap(data.dtype, a + b),
            "mul" => wrap(data.dtype, a.wrapping_mul(b)),
            "max" => a.max(b),
            "min" => a.min(b),
            _ => b,
        }),
        (RefData::Bool(to), RefData::Bool(u)) => apply(to, u, places, |&a, &b| match how {
            "add" | "max" => a || b,
            "mul" | "min" => a && b,
            _ => b,
        }),
        (RefData::Text(to), RefData::Text(u)) => apply(to, u, places, |_, b| b.clone()),
        _ => return Err(OpError::internal("updates of another type")),
    }
    Ok(out)
}
