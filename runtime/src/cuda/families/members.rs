//! Operators one after the other, what lies between them in the workspace: a group of fused operators for which there is
//! no kernel as a whole, a branch whose condition is known, the body of a loop.

use super::composition::{Composition, Place};
use super::copy;
use super::known::or_known;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Within};
use crate::error::OpError;
use crate::exec::known_outputs;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, TensorFact, ValueId, infer_node};
use std::ops::Range;

/// The launches of all nodes of `graph`, whose inputs and outputs are those of `site`.
pub(crate) fn kernel(site: &GpuSite<'_>, graph: &Graph) -> Result<GpuKernel, GpuReject> {
    let given: Option<Vec<Fact>> = site.inputs.0.iter().map(|fact| fact.cloned()).collect();
    Walk::new(site, graph, "", site.wanted).kernel(&given.ok_or(GpuReject::NoKernel)?)
}

/// The launches of all nodes of `graph`, whose inputs are those of `site` in `range`. `name` tells its weights from those
/// of another graph of the node.
pub(crate) fn part(
    site: &GpuSite<'_>,
    graph: &Graph,
    range: Range<usize>,
    name: &str,
) -> Result<GpuKernel, GpuReject> {
    let given = range.clone().map(|at| site.inputs.value(at).cloned());
    let given: Vec<Fact> = given.collect::<Result<_, _>>().map_err(|_| GpuReject::NoKernel)?;
    let outputs: Vec<Place> = (0..graph.outputs.len()).map(Place::Output).collect();
    let mut whole = Composition::new("");
    let kernel = Walk::new(site, graph, name, site.wanted).kernel(&given)?;
    let known = kernel.outputs().map(<[Fact]>::to_vec);
    whole.add("", kernel, range.map(Place::Input).collect(), outputs)?;
    Ok(whole.finish().with_outputs(known))
}

/// The launches of all nodes of `graph`, of whose inputs `given` is known and of whose outputs those that are `wanted` are
/// made.
pub(super) fn body(
    site: &GpuSite<'_>,
    graph: &Graph,
    given: &[Fact],
    wanted: &[bool],
) -> Result<GpuKernel, GpuReject> {
    Walk::new(site, graph, "", wanted).kernel(given)
}

/// A walk over the nodes of a graph.
struct Walk<'a> {
    site: &'a GpuSite<'a>,
    graph: &'a Graph,
    wanted: &'a [bool],
    facts: Vec<Option<Fact>>,
    places: Vec<Option<Place>>,
    composition: Composition,
}

impl<'a> Walk<'a> {
    fn new(site: &'a GpuSite<'a>, graph: &'a Graph, name: &str, wanted: &'a [bool]) -> Self {
        let constant = |t: &crate::Tensor| Fact::from(TensorFact::constant(t.clone()));
        let facts = graph.values.iter().map(|v| v.constant.as_ref().map(constant)).collect();
        let places = vec![None; graph.values.len()];
        Self { site, graph, wanted, facts, places, composition: Composition::new(name) }
    }

    fn kernel(mut self, given: &[Fact]) -> Result<GpuKernel, GpuReject> {
        let graph = self.graph;
        for (at, (id, fact)) in graph.inputs.iter().zip(given).enumerate() {
            self.facts[id.index()] = Some(fact.clone());
            self.places[id.index()] = Some(Place::Input(at));
        }
        for index in 0..graph.nodes.len() {
            self.node(index)?;
        }
        for (at, &id) in graph.outputs.iter().enumerate() {
            let to = Place::Output(at);
            if self.is_wanted(at) {
                let from = self.place(id)?;
                if from != to {
                    let fact = self.facts[id.index()].as_ref().and_then(Fact::tensor);
                    let kernel = copy::whole(self.site, fact.ok_or(GpuReject::DataDependent)?)?;
                    self.composition.add(&format!("output {at}"), kernel, vec![from], vec![to])?;
                }
            }
        }
        let outputs = graph.outputs.iter().map(|id| self.facts[id.index()].clone()).collect();
        Ok(self.composition.finish().with_outputs(outputs))
    }

    /// What becomes of an error of node `index`.
    fn failed(&self, index: usize, error: &OpError) -> GpuReject {
        let node = &self.graph.nodes[index];
        GpuReject::Member(format!("`{}` ({}): {error}", node.name, node.def.name))
    }

