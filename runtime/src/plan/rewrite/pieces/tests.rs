//! Pieces of recurrences give every bit of the whole, whatever they are cut into.

use super::super::tests::{Sketch, declared, known, outputs};
use super::pieces;
use crate::cost::StepSignature;
use crate::cpu::RunContext;
use crate::dtype::DType;
use crate::exec::{BuildContext, Interrupt, Program, Team};
use crate::graph::{Graph, ValueId};
use crate::memory::Budget;
use crate::ops::attributes::Attribute;
use crate::ops::recurrence::Recurrence;
use crate::precision::{Precision, Storing};
use crate::tensor::Tensor;
use crate::testing::Gen;

/// Two layers of a recurrence.
struct Layers {
    op: &'static str,
    dtype: DType,
    time: usize,
    batch: usize,
    /// Features of the input, and of the states.
    sizes: [usize; 2],
}

impl Layers {
    fn constant(&self, s: &mut Sketch, g: &mut Gen, shape: &[usize]) -> ValueId {
        let tensor = g.tensor_in(self.dtype, shape, -0.3, 0.3);
        s.graph.add_constant(format!("c{}", s.graph.values.len()), tensor)
    }

    fn graph(&self, g: &mut Gen) -> Graph {
        let mut s = Sketch::default();
        let [mut features, hidden] = self.sizes;
        let mut top = s.input_of(self.dtype, &known(&[self.time, self.batch, features]));
        let axes = s.graph.add_constant("axes", Tensor::new(&[1], vec![1i64]).expect("axes"));
        let gates = match self.op {
            "LSTM" => 4,
            "RNN" => 1,
            _ => 3,
        };
        for _ in 0..2 {
            let rows = gates * hidden;
            let w = self.constant(&mut s, g, &[1, rows, features]);
            let r = self.constant(&mut s, g, &[1, rows, hidden]);
            let b = self.constant(&mut s, g, &[1, 2 * rows]);
            let mut attributes = vec![("hidden_size", Attribute::Int(hidden as i64))];
            if self.op == "GRU" && g.chance(0.5) {
                attributes.push(("linear_before_reset", Attribute::Int(1)));
            }
            let y = s.op(self.op, attributes, &[top, w, r, b]);
            top = s.op("Squeeze", vec![], &[y, axes]);
            features = hidden;
        }
        s.finish(&[top])
    }

    /// The input; `odd` of its values are none that the matrix unit may be given.
    fn input(&self, g: &mut Gen, odd: usize) -> Tensor {
        let shape = [self.time, self.batch, self.sizes[0]];
        if self.dtype != DType::F32 {
            return g.tensor_in(self.dtype, &shape, -1.0, 1.0);
        }
        let count = shape.iter().product();
        let mut data: Vec<f32> = (0..count).map(|_| g.float(-1.0, 1.0) as f32).collect();
        for _ in 0..odd {
            let at = g.size(0, count - 1);
            data[at] = 1e19;
        }
        Tensor::new(&shape, data).expect("as many")
    }
}

/// Compares pieces of all numbers with the whole; how many there were.
fn compare(g: &mut Gen, layers: &Layers, odd: usize, precision: Precision) -> usize {
    let whole = layers.graph(g);
    let input = [layers.input(g, odd)];
    let want = outputs(whole.clone(), &input, &Storing::new(precision));
    let mut compared = 0;
    for count in [2, 3, 4, 5, 8, 13] {
        let Some(cut) = pieces(&whole, &declared(&whole), count) else {
            assert!(layers.time / count < super::FEWEST_STEPS, "{count} pieces of {} steps", layers.time);
            continue;
        };
        let recurrent = |graph: &Graph| graph.nodes.iter().filter(|n| n.def.name == layers.op).count();
        assert_eq!(recurrent(&cut), 2 * count);
        let got = outputs(cut, &input, &Storing::new(precision));
        for (got, want) in got.iter().zip(&want) {
            let Layers { op, dtype, time, batch, sizes } = layers;
            assert!(
                got.bytes() == want.bytes(),
                "{count} pieces of {op} {dtype} of {time} steps, {batch} rows, {sizes:?}, {odd} odd, {precision}"
            );
        }
        compared += 1;
    }
    compared
}

