//! Who reads the results of sibling products of several rows, and whether they can as parts of one result.
//!
//! A part is some columns of every row. It is read without a copy by
//! - a product that reads its operand through strides, behind layouts that nothing else reads: a head of an attention;
//! - maps, which go through rows in any case, when the parts of all siblings meet in one of them. Maps of one sibling
//!   alone are the epilogue of its product, which it would lose.

use super::affine::Affine;
use super::candidate::candidate;
use super::nest::Nest;
use super::strided::StridedOperand;
use crate::graph::fact::Fact;
use crate::graph::{Graph, ValueId};
use std::collections::HashSet;

/// Nodes behind a product that are looked at.
const NEAR: usize = 16;

/// The readers of every value.
#[derive(Debug)]
pub(super) struct Readers<'a> {
    facts: &'a [Option<Fact>],
    nodes: Vec<Vec<usize>>,
    kept: Vec<bool>,
}

impl<'a> Readers<'a> {
    pub(super) fn of(graph: &Graph, facts: &'a [Option<Fact>]) -> Self {
        let mut nodes = vec![Vec::new(); graph.values.len()];
        for (at, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().flatten().for_each(|id| nodes[id.index()].push(at));
        }
        let mut kept = vec![false; graph.values.len()];
        graph.outputs.iter().for_each(|id| kept[id.index()] = true);
        Self { facts, nodes, kept }
    }

    /// The one node that reads `value`, which is no output.
    pub(super) fn only(&self, value: ValueId) -> Option<usize> {
        match self.nodes[value.index()][..] {
            [reader] if !self.kept[value.index()] => Some(reader),
            _ => None,
        }
    }

    /// Whether the readers of `made`, results of siblings, read parts of one result as well.
    pub(super) fn take_parts(&self, graph: &Graph, made: &[ValueId]) -> bool {
        let strided = |value: &ValueId| {
            let rank = self.facts[value.index()].as_ref().and_then(|f| f.tensor()?.rank());
            let here = rank.map(|rank| (0..rank).map(Affine::axis).collect::<Vec<_>>());
            here.is_some_and(|here| self.reads_strided(graph, *value, &here, NEAR))
        };
        made.iter().all(strided) || self.meet(graph, made)
    }

    /// Whether all that read `value`, whose element lies in a part at `index`, are products through strides.
    fn reads_strided(&self, graph: &Graph, value: ValueId, index: &[Affine], near: usize) -> bool {
        let readers = &self.nodes[value.index()];
        let rank = self.facts[value.index()].as_ref().and_then(|f| f.tensor()?.rank());
        let Some(rank) = rank.filter(|_| near > 0 && !readers.is_empty() && !self.kept[value.index()]) else {
            return false;
        };
        readers.iter().all(|&reader| {
            let node = &graph.nodes[reader];
            let places = node.inputs.iter().enumerate().filter(|(_, id)| **id == Some(value));
            let seen = candidate(node, self.facts);
            if seen.rows.is_some() {
                let operand = StridedOperand { value: value.index(), index: index.to_vec() };
                return operand.is_readable(rank) && places.map(|p| p.0).all(|at| at < seen.strided);
            }
            let layout =
                seen.nest.as_ref().ok().filter(|nest| nest.is_layout()).map(|nest| nest.reads.as_slice());
            let (Some([read]), Some(Some(made))) = (layout, node.outputs.first()) else { return false };
            let point: Vec<Option<Affine>> = read.index.iter().cloned().map(Some).collect();
            let behind: Option<Vec<Affine>> = index.iter().map(|a| a.compose(&point)).collect();
            self.only(*made).is_some()
                && behind.is_some_and(|behind| self.reads_strided(graph, *made, &behind, near - 1))
        })
    }

    /// Whether maps alone read `made`, and one of those behind is of all.
    fn meet(&self, graph: &Graph, made: &[ValueId]) -> bool {
        let mut common: Option<HashSet<usize>> = None;
        for value in made {
            if self.kept[value.index()] || self.nodes[value.index()].is_empty() {
                return false;
            }
            let mut behind = HashSet::new();
            let mut pending = vec![*value];
            while let Some(next) = pending.pop() {
                for &reader in &self.nodes[next.index()] {
                    let node = &graph.nodes[reader];
                    let is_map = |nest: &Nest| nest.as_map().is_some() && !nest.is_layout();
                    let map = candidate(node, self.facts).nest.as_ref().is_ok_and(is_map);
                    if !map && next == *value {
                        return false;
                    }
                    if map && behind.len() < NEAR && behind.insert(reader) {
                        pending.extend(node.outputs.iter().flatten());
                    }
                }
            }
            common = Some(match common {
                Some(common) => common.intersection(&behind).copied().collect(),
                None => behind,
            });
        }
        common.is_some_and(|common| !common.is_empty())
    }
}