    fn is_wanted(&self, output: usize) -> bool {
        self.wanted.get(output).copied().unwrap_or(false)
    }

    /// Where a value lies; constants are put somewhere when they are first read.
    fn place(&mut self, id: ValueId) -> Result<Place, GpuReject> {
        let at = id.index();
        if let Some(place) = self.places[at] {
            return Ok(place);
        }
        let place = match &self.graph.values[at].constant {
            Some(tensor) => self.composition.constant(&format!("value {at}"), tensor),
            None => {
                let tensor = self.facts[at].as_ref().and_then(|f| f.tensor()?.as_constant());
                self.composition.derived(tensor.ok_or(GpuReject::NoKernel)?)
            }
        };
        self.places[at] = Some(place);
        Ok(place)
    }

    /// Whether a value is a constant that follows from what is bound, not one of the model.
    fn is_derived(&self, id: ValueId) -> bool {
        let constant = self.facts[id.index()]
            .as_ref()
            .is_some_and(|f| f.tensor().is_some_and(|t| t.as_constant().is_some()));
        constant && self.graph.constant(id).is_none() && !self.graph.inputs.contains(&id)
    }

    fn node(&mut self, index: usize) -> Result<(), GpuReject> {
        let (site, node) = (self.site, &self.graph.nodes[index]);
        let held: Vec<Option<Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| self.facts[id.index()].clone())).collect();
        let inputs: Vec<Option<&Fact>> = held.iter().map(Option::as_ref).collect();
        let outputs = infer_node(&*node.op, Facts(&inputs)).map_err(|e| self.failed(index, &e))?;
        if outputs.len() < node.outputs.len() {
            return Err(GpuReject::NoKernel);
        }
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let known = known_outputs(node, None, &inputs, &outputs, &wanted, site.context);
        let known = known.map_err(|e| self.failed(index, &e))?;
        for (slot, (id, fact)) in node.outputs.iter().zip(&outputs).enumerate() {
            let Some(id) = id else { continue };
            let constant = known.as_ref().and_then(|k| k[slot].clone());
            let fact = constant.map_or_else(|| fact.clone(), |t| TensorFact::constant(t).into());
            self.facts[id.index()] = Some(fact);
        }
        if known.is_some() {
            return Ok(());
        }
        let bytes = |fact: &Fact| fact.tensor().and_then(TensorFact::bytes).ok_or(GpuReject::DataDependent);
        if let Some(source) = node.op.alias_of()
            && let (Some(Some(from)), Some(Some(to))) = (node.inputs.get(source), node.outputs.first())
        {
            bytes(&outputs[0])?;
            self.places[to.index()] = Some(self.place(*from)?);
            return Ok(());
        }
        let given = Facts(&inputs);
        let inner = GpuSite {
            inputs: given,
            outputs: &outputs,
            wanted: &wanted,
            behind: None,
            strided: &[],
            within: if site.within == Within::Graph { Within::Body } else { site.within },
            ..*site
        };
        let kernel = or_known(&*node.op, &inner)?.named(&node.name, &node.def.full_name());
        // A branch that is known tells more than what either would give.
        let outputs = kernel.outputs().map_or_else(|| outputs.clone(), <[Fact]>::to_vec);
        for (id, fact) in node.outputs.iter().zip(&outputs) {
            let Some(id) = id else { continue };
            self.facts[id.index()] = Some(fact.clone());
            let output = self.graph.outputs.iter().position(|output| output == id);
            self.places[id.index()] = Some(match output.filter(|&at| self.is_wanted(at)) {
                Some(at) => Place::Output(at),
                None => self.composition.between(bytes(fact)?)?,
            });
        }
        let is_derived = node.inputs.iter().flatten().any(|id| self.is_derived(*id));
        let kernel = if is_derived { kernel.of_this_binding() } else { kernel };
        let mut places = |ids: &[Option<ValueId>]| {
            let place = |id: &Option<ValueId>| id.map_or(Ok(Place::Nowhere), |id| self.place(id));
            ids.iter().map(place).collect::<Result<Vec<_>, _>>()
        };
        let (from, to) = (places(&node.inputs)?, places(&node.outputs)?);
        self.composition.add(&index.to_string(), kernel, from, to)
    }
}
