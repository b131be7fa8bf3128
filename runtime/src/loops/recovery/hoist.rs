//! Products of a Scan's input with weights are made for all steps at once, before the Scan.
//!
//! A product `x_t · W` in the body becomes `X · W` outside, and its result a sequence of the Scan. It holds where `x_t`
//! is an element of a sequence, or what was hoisted itself; where `W` is a constant matrix; and where the axis of time
//! is not that of the features, so that the product of the whole sequence is that of its elements. Biases and
//! elementwise functions of a hoisted product go with it where nothing else reads it: they take its place in memory
//! and become its epilogue. Functions of the elements alone stay, unless a product is all that reads them: hoisted, they
//! would be stored and read again, while in the step they are made in cache. Nothing is hoisted out of a single step, nor where the result is larger than
//! [`MOST_BYTES`].
//!
//! What the sums are made of does not change, but where a product takes an element beside what the step makes and is
//! [divided] first. The Scan of opset 8 is left alone.
//!
//! [divided]: super::divided

use super::build::{node as new_node, one};
use super::divided;
use super::is_elementwise;
use super::order::sort_nodes;
use crate::graph::fact::{Facts, normal_axis};
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, ValueId, known_facts};
use crate::memory::Budget;
use crate::ops::Scan;
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// Bytes of what is made for all steps, where they are known.
const MOST_BYTES: usize = 1 << 28;

/// Hoists what can be out of every Scan.
pub(super) fn hoist(graph: &mut Graph, budget: &Budget) -> bool {
    let is_scan = |n: &Node| n.op.as_any().is::<Scan>();
    if !graph.nodes.iter().any(is_scan) {
        return false;
    }
    let facts = known_facts(graph);
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        if !is_scan(&graph.nodes[at]) {
            continue;
        }
        let node = graph.nodes[at].clone();
        let mut made = Vec::new();
        if let Some(scan) = hoisted(graph, &facts, &node, What::Products(budget), &mut made) {
            graph.nodes[at] = scan;
            graph.nodes.append(&mut made);
            changed = true;
        }
    }
    changed && sort_nodes(graph)
}

/// A value of the body for all steps: a tensor outside with the axis of time.
#[derive(Clone)]
struct Whole {
    id: ValueId,
    form: TensorFact,
    axis: usize,
    reversed: bool,
    /// Whether it comes from a hoisted product.
    of_product: bool,
}

impl Whole {
    fn extents(&self) -> &[Dim] {
        self.form.shape.as_deref().unwrap_or_default()
    }

    /// Axes and last extent of an element whose products of `columns` columns can be made for all steps.
    fn element(&self, columns: usize) -> Option<(usize, usize)> {
        let rank = self.extents().len().checked_sub(1)?;
        let width = self.extents()[rank].known()?;
        (self.axis < rank && self.product_of(columns).small()).then_some((rank, width))
    }

    /// The product of it with a matrix of `columns` columns, whose value is yet to be made.
    fn product_of(&self, columns: usize) -> Self {
        let mut shape = self.extents().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = Dim::Known(columns);
        }
        Self { form: TensorFact::new(self.form.dtype, shape), of_product: true, ..self.clone() }
    }

    fn small(&self) -> bool {
        self.form.bytes().is_none_or(|bytes| bytes <= MOST_BYTES)
    }
}

/// What is made before the Scan.
#[derive(Clone, Copy, Debug)]
enum What<'b> {
    /// Products, whose weights may be divided, and functions that they read or that read nothing else.
    Products(&'b Budget),
    /// Functions of elements alone.
    Functions,
}

/// The Scan `node` without the functions of its elements, which `made` makes for all steps: a cell whose input is
/// quantised first, say, is a cell of the quantised input.
pub(super) fn without_functions(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    node: &Node,
    made: &mut Vec<Node>,
) -> Option<Node> {
    hoisted(graph, facts, node, What::Functions, made)
}