#[test]
fn pieces_of_every_size_give_every_bit_of_the_whole() {
    let g = &mut Gen::new(17);
    let mut compared = 0;
    for round in 0..40 {
        let op = ["LSTM", "GRU", "RNN"][round % 3];
        let dtype = if round % 8 == 7 { DType::F64 } else { DType::F32 };
        // Some for the matrix unit, some not; some in several blocks of steps.
        let (time, batch) = (g.size(8, if round % 4 == 0 { 260 } else { 70 }), *g.pick(&[1, 1, 2, 5]));
        let sizes = [*g.pick(&[8, 64, 100, 160]), g.size(4, 70)];
        let odd = if round % 5 == 0 { g.size(1, 3) } else { 0 };
        compared += compare(g, &Layers { op, dtype, time, batch, sizes }, odd, Precision::F32);
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn pieces_with_weights_in_other_formats_give_every_bit_of_the_whole() {
    let g = &mut Gen::new(19);
    for precision in [Precision::F16, Precision::Bf16, Precision::Int8] {
        for batch in [1, 3] {
            let (time, sizes) = (g.size(26, 90), [g.size(8, 130), g.size(4, 40)]);
            let layers = Layers { op: "LSTM", dtype: DType::F32, time, batch, sizes };
            assert!(compare(g, &layers, 0, precision) >= 4);
        }
    }
}

#[test]
fn states_that_would_be_rounded_between_pieces_keep_them_whole() {
    let g = &mut Gen::new(23);
    for dtype in [DType::F16, DType::BF16] {
        let layers = Layers { op: "GRU", dtype, time: 64, batch: 1, sizes: [8, 8] };
        let whole = layers.graph(g);
        assert!(pieces(&whole, &declared(&whole), 2).is_none(), "{dtype}");
    }
}

/// Signatures of the LSTMs of a graph.
fn signatures(graph: Graph) -> Vec<String> {
    let (budget, facts) = (Budget::unlimited(), declared(&graph));
    let build = BuildContext { budget: &budget, threads: 1, release: &|_| (), storing: &Storing::default() };
    let program = Program::build(graph, build).expect("a program");
    let (team, interrupt) = (Team::alone(), Interrupt::default());
    let context = RunContext { team, interrupt: &interrupt, budget: &budget, times: None };
    let bound = program.bind_facts(facts, context).expect("bound");
    let forms = (0..bound.step_count()).filter_map(|step| bound.step_form(&program, step));
    forms.map(|form| StepSignature::of(&form).0).filter(|signature| signature.starts_with("LSTM")).collect()
}

/// The same graph, whose recurrences are whole ones of their shapes.
fn as_wholes(mut graph: Graph) -> Graph {
    for node in &mut graph.nodes {
        if let Some(piece) = node.op.recurrence() {
            let whole = Recurrence { piece: Vec::new(), ..piece.clone() };
            node.op = node.op.with_recurrence(whole).expect("a recurrence");
        }
    }
    graph
}

#[test]
fn a_piece_has_the_signature_of_a_whole_sequence_where_it_runs_as_one_and_only_there() {
    let g = &mut Gen::new(29);
    // All steps are one block: products of pieces are of other rows than their kernel is chosen by.
    let layers = Layers { op: "LSTM", dtype: DType::F32, time: 64, batch: 1, sizes: [8, 16] };
    let cut = pieces(&layers.graph(g), &[], 4);
    assert!(cut.is_none(), "without its shapes nothing is cut");
    let whole = layers.graph(g);
    let cut = pieces(&whole, &declared(&whole), 4).expect("four pieces");
    let (parts, wholes) = (signatures(cut.clone()), signatures(as_wholes(cut)));
    assert_eq!((parts.len(), wholes.len()), (8, 8));
    for (part, whole) in parts.iter().zip(&wholes) {
        let forms = |signature: &str| signature.split_once(" #").map(|(forms, _)| forms.to_owned());
        assert_eq!(forms(part), forms(whole));
        assert_ne!(part, whole, "its time is not that of a whole one");
    }
    // Of one layer, the pieces between the first and the last are alike.
    assert_eq!(parts[1], parts[2]);
    // Whole blocks are computed as a sequence by itself is, so that what was measured of one is known of the other.
    let layers = Layers { op: "LSTM", dtype: DType::F32, time: 260, batch: 5, sizes: [64, 64] };
    let whole = layers.graph(g);
    let cut = pieces(&whole, &declared(&whole), 2).expect("two pieces");
    assert_eq!(signatures(cut.clone()), signatures(as_wholes(cut)));
}

/// Times that were measured before recurrences knew of pieces stay those of whole ones: their text is the same.
#[test]
fn of_a_whole_sequence_the_text_has_the_attributes_and_nothing_else() {
    let g = &mut Gen::new(31);
    let layers = Layers { op: "RNN", dtype: DType::F32, time: 8, batch: 1, sizes: [4, 4] };
    let graph = layers.graph(g);
    let text = graph.nodes.iter().find(|n| n.def.name == "RNN").map(|node| format!("{:?}", node.op));
    let tanh = "Activation { function: Tanh, alpha: 0.0, beta: 0.0 }";
    let want = format!(
        "Rnn(Recurrence {{ cell: Rnn, directions: [Direction {{ reverse: false, activations: [{tanh}] }}], \
         batch_first: false, clip: None, has_bias: true, has_peephole: false, hidden_size: Some(4) }})"
    );
    assert_eq!(text, Some(want));
}
