//! Values drawn by a seed, and inputs drawn for models of unknown intent.

use crate::wire::{Message, floats};
use recurve::model::Fact;
use recurve::testing::Gen;
use recurve::{DType, Session, Tensor};

/// A model that asks for more elements in one input than this gets none.
const MOST_ELEMENTS: usize = 1 << 16;

/// `count` values from −`scale` to `scale` that `seed` determines.
pub fn drawn(seed: u64, count: usize, scale: f64) -> Vec<f32> {
    let mut random = Gen::new(seed);
    (0..count).map(|_| random.float(-scale, scale) as f32).collect()
}

/// The constant `name` of `shape`, of values from −`scale` to `scale` that `seed` determines.
pub fn constant(name: &str, shape: &[i64], seed: u64, scale: f64) -> Message {
    floats(name, shape, &drawn(seed, shape.iter().product::<i64>() as usize, scale))
}

/// Random inputs of small extents, or `None` where they would be large or are no tensors of bytes.
pub fn small_inputs(session: &Session, seed: u64) -> Option<Vec<Tensor>> {
    let mut random = Gen::new(seed);
    let extent_of = |symbol: &str| 1 + symbol.bytes().map(usize::from).sum::<usize>() % 3;
    let mut tensors = Vec::new();
    for spec in session.inputs() {
        let Fact::Tensor(fact) = &spec.fact else { return None };
        let shape: Vec<usize> = match &fact.shape {
            Some(dims) => dims
                .iter()
                .map(|dim| dim.known().or_else(|| dim.as_symbol().map(extent_of)).unwrap_or(2))
                .collect(),
            None => vec![2, 2],
        };
        let count =
            shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST_ELEMENTS)?;
        if fact.dtype == DType::String {
            tensors.push(Tensor::strings(&shape, vec!["text".into(); count]).ok()?);
            continue;
        }
        tensors.push(match random.size(0, 3) {
            0 => random.any_tensor(fact.dtype, &shape),
            _ => random.tensor(fact.dtype, &shape),
        });
        let made = tensors.last().is_some_and(|t| t.dtype() == fact.dtype && *t.shape() == *shape);
        if !made {
            return None;
        }
    }
    Some(tensors)
}
