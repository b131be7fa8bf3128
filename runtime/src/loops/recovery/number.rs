//! What the body of a `Loop` computes of the number of its iteration: `number · stride + offset`.

use crate::dtype::DType;
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, ValueId};
use std::collections::HashMap;

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Affine {
    pub(super) stride: i64,
    pub(super) offset: i64,
    /// Axes, all of extent 1.
    pub(super) axes: usize,
}

impl Affine {
    /// The number itself.
    pub(super) const NUMBER: Self = Self { stride: 1, offset: 0, axes: 0 };

    /// What the node's output is.
    pub(super) fn of_node(body: &Graph, node: &Node, known: &HashMap<ValueId, Self>) -> Option<Self> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let number = |id: ValueId| {
            let t = body.constant(id).filter(|t| t.len() == 1)?;
            Some((*t.view().to_i64s().ok()?.first()?, t.shape().len()))
        };
        match node.def.name {
            "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" => known.get(&input(0)?)?.reshaped(body, node),
            "Add" | "Sub" => {
                let (a, b) = (input(0)?, input(1)?);
                let subtract = node.def.name == "Sub";
                if let (Some(x), Some((n, axes))) = (known.get(&a), number(b)) {
                    let offset = if subtract { x.offset.checked_sub(n)? } else { x.offset.checked_add(n)? };
                    return Some(Self { offset, axes: x.axes.max(axes), ..*x });
                }
                let ((n, axes), x) = (number(a)?, known.get(&b)?);
                let (stride, offset) = if subtract {
                    (x.stride.checked_neg()?, n.checked_sub(x.offset)?)
                } else {
                    (x.stride, x.offset.checked_add(n)?)
                };
                Some(Self { stride, offset, axes: x.axes.max(axes) })
            }
            _ => None,
        }
    }

    /// The same with the axes that `node` gives it.
    fn reshaped(self, body: &Graph, node: &Node) -> Option<Self> {
        let own: Fact = TensorFact::known(DType::I64, &vec![1; self.axes]).into();
        let constants: Vec<Option<Fact>> = node
            .inputs
            .iter()
            .map(|id| id.and_then(|id| body.constant(id)).map(|t| TensorFact::constant(t.clone()).into()))
            .collect();
        let rest = constants.iter().skip(1).map(Option::as_ref);
        let given: Vec<Option<&Fact>> = [Some(&own)].into_iter().chain(rest).collect();
        let made = node.op.infer(Facts(&given)).ok()?;
        let shape = made.first()?.tensor()?.known_shape()?;
        shape.iter().all(|&d| d == 1).then_some(Self { axes: shape.len(), ..self })
    }

    /// Whether it counts the `extent` slices of an axis from the last to the first, where it counts all of them.
    pub(super) fn runs_backwards(self, extent: &Dim) -> Option<bool> {
        match (self.stride, self.offset) {
            (1, 0) => Some(false),
            // Counted from the end.
            (-1, -1) => Some(true),
            (-1, offset) if extent.known().is_some_and(|n| offset == n as i64 - 1) => Some(true),
            _ => None,
        }
    }
}
