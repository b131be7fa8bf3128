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
    /// An attribute of its own that is 0 or 1.
    pub(crate) flag: Option<&'static str>,
}

const DIRECTIONS: [&str; 3] = ["forward", "reverse", "bidirectional"];

/// What a use of a recurrent operator has of what may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    direction: &'static str,
    /// Those of the constants below that it has.
    parts: u32,
}

const LAYOUT: u32 = 1;
const BIAS: u32 = 1 << 1;
const LENGTHS: u32 = 1 << 2;
const INITIAL_H: u32 = 1 << 3;
const INITIAL_C: u32 = 1 << 4;
const PEEPHOLES: u32 = 1 << 5;
const CLIP: u32 = 1 << 6;
const ACTIVATIONS: u32 = 1 << 7;
const FLAG: u32 = 1 << 8;
/// All of them, with how likely each is.
const PARTS: [(u32, f64); 9] = [
    (LAYOUT, 0.3),
    (BIAS, 0.6),
    (LENGTHS, 0.5),
    (INITIAL_H, 0.6),
    (INITIAL_C, 0.6),
    (PEEPHOLES, 0.5),
    (CLIP, 0.3),
    (ACTIVATIONS, 0.6),
    (FLAG, 0.3),
];

impl Form {
    fn drawn(g: &mut Gen, shape: &Shape) -> Self {
        let direction = *g.pick(&DIRECTIONS);
        let parts = PARTS.iter().filter(|(_, p)| g.chance(*p)).fold(0, |parts, (part, _)| parts | part);
        Self { direction, parts: parts & shape.parts() }
    }

    /// Every one that an operator has.
    #[cfg(test)]
    pub(crate) fn all(shape: &Shape) -> impl Iterator<Item = Self> {
        let possible = shape.parts();
        let parts = (0..1u32 << PARTS.len()).filter(move |parts| parts & !possible == 0);
        parts.flat_map(|parts| DIRECTIONS.map(|direction| Self { direction, parts }))
    }

    fn has(self, part: u32) -> bool {
        self.parts & part != 0
    }

    fn directions(self) -> usize {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }
}