fn hoisted(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    node: &Node,
    what: What<'_>,
    made: &mut Vec<Node>,
) -> Option<Node> {
    let scan = node.op.as_any().downcast_ref::<Scan>().filter(|s| !s.batched)?;
    let (states, formal) = (scan.states(), scan.body.formal_inputs);
    let mut body = scan.body.graph.clone();
    let mut whole: HashMap<ValueId, Whole> = HashMap::new();
    for i in states..formal {
        let id = node.inputs[i]?;
        let form = facts.get(id.index())?.as_ref()?.tensor()?;
        let shape = form.shape.clone()?;
        let axis = normal_axis(scan.input_axes[i - states], shape.len()).ok()?;
        if shape[axis] == Dim::Known(1) {
            return None;
        }
        let (form, reversed) = (TensorFact::new(form.dtype, shape), scan.input_reversed[i - states]);
        whole.insert(body.inputs[i], Whole { id, form, axis, reversed, of_product: false });
    }
    if let What::Products(budget) = what {
        let element = |id, columns| whole.get(&id).and_then(|w: &Whole| w.element(columns));
        divided::divide(&mut body, element, budget);
    }
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let read = body.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&body.outputs);
    read.for_each(|id| *readers.entry(*id).or_default() += 1);

    let wanted = match what {
        What::Products(_) => read_by_products(&body, &readers),
        What::Functions => body.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect(),
    };

    let mut gone: HashSet<ValueId> = HashSet::new();
    let mut kept: Vec<Node> = Vec::new();
    for inner in std::mem::take(&mut body.nodes) {
        let outside = match inner.outputs[..] {
            [Some(output)] => matches!(what, What::Products(_))
                .then(|| product(graph, &body, &inner, &whole, made))
                .flatten()
                .or_else(|| {
                    let alone = wanted.contains(&output);
                    function(graph, &body, &inner, &whole, (&readers, alone), made)
                })
                .map(|value| (output, value)),
            _ => None,
        };
        match outside {
            Some((output, value)) => {
                whole.insert(output, value);
                gone.insert(output);
            }
            None => kept.push(inner),
        }
    }
    if gone.is_empty() {
        return None;
    }
    body.nodes = kept;

    // The sequences that the rest reads: those of before, then the hoisted ones in the order of their values.
    let is_read =
        |id: &ValueId| body.nodes.iter().any(|n| n.inputs.contains(&Some(*id))) || body.outputs.contains(id);
    let mut sequences: Vec<ValueId> =
        body.inputs[states..formal].iter().copied().filter(|id| is_read(id)).collect();
    let mut hoisted: Vec<ValueId> = gone.into_iter().filter(|id| is_read(id)).collect();
    hoisted.sort_unstable();
    sequences.extend(hoisted);
    if sequences.is_empty() {
        return None;
    }
    let mut inputs: Vec<Option<ValueId>> = node.inputs[..states].to_vec();
    let (mut axes, mut backwards) = (Vec::new(), Vec::new());
    for id in &sequences {
        let value = whole.get(id)?;
        inputs.push(Some(value.id));
        axes.push(value.axis as i64);
        backwards.push(i64::from(value.reversed));
    }
    let captures = node.inputs.len().checked_sub(formal)?;
    inputs.extend_from_slice(&node.inputs[formal..]);
    body.inputs = [&body.inputs[..states], &sequences, &body.inputs[formal..]].concat();
    let formal = states + sequences.len();
    let reversals = scan.output_reversed.iter().map(|r| i64::from(*r)).collect();
    let attributes = vec![
        ("num_scan_inputs", Attribute::Int(sequences.len() as i64)),
        ("scan_input_axes", Attribute::Ints(axes)),
        ("scan_input_directions", Attribute::Ints(backwards)),
        ("scan_output_axes", Attribute::Ints(scan.output_axes.clone())),
        ("scan_output_directions", Attribute::Ints(reversals)),
        ("body", Attribute::Body(Body { graph: body, formal_inputs: formal })),
    ];
    let made = new_node(graph, "Scan", attributes, inputs, captures, node.outputs.len())?;
    Some(Node { name: node.name.clone(), outputs: node.outputs.clone(), ..made })
}

