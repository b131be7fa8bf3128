//! Gates one above the other: a row of features reshaped to `[.., gates, hidden]`, and what is taken from that.

use super::symbolic::{Known, Piece, Symbolic, batch_of, feature_axis};
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, TensorFact, ValueId};

impl Symbolic {
    /// Whether a value has the states' batch and `count` gates along the axis before the features.
    fn fits_stacked(&self, fact: Option<&Fact>, count: usize) -> bool {
        let unstacked = |f: &TensorFact| {
            let mut shape = f.shape.clone()?;
            let at = feature_axis(shape.len(), self.columns)?.checked_sub(1)?;
            (shape.remove(at) == Dim::Known(count)).then(|| TensorFact::new(f.dtype, shape))
        };
        let row = fact.and_then(Fact::tensor).and_then(unstacked);
        let form = row.and_then(|row| batch_of(&row, self.columns));
        form.is_some_and(|(batch, width)| batch == self.batch && width == self.hidden)
    }

    /// A row as its gates one above the other, or some of those.
    pub(super) fn stacked(
        &mut self,
        facts: &[Option<Fact>],
        node: &crate::graph::Node,
        output: usize,
        known: &[Option<Known>],
    ) -> Option<Known> {
        let made = facts[node.outputs.get(output).copied().flatten()?.index()].as_ref();
        let from = node.inputs.first().copied().flatten()?;
        let stacked = match known[from.index()].as_ref()? {
            Known::Row(row) if node.op.alias_of() == Some(0) => self.blocks(row)?,
            Known::Stacked(gates) if node.op.alias_of() == Some(0) => gates.clone(),
            Known::Stacked(_) => return self.cut_stacked(facts, node, output, known),
            _ => return None,
        };
        self.fits_stacked(made, stacked.len()).then_some(Known::Stacked(stacked))
    }

    /// Some of the gates that lie one above the other.
    pub(super) fn cut_stacked(
        &self,
        facts: &[Option<Fact>],
        node: &crate::graph::Node,
        output: usize,
        known: &[Option<Known>],
    ) -> Option<Known> {
        let from = node.inputs.first().copied().flatten()?;
        let Some(Known::Stacked(gates)) = &known[from.index()] else { return None };
        let fact = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].as_ref());
        let given: Vec<Option<&Fact>> = node.inputs.iter().map(fact).collect();
        let rank = given.first().copied().flatten()?.tensor()?.rank()?;
        if !self.fits_stacked(given[0], gates.len()) {
            return None;
        }
        let made: Option<Vec<Fact>> = node.outputs[..=output].iter().map(|id| fact(id).cloned()).collect();
        let selection = node.op.selection(Facts(&given), &made?, output)?;
        if selection.step != 1 || Some(selection.axis) != feature_axis(rank, self.columns)?.checked_sub(1) {
            return None;
        }
        let part = gates.get(selection.start..selection.start.checked_add(selection.count)?)?.to_vec();
        Some(if selection.drops_axis { Known::Row(part) } else { Known::Stacked(part) })
    }

    /// The expressions of a row's gates, each known by its place.
    pub(super) fn blocks(&mut self, row: &[Piece]) -> Option<Vec<Piece>> {
        Some(self.expressions(row)?.into_iter().map(|p| Piece::Of(self.polys.id(p))).collect())
    }
}
