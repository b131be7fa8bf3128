//! The operator for a recognised cell: weights brought into its order of gates, sequences into its layout.

use super::super::build::{integers, node as new_node, one};
use super::layout::{Axis, arrange};
use super::matching::{Cell, Gate};
use super::poly::Factor;
use super::symbolic::Symbolic;
use crate::dtype::DType;
use crate::graph::{Graph, Node, ValueId};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::ops::recurrence::Activation;
use crate::tensor::Tensor;

/// An output of the body that the Scan collects.
pub(super) struct Collected {
    /// The state that it is.
    pub(super) state: usize,
    /// Axes of what is collected.
    pub(super) axes: Vec<Axis>,
    pub(super) reversed: bool,
}

/// How the Scan reads its sequences and what it collects.
pub(super) struct Form<'a> {
    pub(super) sources: &'a [(ValueId, Vec<Axis>)],
    /// The states before the first step.
    pub(super) initial: Vec<ValueId>,
    pub(super) state_axes: &'a [Vec<Axis>],
    pub(super) dtype: DType,
    pub(super) reversed: bool,
    pub(super) collected: &'a [Collected],
}

/// The values that replace the Scan's outputs, and the nodes that make them.
pub(super) fn emit(
    graph: &mut Graph,
    scan: &Node,
    cell: &Cell,
    symbolic: &Symbolic,
    form: &Form<'_>,
    budget: &Budget,
) -> Option<(Vec<(ValueId, ValueId)>, Vec<Node>)> {
    use Axis::{Batch, Feature, One, Time};
    let (op, gates, hidden_state): (&str, &[Gate], usize) = match cell {
        Cell::Lstm { gates, hidden, .. } => ("LSTM", gates, *hidden),
        Cell::Gru { gates, .. } => ("GRU", gates, 0),
        Cell::Rnn { gate, .. } => ("RNN", std::slice::from_ref(gate), 0),
    };
    // The cell state is seen only after the last step.
    if form.collected.iter().any(|c| c.state != hidden_state) || form.sources.is_empty() {
        return None;
    }
    let weights = Weights::new(gates, cell, symbolic, form.dtype, budget)?;

    // The operator's axes: time first, or batch first where the sequences lie so.
    let order = |a: &Axis| *a == Time || *a == Batch;
    let batch_first = form.sources[0].1.iter().find(|a| order(a)) == Some(&Batch);
    let (sequence, state, made_sequence) = if batch_first {
        ([Batch, Time, Feature], [Batch, One, Feature], [Batch, Time, One, Feature])
    } else {
        ([Time, Batch, Feature], [One, Batch, Feature], [Time, One, Batch, Feature])
    };
    let mut made: Vec<Node> = Vec::new();
    let mut arranged = Vec::new();
    for (id, axes) in form.sources {
        arranged.push(arrange(graph, &mut made, *id, axes, &sequence)?);
    }
    let x = match arranged[..] {
        [x] => x,
        _ => one(graph, &mut made, "Concat", vec![("axis", Attribute::Int(2))], &arranged)?,
    };
    let initial = |graph: &mut Graph, made: &mut Vec<Node>, at: usize| -> Option<Option<ValueId>> {
        let id = *form.initial.get(at)?;
        if graph.constant(id).is_some_and(is_zero) {
            return Some(None);
        }
        arrange(graph, made, id, &form.state_axes[at], &state).map(Some)
    };
    let mut inputs = vec![
        Some(x),
        Some(graph.add_constant("W", weights.input)),
        Some(graph.add_constant("R", weights.recurrent)),
        weights.bias.map(|b| graph.add_constant("B", b)),
        None,
        initial(graph, &mut made, hidden_state)?,
    ];
    let mut attributes = vec![
        ("hidden_size", Attribute::Int(symbolic.hidden as i64)),
        ("layout", Attribute::Int(i64::from(batch_first))),
        ("direction", Attribute::String(if form.reversed { "reverse" } else { "forward" }.into())),
    ];
    let activations: &[Activation] = match cell {
        Cell::Lstm { cell, activations, input_forget, .. } => {
            inputs.push(initial(graph, &mut made, *cell)?);
            inputs.push(weights.peepholes.map(|p| graph.add_constant("P", p)));
            attributes.push(("input_forget", Attribute::Int(i64::from(*input_forget))));
            activations
        }
        Cell::Gru { activations, linear_before_reset, .. } => {
            attributes.push(("linear_before_reset", Attribute::Int(i64::from(*linear_before_reset))));
            activations
        }
        Cell::Rnn { activation, .. } => std::slice::from_ref(activation),
    };
    attributes.push((
        "activations",
        Attribute::Strings(activations.iter().map(|a| a.function.name().into()).collect()),
    ));
    let parameters =
        |of: fn(&Activation) -> Option<f32>| Attribute::Floats(activations.iter().filter_map(of).collect());
    attributes.push(("activation_alpha", parameters(Activation::given_alpha)));
    attributes.push(("activation_beta", parameters(Activation::given_beta)));
    while inputs.last() == Some(&None) {
        inputs.pop();
    }
    let count = if matches!(cell, Cell::Lstm { .. }) { 3 } else { 2 };
    let recurrent = new_node(graph, op, attributes, inputs, 0, count)?;
    let results: Vec<ValueId> = recurrent.outputs.iter().copied().collect::<Option<_>>()?;
    made.push(recurrent);

    let mut map: Vec<(ValueId, ValueId)> = Vec::new();
    let states = scan.outputs.len().min(form.initial.len());
    for (at, output) in scan.outputs[..states].iter().enumerate() {
        let Some(output) = *output else { continue };
        let last = if at == hidden_state { results[1] } else { *results.get(2)? };
        map.push((output, arrange(graph, &mut made, last, &state, &form.state_axes[at])?));
    }
    for (collected, output) in form.collected.iter().zip(&scan.outputs[states..]) {
        let Some(output) = *output else { continue };
        let mut y = results[0];
        let mut axes = &made_sequence[..];
        if collected.reversed != form.reversed {
            y = arrange(graph, &mut made, y, axes, &sequence)?;
            axes = &sequence;
            let along = i64::from(batch_first);
            let mut given = vec![y];
            for bound in [-1, i64::MIN + 1, along, -1] {
                given.push(integers(graph, &[bound])?);
            }
            y = one(graph, &mut made, "Slice", Vec::new(), &given)?;
        }
        map.push((output, arrange(graph, &mut made, y, axes, &collected.axes)?));
    }
    Some((map, made))
}

