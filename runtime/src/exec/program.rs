//! A program: a graph with its constants ready and packed, and its bindings to shapes, of which the latest
//! used are kept.

use super::bind::Bound;
use super::settle::{Settled, Settling};
use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Graph, Node, NodeError, ValueId};
use crate::memory::{Budget, Buffer};
use crate::ops::{PackSite, Packed};
use crate::precision::{Precision, Storing};
use crate::tensor::{Shape, Tensor, ValueRef};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bindings kept per program.
const BINDINGS: usize = 8;

/// What building a program needs.
#[derive(Clone, Copy)]
pub(crate) struct BuildContext<'a> {
    /// Budget for constants and packed weights.
    pub(crate) budget: &'a Budget,
    /// Threads that kernels may use.
    pub(crate) threads: usize,
    /// See [`PackSite::release`].
    pub(crate) release: &'a dyn Fn(&[u8]),
    /// See [`PackSite::storing`].
    pub(crate) storing: &'a Storing,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) graph: Graph,
    /// What each node packed.
    pub(super) packed: Vec<Option<Packed>>,
    pub(super) threads: usize,
    /// The format that weights are stored in.
    pub(super) precision: Precision,
    budget: Budget,
    bindings: Mutex<Vec<(Vec<Fact>, Arc<Bound>)>>,
    /// What the graph became for shapes, where it waits for them; it has packed nothing then.
    settled: Option<Settled>,
    /// See [`Program::graph_hash`].
    hash: OnceLock<String>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?})", self.consumed)
    }
}

/// What packs to the same: the operator, as [`Node::packing`] has it, and the forms of its constants with where they lie. An input that
/// is not constant is like one that is absent, as a piece of a recurrence begins with a state and the whole does not.
type PackKey = (usize, Vec<Option<(usize, DType, Shape)>>);