/// `x_t · W`, with a bias where the operator adds one, for all steps.
fn product(
    graph: &mut Graph,
    body: &Graph,
    node: &Node,
    whole: &HashMap<ValueId, Whole>,
    made: &mut Vec<Node>,
) -> Option<Whole> {
    let product = node.op.product()?;
    let x = whole.get(&node.inputs.first().copied().flatten()?)?;
    let weights = body.constant(node.inputs.get(1).copied().flatten()?)?.clone();
    let [rows, columns] = weights.shape()[..] else { return None };
    let (depth, width) = if product.transpose_b { (columns, rows) } else { (rows, columns) };
    let last = x.extents().len().checked_sub(1)?;
    let fits = x.axis != last && x.extents()[last] == Dim::Known(depth);
    if !fits || product.transpose_a || product.alpha != 1.0 || weights.dtype() != x.form.dtype {
        return None;
    }
    let bias = match node.inputs.get(2).copied().flatten() {
        None => None,
        Some(id) => {
            Some(body.constant(id).filter(|b| product.beta == 1.0 && is_row(b, width, last))?.clone())
        }
    };
    let value = x.product_of(width);
    if !value.small() {
        return None;
    }
    let mut matrix = graph.add_constant("weights", weights);
    if product.transpose_b {
        let perm = vec![("perm", Attribute::Ints(vec![1, 0]))];
        matrix = one(graph, made, "Transpose", perm, &[matrix])?;
    }
    let mut id = one(graph, made, "MatMul", Vec::new(), &[x.id, matrix])?;
    if let Some(bias) = bias {
        let bias = graph.add_constant("bias", bias);
        id = one(graph, made, "Add", Vec::new(), &[id, bias])?;
    }
    Some(Whole { id, ..value })
}

/// What products with constant matrices read, and what functions that nothing else reads make it of.
fn read_by_products(body: &Graph, readers: &HashMap<ValueId, usize>) -> HashSet<ValueId> {
    let mut wanted = HashSet::new();
    for node in body.nodes.iter().rev() {
        let constant =
            |i: usize| node.inputs.get(i).copied().flatten().is_some_and(|id| body.constant(id).is_some());
        if node.op.product().is_some() && constant(1) {
            wanted.extend(node.inputs.first().copied().flatten());
        } else if node.outputs.iter().flatten().all(|id| wanted.contains(id) && readers.get(id) == Some(&1)) {
            wanted.extend(node.inputs.iter().flatten());
        }
    }
    wanted.retain(|id| readers.get(id) == Some(&1));
    wanted
}

/// An elementwise function for all steps: of a hoisted product that nothing else reads, or, where it may come `alone`, of
/// elements.
fn function(
    graph: &mut Graph,
    body: &Graph,
    node: &Node,
    whole: &HashMap<ValueId, Whole>,
    (readers, alone): (&HashMap<ValueId, usize>, bool),
    made: &mut Vec<Node>,
) -> Option<Whole> {
    if !is_elementwise(node) && node.op.linear_quantisation().is_none() {
        return None;
    }
    let mut of: Option<&Whole> = None;
    for id in node.inputs.iter().flatten() {
        let Some(value) = whole.get(id) else { continue };
        let alike =
            of.is_none_or(|o| o.form == value.form && (o.axis, o.reversed) == (value.axis, value.reversed));
        if !alike || !alone && (!value.of_product || readers.get(id) != Some(&1)) {
            return None;
        }
        of = Some(value);
    }
    let of = of?;
    let width = of.extents().last()?.known()?;
    // A scale for each element of an axis would lie along another one.
    let fits = |constant: &Tensor| match node.op.linear_quantisation() {
        Some(_) => constant.len() == 1,
        None => is_row(constant, width, of.extents().len() - 1),
    };
    let mut inputs = Vec::with_capacity(node.inputs.len());
    let mut given: Vec<Option<Fact>> = Vec::with_capacity(node.inputs.len());
    for id in &node.inputs {
        let Some(id) = *id else {
            inputs.push(None);
            given.push(None);
            continue;
        };
        let (id, fact) = match (whole.get(&id), body.constant(id)) {
            (Some(value), _) => (value.id, value.form.clone()),
            (None, Some(constant)) if fits(constant) => {
                let id = graph.add_constant("constant", constant.clone());
                (id, TensorFact::constant(constant.clone()))
            }
            _ => return None,
        };
        inputs.push(Some(id));
        given.push(Some(fact.into()));
    }
    let given: Vec<Option<&Fact>> = given.iter().map(Option::as_ref).collect();
    let result = node.op.infer(Facts(&given)).ok()?;
    let form = TensorFact { dtype: result.first()?.tensor()?.dtype, ..of.form.clone() };
    let id = graph.add_value(node.name.clone());
    made.push(Node { inputs, outputs: vec![Some(id)], ..node.clone() });
    Some(Whole { id, form, ..of.clone() })
}

/// Whether a constant is one number or one row of `width`, of at most `rank` axes: an element does not grow by it.
fn is_row(constant: &Tensor, width: usize, rank: usize) -> bool {
    match constant.shape().split_last() {
        None => true,
        Some((last, rest)) => {
            (*last == width || *last == 1) && rest.iter().all(|d| *d == 1) && rest.len() < rank
        }
    }
}