impl Shape {
    /// The parts that uses of the operator may have.
    fn parts(&self) -> u32 {
        let all = PARTS.iter().fold(0, |parts, (part, _)| parts | part);
        let without = if self.cell_state { 0 } else { INITIAL_C | PEEPHOLES };
        all & !without & !if self.flag.is_some() { 0 } else { FLAG }
    }
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

/// Those that stay within bounds. Gates multiply the state, and are about as large as it is where they do not: a step then
/// takes magnitudes to their cubes, and with them what rounding left.
const BOUNDED: [&str; 5] = ["Tanh", "Sigmoid", "ScaledTanh", "HardSigmoid", "Softsign"];
/// So many steps gates without bounds may take.
const UNBOUNDED_STEPS: usize = 2;

/// How many alphas and betas each of them takes.
fn parameters(name: &str) -> (usize, usize) {
    match name {
        "Affine" | "ScaledTanh" | "HardSigmoid" => (1, 1),
        "LeakyRelu" | "ThresholdedRelu" | "Elu" => (1, 0),
        _ => (0, 0),
    }
}

/// A random use.
pub(crate) fn recurrent_case(g: &mut Gen, shape: &Shape) -> Case {
    let form = Form::drawn(g, shape);
    case_of(g, shape, form)
}

/// A random use of this form.
pub(crate) fn case_of(g: &mut Gen, shape: &Shape, form: Form) -> Case {
    let time = *g.pick(&[0, 1, 1, 2, 3, 5, 8]);
    let batch = *g.pick(&[0, 1, 1, 1, 2, 3, 5, 7, 8, 13, 17, 33]);
    let input = *g.pick(&[0, 1, 2, 3, 7, 16, 31]);
    let hidden = *g.pick(&[0, 1, 2, 5, 13, 16, 17, 31, 47, 48, 64, 67, 129]);
    sized(g, shape, form, [time, batch, input, hidden])
}

/// The same of these sizes.
fn sized(g: &mut Gen, shape: &Shape, form: Form, [time, batch, input, hidden]: [usize; 4]) -> Case {
    let directions = form.directions();
    let dtype = *g.pick(FLOATS);
    let batch_first = form.has(LAYOUT);
    let opset = *g.pick(if batch_first { &[14, 22, 28][..] } else { &[7, 14, 22, 28] });
    // bfloat16 is newer than `layout`.
    let opset = if dtype == DType::BF16 { opset.max(22) } else { opset };
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
    let mut optional =
        |part: u32, dims: &[usize], most: f64| form.has(part).then(|| g.tensor_in(dtype, dims, -most, most));
    let bias = optional(BIAS, &[directions, 2 * rows], 0.6);
    let h = optional(INITIAL_H, &[h0, h1, hidden], 0.6);
    let c = optional(INITIAL_C, &[h0, h1, hidden], 0.6);
    // Peepholes on unbounded gates square the cell state at each step.
    let peepholes = optional(PEEPHOLES, &[directions, 3 * hidden], 0.15);
    let mut rest = vec![bias, form.has(LENGTHS).then(|| lengths(g, time, batch)), h];
    if shape.cell_state {
        rest.extend([c, peepholes]);
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
    attributes_of(g, case, shape, (form, hidden, time))
}

/// Lengths of the rows.
pub(crate) fn lengths(g: &mut Gen, time: usize, batch: usize) -> Tensor {
    let values = (0..batch).map(|_| g.int(0, time as i64) as i32).collect();
    Tensor::new(&[batch], values).unwrap_or_else(|_| Tensor::scalar(0i32))
}

/// Random attributes, without `layout`, of a use with `directions`, a hidden size and steps.
pub(crate) fn attributes(
    g: &mut Gen,
    case: Case,
    shape: &Shape,
    [directions, hidden, steps]: [usize; 3],
) -> Case {
    let mut form = Form::drawn(g, shape);
    form.parts &= !LAYOUT;
    form.direction = if directions == 2 { "bidirectional" } else { *g.pick(&["forward", "reverse"]) };
    attributes_of(g, case, shape, (form, hidden, steps))
}

fn attributes_of(
    g: &mut Gen,
    mut case: Case,
    shape: &Shape,
    (form, hidden, steps): (Form, usize, usize),
) -> Case {
    let Form { direction, .. } = form;
    if direction != "forward" || g.chance(0.3) {
        case = case.string("direction", direction);
    }
    if g.chance(0.8) {
        case = case.int("hidden_size", hidden as i64);
    }
    // What is the default is written out now and then.
    if form.has(LAYOUT) || (case.opset >= 14 && g.chance(0.2)) {
        case = case.int("layout", i64::from(form.has(LAYOUT)));
    }
    if let Some(flag) = shape.flag.filter(|_| form.has(FLAG) || g.chance(0.3)) {
        case = case.int(flag, i64::from(form.has(FLAG)));
    }
    if form.has(CLIP) {
        case = case.float("clip", g.float(0.1, 2.0) as f32);
    }
    if form.has(ACTIVATIONS) {
        let mut names = Vec::new();
        let (mut alphas, mut betas) = (0, 0);
        // Clipped, what a gate is a function of has bounds, and so has the gate.
        let grows = shape.functions > 1 && steps > UNBOUNDED_STEPS && !form.has(CLIP);
        for at in 0..shape.functions * form.directions() {
            let of_gates = at % shape.functions == 0;
            let name = if grows && of_gates { *g.pick(&BOUNDED) } else { *g.pick(&FUNCTIONS) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::OPS;
    use crate::reference::{RefInputs, RefValue};
    use crate::testing::operator::check_case;
    use crate::testing::parse;

    /// What is compared would otherwise be what rounding left of numbers that grow without end.
    #[test]
    fn drawn_states_stay_in_range() {
        for name in ["LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"] {
            let def = OPS.iter().find(|def| def.name == name).expect("a recurrent operator");
            let mut most = (0.0, 0);
            for seed in 0..600 {
                let case = (def.case)(&mut Gen::new(seed));
                let op = parse(def, &case).expect("a valid case");
                let of = |v: &Option<_>| v.as_ref().map(|v| RefValue::from_value(v).expect("a value"));
                let given: Vec<Option<RefValue>> = case.inputs.iter().map(of).collect();
                let given: Vec<Option<&RefValue>> = given.iter().map(Option::as_ref).collect();
                for made in op.reference(&RefInputs(&given)).expect("a reference") {
                    let RefValue::Tensor(made) = made else { continue };
                    let size =
                        made.as_floats().expect("floats").iter().fold(0.0, |most, v| v.abs().max(most));
                    if size > most.0 {
                        most = (size, seed);
                    }
                }
            }
            assert!(most.0 < 1e4, "{name}: {:e} of seed {}", most.0, most.1);
        }
    }

    /// Inputs and states of so many rows are multiplied on the processor's matrix unit, where there is one.
    #[test]
    fn wide_layers_of_many_rows_agree_with_the_reference() {
        let lstm = Shape { gates: 4, functions: 3, cell_state: true, flag: Some("input_forget") };
        let gru = Shape { gates: 3, functions: 2, cell_state: false, flag: Some("linear_before_reset") };
        for (name, shape) in [("LSTM", lstm), ("GRU", gru)] {
            let def = OPS.iter().find(|def| def.name == name).expect("a recurrent operator");
            let inputs = [[4, 33, 80, 21], [4, 40, 64, 33], [8, 13, 101, 50]];
            let states = [[2, 130, 3, 66], [3, 27, 16, 305], [2, 65, 130, 128]];
            let all = inputs.into_iter().chain(states);
            for (seed, sizes) in all.cycle().take(48).enumerate() {
                let mut g = Gen::new(seed as u64);
                let form = Form::drawn(&mut g, &shape);
                let checked = check_case(def, sized(&mut g, &shape, form, sizes), 1 + seed % 2);
                checked.unwrap_or_else(|failure| panic!("{name}, {form:?}, {sizes:?}: {failure:#?}"));
            }
        }
    }

    #[test]
    fn every_combination_of_attributes_and_inputs_agrees_with_the_reference() {
        let lstm = Shape { gates: 4, functions: 3, cell_state: true, flag: Some("input_forget") };
        let gru = Shape { gates: 3, functions: 2, cell_state: false, flag: Some("linear_before_reset") };
        let rnn = Shape { gates: 1, functions: 1, cell_state: false, flag: None };
        for (name, shape, combinations) in
            [("LSTM", lstm, 3 << 9), ("GRU", gru, 3 << 7), ("RNN", rnn, 3 << 6)]
        {
            let def = OPS.iter().find(|def| def.name == name).expect("a recurrent operator");
            let forms: Vec<Form> = Form::all(&shape).collect();
            assert_eq!(forms.len(), combinations, "{name}");
            for (seed, form) in forms.into_iter().enumerate() {
                let case = case_of(&mut Gen::new(seed as u64), &shape, form);
                let checked = check_case(def, case, 1 + seed % 2);
                checked.unwrap_or_else(|failure| panic!("{name}, {form:?}: {failure:#?}"));
            }
        }
    }
}