fn is_zero(tensor: &Tensor) -> bool {
    tensor.to_f64s().is_some_and(|v| v.iter().all(|v| *v == 0.0))
}

/// The constants of a recurrent operator of one direction.
struct Weights {
    input: Tensor,
    recurrent: Tensor,
    bias: Option<Tensor>,
    peepholes: Option<Tensor>,
}

impl Weights {
    fn new(gates: &[Gate], cell: &Cell, symbolic: &Symbolic, dtype: DType, budget: &Budget) -> Option<Self> {
        let hidden = symbolic.hidden;
        let widths = &symbolic.widths;
        let depth: usize = widths.iter().sum();
        let rows = gates.len() * hidden;
        // As numbers in f64 while they are put together: charged like what stays.
        let _charge = budget.charge(symbolic.tensors.iter().map(|t| t.len() * 8).sum::<usize>()).ok()?;
        let _more = budget.charge(rows.checked_mul(depth + hidden)?.checked_mul(8)?).ok()?;
        let all: Vec<Vec<f64>> = symbolic.tensors.iter().map(Tensor::to_f64s).collect::<Option<_>>()?;
        let mut input = vec![0.0; rows * depth];
        let mut recurrent = vec![0.0; rows * hidden];
        let mut bias = vec![0.0; 2 * rows];
        let add =
            |to: &mut [f64], width: usize, gate: usize, first: usize, sign: f64, m: &super::poly::Matrix| {
                let part = symbolic.elements(m, &all[m.tensor])?;
                for (k, row) in part.chunks(hidden).enumerate() {
                    for (unit, value) in row.iter().enumerate() {
                        to[(gate * hidden + unit) * width + first + k] += sign * value;
                    }
                }
                Some(())
            };
        for (g, gate) in gates.iter().enumerate() {
            for (leaf, matrix) in &gate.input {
                let first: usize = widths[..*leaf].iter().sum();
                add(&mut input, depth, g, first, gate.sign, matrix)?;
            }
            for matrix in &gate.recurrent {
                add(&mut recurrent, hidden, g, 0, gate.sign, matrix)?;
            }
            for unit in 0..hidden {
                let at = |f: &Option<Factor>| f.as_ref().map_or(0.0, |f| f.at(unit));
                bias[g * hidden + unit] = gate.sign * at(&gate.bias);
                bias[rows + g * hidden + unit] = gate.sign * at(&gate.recurrent_bias);
            }
        }
        let make =
            |shape: &[usize], values: &[f64]| Tensor::from_f64s(dtype, shape, values.iter().copied(), budget);
        let peepholes = match cell {
            Cell::Lstm { gates, .. } if gates.iter().any(|g| g.peephole.is_some()) => {
                let values: Vec<f64> = gates[..3]
                    .iter()
                    .flat_map(|g| (0..hidden).map(|u| g.peephole.as_ref().map_or(0.0, |p| p.at(u))))
                    .collect();
                Some(make(&[1, 3 * hidden], &values)?)
            }
            _ => None,
        };
        Some(Self {
            input: make(&[1, rows, depth], &input)?,
            recurrent: make(&[1, rows, hidden], &recurrent)?,
            bias: if bias.iter().all(|b| *b == 0.0) { None } else { Some(make(&[1, 2 * rows], &bias)?) },
            peepholes,
        })
    }
}