fn pack_key(graph: &Graph, node: &Node) -> PackKey {
    let constant = |id: &Option<ValueId>| {
        let tensor = graph.constant((*id)?)?;
        Some((tensor.bytes().as_ptr() as usize, tensor.dtype(), tensor.shape().into()))
    };
    let mut constants: Vec<_> = node.inputs.iter().map(constant).collect();
    constants.truncate(constants.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
    (node.packing(), constants)
}

impl Program {
    /// Packs the constants of `graph` and aligns those that kernels read as they are.
    pub(crate) fn build(graph: Graph, context: BuildContext<'_>) -> Result<Self, NodeError> {
        Self::build_like(graph, &[], context)
    }

    /// The same, with what nodes packed that `graph` shares with these programs: rewrites of one graph have most of its
    /// operators and constants, and a node that was cut into pieces packs once for all of them.
    pub(crate) fn build_like(
        mut graph: Graph,
        donors: &[Arc<Self>],
        context: BuildContext<'_>,
    ) -> Result<Self, NodeError> {
        if graph.waits_for_shapes {
            let packed = graph.nodes.iter().map(|_| None).collect();
            return Ok(Self { settled: Some(Settled::default()), ..Self::of(graph, packed, context) });
        }
        let mut known: HashMap<PackKey, Packed> = HashMap::new();
        for Self { graph, packed, .. } in donors.iter().map(|donor| &**donor) {
            let pairs = graph.nodes.iter().zip(packed);
            known.extend(pairs.filter_map(|(node, packed)| Some((pack_key(graph, node), packed.clone()?))));
        }
        let mut packed = Vec::with_capacity(graph.nodes.len());
        let mut read = vec![false; graph.values.len()];
        for id in &graph.outputs {
            read[id.index()] = true;
        }
        // What symbolic inference knows, so that `pack` sees dtypes and ranks of the other inputs.
        let declared: Vec<Fact> = graph
            .inputs
            .iter()
            .map(|&id| graph.value(id).declared.clone())
            .collect::<Option<_>>()
            .unwrap_or_default();
        let facts = if declared.len() == graph.inputs.len() {
            crate::graph::infer(&graph, &declared).ok()
        } else {
            None
        };
        for node in &graph.nodes {
            let constants: Vec<Option<Fact>> = node
                .inputs
                .iter()
                .map(|id| {
                    let id = (*id)?;
                    match graph.constant(id) {
                        Some(t) => Some(TensorFact::constant(t.clone()).into()),
                        None => facts.as_ref().and_then(|f| f[id.index()].clone()),
                    }
                })
                .collect();
            let given: Vec<Option<&Fact>> = constants.iter().map(Option::as_ref).collect();
            let site = PackSite {
                inputs: Facts(&given),
                budget: context.budget,
                release: context.release,
                threads: context.threads,
                storing: context.storing,
            };
            let (key, noted) = (pack_key(&graph, node), context.storing.count());
            let pack = match known.get(&key) {
                Some(pack) => Some(pack.clone()),
                None => node.op.pack(&site).map_err(|e| NodeError::new(node, e))?,
            };
            context.storing.name(noted, &node.name, &node.def.full_name());
            known.extend(pack.iter().map(|pack| (key.clone(), pack.clone())));
            for (index, id) in node.inputs.iter().enumerate() {
                let consumed = pack.as_ref().is_some_and(|p| p.consumed.contains(&index));
                if let (Some(id), false) = (id, consumed) {
                    read[id.index()] = true;
                }
            }
            packed.push(pack);
        }
        for (value, read) in graph.values.iter_mut().zip(read) {
            if let (true, Some(tensor)) = (read, &value.constant)
                && !tensor.is_aligned()
            {
                let aligned = aligned_copy(tensor, context).map_err(|source| NodeError {
                    node: value.name.to_string(),
                    op: "constant".into(),
                    source,
                })?;
                value.constant = Some(aligned);
            }
        }
        Ok(Self::of(graph, packed, context))
    }

    fn of(graph: Graph, packed: Vec<Option<Packed>>, context: BuildContext<'_>) -> Self {
        Self {
            graph,
            packed,
            threads: context.threads,
            precision: context.storing.precision,
            budget: context.budget.clone(),
            bindings: Mutex::new(Vec::new()),
            settled: None,
            hash: OnceLock::new(),
        }
    }

    /// What the node at this position packed.
    #[cfg(test)]
    pub(crate) fn packed_of(&self, node: usize) -> Option<&Packed> {
        self.packed[node].as_ref()
    }

    /// The format that weights are stored in.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The graph.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// [`crate::cost::graph_hash`] of the graph.
    pub(crate) fn graph_hash(&self) -> &str {
        self.hash.get_or_init(|| crate::cost::graph_hash(&self.graph))
    }

    /// The binding for inputs of these facts, made when it is not there.
    pub(crate) fn bind(
        &self,
        inputs: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<Arc<Bound>, NodeError> {
        let lock = || self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut bindings = lock();
            let found = bindings.iter().position(|(facts, _)| {
                let mut pairs = facts.iter().zip(inputs).enumerate();
                facts.len() == inputs.len() && pairs.all(|(i, (f, v))| self.is_fact_of(i, f, *v))
            });
            if let Some(at) = found {
                // Latest used first; the common case moves nothing.
                bindings[..=at].rotate_right(1);
                return Ok(bindings[0].1.clone());
            }
        }
        let facts: Vec<Fact> = inputs.iter().enumerate().map(|(i, v)| self.fact_of(i, *v)).collect();
        self.bind_facts(facts, context)
    }

    /// The binding for inputs of these facts, made when it is not there.
    pub(crate) fn bind_facts(
        &self,
        facts: Vec<Fact>,
        context: RunContext<'_>,
    ) -> Result<Arc<Bound>, NodeError> {
        let lock = || self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bound)) = lock().iter().find(|(of, _)| *of == facts) {
            return Ok(bound.clone());
        }
        let bound = match &self.settled {
            Some(settled) => {
                let settling = Settling { budget: &self.budget, threads: self.threads };
                let program = settled.program(&self.graph, &facts, settling, context)?;
                let mut bound = Bound::new(&program, &facts, &self.budget, context)?;
                bound.settled = Some(program);
                bound
            }
            None => Bound::new(self, &facts, &self.budget, context)?,
        };
        let bound = Arc::new(bound);
        let mut bindings = lock();
        bindings.insert(0, (facts, bound.clone()));
        bindings.truncate(BINDINGS);
        Ok(bound)
    }

    /// What is known of `value` as input `index`: an empty optional value is of the kind that the graph declares.
    fn fact_of(&self, index: usize, value: ValueRef<'_>) -> Fact {
        let declared = self.graph.inputs.get(index).and_then(|id| self.graph.value(*id).declared.as_ref());
        match (value, declared) {
            (ValueRef::Optional(None), Some(declared @ Fact::Optional(_))) => declared.clone(),
            _ => fact_of(value),
        }
    }

    /// Whether `fact` is what [`Program::fact_of`] says of `value`, found without allocating for tensors.
    fn is_fact_of(&self, index: usize, fact: &Fact, value: ValueRef<'_>) -> bool {
        match (fact, value) {
            (Fact::Tensor(f), ValueRef::Tensor(t)) => {
                f.dtype == t.dtype()
                    && f.shape.as_ref().is_some_and(|s| {
                        let mut extents = s.iter().zip(t.shape());
                        s.len() == t.shape().len() && extents.all(|(a, b)| a.known() == Some(*b))
                    })
            }
            (f, v) => *f == self.fact_of(index, v),
        }
    }

    /// Binds and runs: `outputs` has one slot per graph output.
    pub(crate) fn run(
        &self,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), NodeError> {
        let bound = self.bind(inputs, context)?;
        bound.run(self, inputs, outputs, context)
    }
}

fn aligned_copy(tensor: &Tensor, context: BuildContext<'_>) -> Result<Tensor, OpError> {
    // Copied in pieces, each let go of at once, so that the file's pages and the copy are not both resident.
    const PIECE: usize = 1 << 20;
    let source = tensor.bytes();
    let mut buffer = Buffer::zeroed(source.len(), context.budget)?;
    for (to, from) in buffer.bytes_mut().chunks_mut(PIECE).zip(source.chunks(PIECE)) {
        to.copy_from_slice(from);
        (context.release)(from);
    }
    Tensor::from_buffer(tensor.dtype(), tensor.shape(), buffer)
}

/// What is known of a value by its form alone.
pub(crate) fn fact_of(value: ValueRef<'_>) -> Fact {
    match value {
        ValueRef::Tensor(t) => TensorFact::known(t.dtype(), t.shape()).into(),
        ValueRef::Sequence(s) => {
            let mut items = s.items().iter().map(|v| fact_of(v.as_ref()));
            let empty = || TensorFact::unranked(s.dtype().unwrap_or(crate::dtype::DType::F32)).into();
            let first = items.next().unwrap_or_else(empty);
            let merged = items.try_fold(first.clone(), |a, b| crate::graph::merge(&a, &b));
            Fact::Sequence(Box::new(merged.unwrap_or(first)))
        }
        ValueRef::Optional(v) => Fact::Optional(Box::new(match v {
            Some(v) => fact_of(v.as_ref()),
            None => TensorFact::unranked(crate::dtype::DType::F32).into(),
        })),
    }
}
