//! The graph's data: values, constants and nodes.

use super::fact::Fact;
use crate::error::{Error, GRAPH, OUTPUT, OpError, place};
use crate::ops::{Op, OpName};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

/// A value's place in [`Graph::values`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ValueId(u32);

impl ValueId {
    /// Index into [`Graph::values`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value: what flows along edges.
#[derive(Clone, Debug)]
pub(crate) struct ValueInfo {
    /// Name in the model.
    pub(crate) name: Arc<str>,
    /// What the model declares about it: always there for inputs, often for outputs.
    pub(crate) declared: Option<Fact>,
    /// The content, for an initializer or a folded value.
    pub(crate) constant: Option<Tensor>,
}

/// One operator with its edges.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Name in the model, or one made from its first output.
    pub(crate) name: Arc<str>,
    /// Its operator's name.
    pub(crate) def: OpName,
    /// The parsed operator.
    pub(crate) op: Arc<dyn Op>,
    /// Inputs: the formal ones, then the captures of its bodies in their order.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` where nobody wants it.
    pub(crate) outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// What it shares with nodes whose operators pack the same constants alike.
    pub(crate) fn packing(&self) -> usize {
        let own = || Arc::as_ptr(&self.op).cast::<()>();
        self.op.recurrence().map_or_else(own, |recurrence| Arc::as_ptr(&recurrence.packing)) as usize
    }
}

/// A graph. Nodes stand in topological order: inputs are graph inputs, constants, or outputs of earlier
/// nodes. Each value has at most one writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// Name in the model.
    pub(crate) name: Arc<str>,
    /// All values.
    pub(crate) values: Vec<ValueInfo>,
    /// Inputs in order.
    pub(crate) inputs: Vec<ValueId>,
    /// Outputs in order.
    pub(crate) outputs: Vec<ValueId>,
    /// Operators in topological order.
    pub(crate) nodes: Vec<Node>,
    /// Whether it is fused when the shapes of its inputs are known, since they decide which branches are taken:
    /// [`crate::exec::Program`] does that, and then the inputs have declared facts.
    pub(crate) waits_for_shapes: bool,
}

/// An operator's error with the node that it belongs to.
#[derive(Debug)]
pub(crate) struct NodeError {
    pub(crate) node: String,
    pub(crate) op: String,
    pub(crate) source: OpError,
}

impl NodeError {
    pub(crate) fn new(node: &Node, source: OpError) -> Self {
        Self { node: node.name.to_string(), op: node.def.full_name(), source }
    }

    /// An error about the values of a graph as a whole.
    pub(crate) fn of_graph(graph: &Graph, source: OpError) -> Self {
        Self { node: graph.name.to_string(), op: GRAPH.into(), source }
    }

    /// An error about an output.
    pub(crate) fn of_output(graph: &Graph, id: ValueId, source: OpError) -> Self {
        Self { node: graph.value(id).name.to_string(), op: OUTPUT.into(), source }
    }

    /// As the error of the operator whose body holds the node. Interruption stays what it is.
    pub(crate) fn in_body(self) -> OpError {
        match self.source {
            OpError::Deadline => OpError::Deadline,
            OpError::Cancelled => OpError::Cancelled,
            source => OpError::Body { node: self.node, op: self.op, source: Box::new(source) },
        }
    }

    /// As the error of a model that is being prepared.
    pub(crate) fn at_load(self) -> Error {
        match self.source {
            OpError::Memory { requested, limit } => {
                Error::Memory { what: place(&self.node, &self.op), requested, limit }
            }
            source => Error::Prepare { node: self.node, op: self.op, source },
        }
    }

    /// As the error of a run.
    pub(crate) fn at_run(self) -> Error {
        match self.source {
            OpError::Memory { requested, limit } => {
                Error::Memory { what: place(&self.node, &self.op), requested, limit }
            }
            source => Error::run(&self.node, &self.op, source),
        }
    }
}

impl Graph {
    /// Adds a value.
    pub(crate) fn add_value(&mut self, name: impl Into<Arc<str>>) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("fewer than 2^32 values"));
        self.values.push(ValueInfo { name: name.into(), declared: None, constant: None });
        id
    }

    /// Adds a constant.
    pub(crate) fn add_constant(&mut self, name: impl Into<Arc<str>>, tensor: Tensor) -> ValueId {
        let id = self.add_value(name);
        self.values[id.index()].constant = Some(tensor);
        id
    }

    /// The id of the value at `index` of [`Graph::values`].
    pub(crate) fn id(&self, index: usize) -> Option<ValueId> {
        u32::try_from(index).ok().filter(|_| index < self.values.len()).map(ValueId)
    }

    /// The value with `id`.
    pub(crate) fn value(&self, id: ValueId) -> &ValueInfo {
        &self.values[id.index()]
    }

    /// The constant content of `id`, when it has one.
    pub(crate) fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.values[id.index()].constant.as_ref()
    }

    /// By node: the first that packs alike and has the same constants, whatever else it is given. What is packed of constants is the same for
    /// both: of the pieces that a rewrite makes of a node, the first packs for all.
    pub(crate) fn alike(&self) -> Vec<usize> {
        let mut first: HashMap<(usize, Vec<Option<ValueId>>), usize> = HashMap::new();
        let constants = |node: &Node| -> Vec<Option<ValueId>> {
            let mut ids: Vec<_> =
                node.inputs.iter().map(|id| id.filter(|id| self.constant(*id).is_some())).collect();
            ids.truncate(ids.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
            ids
        };
        let nodes = self.nodes.iter().enumerate();
        nodes
            .map(|(at, node)| {
                let key = (node.packing(), constants(node));
                *first.entry(key).or_insert(at)
            })
            .collect()
    }
}
