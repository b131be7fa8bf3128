//! How the values of a step lie in tensors, and how gates are cut out of them.

use super::net::Net;
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;

/// Form of states and of a step's input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lies {
    /// `[batch, features]`.
    Rows,
    /// `[features]`, of a batch of one.
    Vector,
    /// `[1, batch, features]`.
    Cube,
    /// `[features, batch]`, with matrices on the left.
    Columns,
}

impl Lies {
    pub(super) fn shape(self, batch: usize, width: usize) -> Vec<usize> {
        match self {
            Self::Rows => vec![batch, width],
            Self::Vector => vec![width],
            Self::Cube => vec![1, batch, width],
            Self::Columns => vec![width, batch],
        }
    }

    /// Shape of what every element of the batch has in common.
    pub(super) fn shared(self, width: usize) -> Vec<usize> {
        if self == Self::Columns { vec![width, 1] } else { vec![width] }
    }

    /// The axis of features, from the end.
    pub(super) fn axis(self) -> i64 {
        if self == Self::Columns { -2 } else { -1 }
    }

    /// `rows`, `[batch, width]`, in the order of this form.
    pub(super) fn laid(self, width: usize, rows: &[f64]) -> Vec<f64> {
        if self != Self::Columns {
            return rows.to_vec();
        }
        let batch = rows.len() / width;
        (0..rows.len()).map(|i| rows[i % batch * width + i / batch]).collect()
    }

    pub(super) fn tensor(self, batch: usize, width: usize, rows: &[f64]) -> Tensor {
        let values = self.laid(width, rows).into_iter().map(|v| v as f32).collect();
        Tensor::new(&self.shape(batch, width), values).expect("as many values as the shape has")
    }
}

/// How gates are cut out of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cuts {
    Split,
    Slice,
    /// `Gather` of a list of columns.
    Gather,
    /// Reshaped to `[batch, gates, hidden]`, then `Gather` by a number.
    Stacked,
}

impl Cuts {
    /// `x`, of values that lie as `lies`, in `count` gates.
    pub(super) fn of(
        self,
        net: &mut Net,
        x: ValueId,
        count: usize,
        hidden: usize,
        lies: Lies,
    ) -> Vec<ValueId> {
        let axis = lies.axis();
        let along = |axis: i64| vec![("axis", Attribute::Int(axis))];
        match self {
            _ if count == 1 => vec![x],
            Self::Split => {
                let mut parts = along(axis);
                parts.push(("num_outputs", Attribute::Int(count as i64)));
                net.with("Split", parts, &[x], count)
            }
            Self::Slice => (0..count)
                .map(|g| {
                    let bounds = [(g * hidden) as i64, ((g + 1) * hidden) as i64, axis];
                    let mut inputs = vec![x];
                    inputs.extend(bounds.map(|b| net.integers(&[b])));
                    net.op("Slice", &inputs)
                })
                .collect(),
            Self::Gather => (0..count as i64)
                .map(|g| {
                    let columns: Vec<i64> = (g * hidden as i64..(g + 1) * hidden as i64).collect();
                    let columns = net.integers(&columns);
                    net.with("Gather", along(axis), &[x, columns], 1)[0]
                })
                .collect(),
            Self::Stacked => {
                let (gates, hidden) = (count as i64, hidden as i64);
                let (shape, at): (&[i64], i64) = match lies {
                    Lies::Rows => (&[0, gates, hidden], 1),
                    Lies::Vector => (&[gates, hidden], 0),
                    Lies::Cube => (&[0, 0, gates, hidden], 2),
                    Lies::Columns => (&[gates, hidden, -1], 0),
                };
                let shape = net.integers(shape);
                let stacked = net.op("Reshape", &[x, shape]);
                (0..gates)
                    .map(|g| {
                        let g = net.constant(Tensor::scalar(g));
                        net.with("Gather", along(at), &[stacked, g], 1)[0]
                    })
                    .collect()
            }
        }
    }
}
