//! The operator for a recognised cell: weights brought into its order of gates, sequences into its layout.

use super::super::build::{integers, node as new_node, one};
use super::matching::{Cell, Gate};
use super::poly::Factor;
use super::symbolic::Symbolic;
use crate::dtype::DType;
use crate::graph::{Fact, Graph, Node, ValueId};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::ops::recurrence::Activation;
use crate::tensor::Tensor;

/// How the Scan reads its sequences and what it collects.
pub(super) struct Form<'a> {
    pub(super) sources: &'a [ValueId],
    pub(super) batch_first: bool,
    pub(super) reversed: bool,
    /// The state that each collected output is.
    pub(super) collected: &'a [usize],
    pub(super) output_axes: &'a [i64],
    pub(super) output_reversed: &'a [bool],
}

/// The values that replace the Scan's outputs, and the nodes that make them.
pub(super) fn emit(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    scan: &Node,
    cell: &Cell,
    symbolic: &Symbolic,
    form: &Form<'_>,
    budget: &Budget,
) -> Option<(Vec<(ValueId, ValueId)>, Vec<Node>)> {
    let (op, gates, hidden_state): (&str, &[Gate], usize) = match cell {
        Cell::Lstm { gates, hidden, .. } => ("LSTM", gates, *hidden),
        Cell::Gru { gates, .. } => ("GRU", gates, 0),
        Cell::Rnn { gate, .. } => ("RNN", std::slice::from_ref(gate), 0),
    };
    // The cell state is seen only after the last step.
    if form.collected.iter().any(|s| *s != hidden_state) || form.sources.is_empty() {
        return None;
    }
    let dtype = facts.get(scan.inputs.first().copied().flatten()?.index())?.as_ref()?.tensor()?.dtype;
    let weights = Weights::new(gates, cell, symbolic, dtype, budget)?;

    let mut made: Vec<Node> = Vec::new();
    let x = match form.sources {
        [x] => *x,
        several => one(graph, &mut made, "Concat", vec![("axis", Attribute::Int(2))], several)?,
    };
    let state_axis = i64::from(form.batch_first);
    let initial = |graph: &mut Graph, made: &mut Vec<Node>, state: usize| -> Option<Option<ValueId>> {
        let id = scan.inputs.get(state).copied().flatten()?;
        if graph.constant(id).is_some_and(is_zero) {
            return Some(None);
        }
        let axis = integers(graph, &[state_axis])?;
        Some(Some(one(graph, made, "Unsqueeze", Vec::new(), &[id, axis])?))
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
        ("layout", Attribute::Int(i64::from(form.batch_first))),
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
    let states = scan.outputs.len() - form.collected.len();
    for (state, output) in scan.outputs[..states].iter().enumerate() {
        let Some(output) = *output else { continue };
        let last = if state == hidden_state { results[1] } else { *results.get(2)? };
        let axis = integers(graph, &[state_axis])?;
        map.push((output, one(graph, &mut made, "Squeeze", Vec::new(), &[last, axis])?));
    }
    for (i, output) in scan.outputs[states..].iter().enumerate() {
        let Some(output) = *output else { continue };
        // Y is [time, 1, batch, hidden], or [batch, time, 1, hidden].
        let axis = integers(graph, &[1 + state_axis])?;
        let mut y = one(graph, &mut made, "Squeeze", Vec::new(), &[results[0], axis])?;
        let lies = state_axis;
        let wanted = form.output_axes[i];
        let wanted = if wanted < 0 { wanted + 3 } else { wanted };
        if form.output_reversed[i] != form.reversed {
            let mut given = vec![y];
            for bound in [-1, i64::MIN + 1, lies, -1] {
                given.push(integers(graph, &[bound])?);
            }
            y = one(graph, &mut made, "Slice", Vec::new(), &given)?;
        }
        if lies != wanted {
            let mut perm: Vec<i64> = (0..3).filter(|a| *a != lies).collect();
            perm.insert(usize::try_from(wanted).ok().filter(|w| *w < 3)?, lies);
            y = one(graph, &mut made, "Transpose", vec![("perm", Attribute::Ints(perm))], &[y])?;
        }
        map.push((output, y));
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
