//! Random uses of recurrent operators: every combination of their attributes.

use super::{Case, Gen};
use crate::dtype::{DType, FLOATS};
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;

/// What differs between the operators.
pub(crate) struct Shape {
    pub(crate) gates: usize,
    /// Activation functions per direction.
    pub(crate) functions: usize,
    /// LSTM has initial_c, P and Y_c.
    pub(crate) cell_state: bool,
}

const FUNCTIONS: [&str; 11] = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
];

/// How many alphas and betas each of them takes.
fn parameters(name: &str) -> (usize, usize) {
    match name {
        "Affine" | "ScaledTanh" | "HardSigmoid" => (1, 1),
        "LeakyRelu" | "ThresholdedRelu" | "Elu" => (1, 0),
        _ => (0, 0),
    }
}

/// A random use: `name` is not known here, so the operator adds its own attributes.
pub(crate) fn recurrent_case(g: &mut Gen, shape: &Shape) -> Case {
    let directions = g.size(1, 2);
    let dtype = *g.pick(FLOATS);
    let opset = *g.pick(&[7, 14, 22, 28]);
    // bfloat16 is newer than `layout`.
    let opset = if dtype == DType::BF16 { opset.max(22) } else { opset };
    let time = *g.pick(&[0, 1, 1, 2, 3, 5, 8]);
    let batch = *g.pick(&[0, 1, 1, 1, 2, 3, 5, 7, 8, 13, 17, 33]);
    let input = *g.pick(&[0, 1, 2, 3, 7, 16, 31]);
    let hidden = *g.pick(&[0, 1, 2, 5, 13, 16, 17, 31, 47, 48, 64, 67, 129]);
    let batch_first = opset >= 14 && g.chance(0.4);

    let mut case = Case::new([]).opset(opset);
    let sequence = |a: usize, b: usize| if batch_first { [b, a] } else { [a, b] };
    // Rows of weights that sum to less than one, so that unbounded activations neither grow without end nor
    // magnify rounding beyond what is compared.
    let scale = |depth: usize| 1.0 / depth.max(1) as f64;
    let [s0, s1] = sequence(time, batch);
    let [h0, h1] = sequence(directions, batch);
    case = case.input(g.tensor_in(dtype, &[s0, s1, input], -1.0, 1.0));
    let rows = shape.gates * hidden;
    case = case.input(g.tensor_in(dtype, &[directions, rows, input], -scale(input), scale(input)));
    case = case.input(g.tensor_in(dtype, &[directions, rows, hidden], -scale(hidden), scale(hidden)));
    let optional = |g: &mut Gen, dims: &[usize]| g.chance(0.6).then(|| g.tensor_in(dtype, dims, -0.6, 0.6));
    let mut rest = vec![optional(g, &[directions, 2 * rows]), lengths(g, time, batch)];
    rest.push(optional(g, &[h0, h1, hidden]));
    if shape.cell_state {
        rest.push(optional(g, &[h0, h1, hidden]));
        // Peepholes on unbounded gates square the cell state at each step.
        let peepholes = [directions, 3 * hidden];
        rest.push(g.chance(0.5).then(|| g.tensor_in(dtype, &peepholes, -0.15, 0.15)));
    }
    while rest.last().is_some_and(Option::is_none) && g.chance(0.5) {
        rest.pop();
    }
    let count = rest.len();
    for input in rest {
        case = case.optional(input);
    }
    // Each of the weights is a constant or computed, mostly all constant.
    let all = g.chance(0.5);
    for index in [1, 2, 3, 7].into_iter().filter(|i| *i < 3 + count) {
        if all || g.chance(0.5) {
            case = case.constant(index);
        }
    }
    case = case.outputs(g.size(1, if shape.cell_state { 3 } else { 2 }));
    attributes(g, case, shape, [directions, hidden, usize::from(batch_first)])
}

/// Lengths of the rows, or nothing.
pub(crate) fn lengths(g: &mut Gen, time: usize, batch: usize) -> Option<Tensor> {
    let values = (0..batch).map(|_| g.int(0, time as i64) as i32).collect();
    g.chance(0.5).then(|| Tensor::new(&[batch], values).unwrap_or_else(|_| Tensor::scalar(0i32)))
}

/// Random attributes of a use with `directions`, a hidden size and a `layout`.
pub(crate) fn attributes(
    g: &mut Gen,
    mut case: Case,
    shape: &Shape,
    [directions, hidden, layout]: [usize; 3],
) -> Case {
    let direction = if directions == 2 { "bidirectional" } else { *g.pick(&["forward", "reverse"]) };
    if direction != "forward" || g.chance(0.3) {
        case = case.string("direction", direction);
    }
    if g.chance(0.8) {
        case = case.int("hidden_size", hidden as i64);
    }
    if layout == 1 || (case.opset >= 14 && g.chance(0.2)) {
        case = case.int("layout", layout as i64);
    }
    if g.chance(0.3) {
        case = case.float("clip", g.float(0.1, 2.0) as f32);
    }
    if g.chance(0.6) {
        let mut names = Vec::new();
        let (mut alphas, mut betas) = (0, 0);
        for _ in 0..shape.functions * directions {
            let name = *g.pick(&FUNCTIONS);
            let (a, b) = parameters(name);
            (alphas, betas) = (alphas + a, betas + b);
            let cased = [name.to_string(), name.to_lowercase(), name.to_uppercase()];
            names.push(g.pick(&cased).as_str().into());
        }
        case = case.with("activations", Attribute::Strings(names));
        for (name, count, range) in
            [("activation_alpha", alphas, 0.1..0.9), ("activation_beta", betas, -0.4..0.4)]
        {
            if g.chance(0.6) {
                let values = (0..g.size(0, count)).map(|_| g.float(range.start, range.end) as f32).collect();
                case = case.with(name, Attribute::Floats(values));
            }
        }
    }
    case
}
