//! Row programs against an evaluation element by element, on every instruction set.

use super::kept_rows::in_outputs;
use super::row_kernel::RowKernel;
use super::row_layout::RowLayout;
use crate::cpu::RunContext;
use crate::cpu::normalization::Normalization;
use crate::cpu::simd::Level;
use crate::cpu::softmax::{Form, row_program};
use crate::dtype::{DType, FLOATS};
use crate::exec::{Interrupt, Team};
use crate::loops::program::{Builder, Kind, Reg, Value, interpret, read, write};
use crate::loops::rows::{Combine, Extent, RowOutput, RowProgram, Source, Stage};
use crate::memory::{Budget, Buffer};
use crate::testing::Gen;

fn number(value: Value) -> f64 {
    match value {
        Value::Float(v) => v,
        Value::Int(v) => v as f64,
        Value::Bool(v) => v.into(),
    }
}

/// What `program` makes of one row, in f64: the elements of each output.
fn evaluate(program: &RowProgram, length: usize, input: &dyn Fn(usize, usize) -> Value) -> Vec<Vec<f64>> {
    let mut outputs = vec![Vec::new(); program.outputs.len()];
    let (mut kept, mut scalars): (Vec<Vec<Value>>, Vec<Value>) = (Vec::new(), Vec::new());
    for stage in &program.stages {
        let once = stage.extent != Extent::Row;
        let made: Vec<Vec<Value>> = (0..if once { 1 } else { length })
            .map(|i| {
                let own = (0..program.inputs.len()).map(|k| input(k, i));
                let given: Vec<Value> =
                    own.chain(kept.iter().map(|row| row[i])).chain(scalars.iter().copied()).collect();
                interpret(&stage.program, &given)
            })
            .collect();
        let column = |k: usize| made.iter().map(|m| m[k]).collect::<Vec<_>>();
        let lead = match stage.extent {
            Extent::Row => stage.passing + stage.kept,
            Extent::Once { scalars: count } => {
                scalars.extend((0..count).map(|k| made[0][k]));
                count
            }
        };
        let mut reduced = Vec::new();
        for (combine, source) in &stage.reduced {
            let elements: Vec<f64> = match *source {
                Source::Output(k) => column(k).into_iter().map(number).collect(),
                Source::Input(k) => (0..length).map(|i| number(input(k, i))).collect(),
            };
            let nan = elements.iter().any(|v| v.is_nan());
            reduced.push(Value::Float(match combine {
                Combine::Sum => elements.iter().sum(),
                Combine::Prod => elements.iter().product(),
                _ if nan => f64::NAN,
                Combine::Max | Combine::Largest => elements.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Combine::Min => elements.iter().copied().fold(f64::INFINITY, f64::min),
            }));
        }
        scalars.extend(reduced);
        kept.extend((stage.passing..stage.passing + stage.kept).map(column));
        for (k, &target) in stage.stored.iter().enumerate() {
            outputs[target] = column(lead + k).into_iter().map(number).collect();
        }
    }
    outputs
}

fn check(g: &mut Gen, program: &RowProgram, [rows, length]: [usize; 2], layouts: &[RowLayout]) {
    let (team, interrupt, budget) = (Team::new(3, false), Interrupt::default(), Budget::unlimited());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let inputs: Vec<Buffer> = program
        .inputs
        .iter()
        .zip(layouts)
        .map(|(&dtype, layout)| {
            let count = if layout.rows[0] == 0 { length } else { rows * length };
            let mut buffer = Buffer::zeroed(count * dtype.bits() / 8, &budget).expect("memory");
            (0..count).for_each(|i| write(dtype, buffer.bytes_mut(), i, Value::Float(g.float(-3.0, 3.0))));
            buffer
        })
        .collect();
    let bytes: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
    for level in Level::all() {
        let kernel = RowKernel::on(level, program, (&[rows], length), layouts, 2).expect("fits");
        let per_row = |o: &RowOutput| if o.single { 1 } else { length };
        let mut got: Vec<Buffer> = program
            .outputs
            .iter()
            .map(|o| Buffer::zeroed(rows * per_row(o) * o.dtype.bits() / 8, &budget).expect("memory"))
            .collect();
        let mut scratch = Buffer::zeroed(kernel.scratch(), &budget).expect("memory");
        let outputs = got.iter_mut().map(Buffer::bytes_mut).collect();
        kernel.run(&bytes, outputs, scratch.bytes_mut(), context).expect("runs");
        for row in 0..rows {
            let input = |k: usize, i: usize| {
                // What runs once per row reads nothing of the elements of a row without any.
                if length == 0 {
                    return Value::Float(0.0);
                }
                read(
                    program.inputs[k],
                    bytes[k],
                    row * layouts[k].rows[0] + i / layouts[k].run * layouts[k].column,
                )
            };
            for ((want, output), got) in
                evaluate(program, length, &input).iter().zip(&program.outputs).zip(&got)
            {
                let most = want.iter().fold(0.0f64, |most, v| most.max(v.abs()));
                for (i, want) in want.iter().enumerate() {
                    let got = number(read(output.dtype, got.bytes(), row * per_row(output) + i));
                    let epsilon = match output.dtype {
                        DType::F16 => 2e-3,
                        DType::BF16 => 2e-2,
                        _ => 1e-5,
                    };
                    assert!(
                        got == *want || (got - want).abs() <= epsilon * (want.abs() + 0.1 * most),
                        "{level:?} {} row {row} of {rows}, element {i} of {length}: {got} instead of {want}",
                        output.dtype
                    );
                }
            }
        }
    }
}

#[test]
fn normalisations_are_what_their_stages_say() {
    let mut g = Gen::new(7);
    for &dtype in FLOATS {
        for (rows, length) in [
            (1, 1),
            (3, 31),
            (40, 33),
            (5, 768),
            (37, 200),
            (3, 192),
            (2, 1025),
            (7, 1300),
            (1, 4096),
            (1, 20_000),
        ] {
            let layout = RowLayout::plain(length);
            for form in [Form::Softmax, Form::LogSoftmax] {
                let program = row_program(form, dtype, length).expect("fits").expect("is one");
                check(&mut g, &program, [rows, length], &[layout.clone()]);
            }
            for (centred, bias) in [(true, true), (true, false), (false, false)] {
                let form = Normalization { dtype, output: dtype, length, epsilon: 1e-3, centred, bias };
                let program = form.row_program().expect("fits").expect("is one");
                let column = RowLayout::plain(0);
                let layouts = [layout.clone(), column.clone(), column];
                check(&mut g, &program, [rows, length], &layouts[..program.inputs.len()]);
            }
        }
    }
}

#[test]
fn elements_may_stay_for_runs_of_a_row() {
    let mut g = Gen::new(11);
    for &dtype in FLOATS {
        for (rows, length, run) in [
            (40, 33, 11),
            (3, 33, 3),
            (5, 768, 48),
            (2, 1300, 650),
            (3, 1300, 13),
            (2, 4096, 1),
            (2, 6144, 2048),
            (1, 20_007, 117),
            (2, 12, 5),
            (2, 64, 64),
        ] {
            let form =
                Normalization { dtype, output: dtype, length, epsilon: 1e-3, centred: true, bias: true };
            let program = form.row_program().expect("fits").expect("is one");
            let own = RowLayout { run, ..RowLayout::plain(length.div_ceil(run)) };
            let shared = RowLayout { run, ..RowLayout::plain(0) };
            for (scale, bias) in [(&own, &own), (&shared, &own), (&RowLayout::plain(0), &shared)] {
                let layouts = [RowLayout::plain(length), scale.clone(), bias.clone()];
                check(&mut g, &program, [rows, length], &layouts);
            }
        }
    }
}

#[test]
fn rows_of_scalars_are_stored_once() {
    let mut b = Builder::new(&[DType::F32]);
    let x = b.input(0);
    let size = b.abs(x);
    let extremes = Stage {
        program: b.finish(&[(size, DType::F32)]).expect("valid"),
        extent: Extent::Row,
        reduced: vec![
            (Combine::Min, Source::Input(0)),
            (Combine::Max, Source::Output(0)),
            (Combine::Prod, Source::Input(0)),
        ],
        passing: 1,
        kept: 0,
        stored: Vec::new(),
    };
    let mut b = Builder::new(&[DType::F32, DType::F32, DType::F32, DType::F32]);
    let (least, most, product) = (b.input(1), b.input(2), b.input(3));
    let (spread, wide) = (b.sub(most, least), b.convert(product, Kind::F64));
    let last = Stage {
        program: b.finish(&[(spread, DType::F16), (wide, DType::F64)]).expect("valid"),
        extent: Extent::Once { scalars: 0 },
        reduced: Vec::new(),
        passing: 0,
        kept: 0,
        stored: vec![0, 1],
    };
    let outputs =
        vec![RowOutput { dtype: DType::F16, single: true }, RowOutput { dtype: DType::F64, single: true }];
    let stages = vec![extremes, last];
    let program = RowProgram::new(vec![DType::F32], outputs.clone(), stages.clone()).expect("fits");
    let mut g = Gen::new(3);
    for (rows, length) in [(1, 1), (7, 5), (500, 9), (4, 0)] {
        check(&mut g, &program, [rows, length], &[RowLayout::plain(length)]);
    }
    let swapped = stages.into_iter().rev().collect();
    assert!(RowProgram::new(vec![DType::F32], outputs, swapped).is_err());
}

/// `(x − m) · s` where `m` and `s` are an element of the row's own, and so is what is summed before.
#[test]
fn elements_of_rows_go_with_their_rows() {
    let mut g = Gen::new(9);
    for &dtype in &[DType::F32, DType::F64, DType::F16] {
        let kind = Kind::of(dtype).expect("a number");
        let mut b = Builder::new(&[dtype; 3]);
        let (x, m) = (b.input(0), b.input(1));
        let away = b.sub(x, m);
        let square = b.mul(away, away);
        let squares = Stage {
            program: b.finish(&[(square, kind.dtype())]).expect("valid"),
            extent: Extent::Row,
            reduced: vec![(Combine::Sum, Source::Output(0))],
            passing: 1,
            kept: 0,
            stored: Vec::new(),
        };
        let mut b = Builder::new(&[dtype, dtype, dtype, kind.dtype()]);
        let (s, sum) = (b.input(2), b.input(3));
        let root = b.sqrt(sum);
        let scale = b.mul(root, s);
        let scales = Stage {
            program: b.finish(&[(scale, kind.dtype()), (root, dtype)]).expect("valid"),
            extent: Extent::Once { scalars: 1 },
            reduced: Vec::new(),
            passing: 0,
            kept: 0,
            stored: vec![1],
        };
        let mut b = Builder::new(&[dtype, dtype, dtype, kind.dtype(), kind.dtype()]);
        let (x, m, scale) = (b.input(0), b.input(1), b.input(4));
        let away = b.sub(x, m);
        let y = b.mul(scale, away);
        let last = Stage {
            program: b.finish(&[(y, dtype)]).expect("valid"),
            extent: Extent::Row,
            reduced: Vec::new(),
            passing: 0,
            kept: 0,
            stored: vec![0],
        };
        let outputs = vec![RowOutput { dtype, single: false }, RowOutput { dtype, single: true }];
        let program = RowProgram::new(vec![dtype; 3], outputs, vec![squares, scales, last]).expect("fits");
        let of_row = || RowLayout { offset: 0, rows: smallvec::smallvec![1], column: 0, run: 1 };
        for (rows, length) in [(1, 1), (33, 1), (50, 7), (35, 300), (3, 5000)] {
            check(&mut g, &program, [rows, length], &[RowLayout::plain(length), of_row(), of_row()]);
        }
    }
}

/// Squares of differences that are added up, and kept for a maximum.
#[test]
fn what_is_added_up_and_kept_is_written() {
    let mut b = Builder::new(&[DType::F32, DType::F32]);
    let (x, m) = (b.input(0), b.input(1));
    let away = b.sub(x, m);
    let square = b.mul(away, away);
    let kept = Stage {
        program: b.finish(&[(square, DType::F32)]).expect("valid"),
        extent: Extent::Row,
        reduced: vec![(Combine::Sum, Source::Output(0))],
        passing: 0,
        kept: 1,
        stored: Vec::new(),
    };
    let mut b = Builder::new(&[DType::F32; 4]);
    let (square, sum) = (b.input(2), b.input(3));
    let share = b.div(square, sum);
    let last = Stage {
        program: b.finish(&[(share, DType::F32)]).expect("valid"),
        extent: Extent::Row,
        reduced: Vec::new(),
        passing: 0,
        kept: 0,
        stored: vec![0],
    };
    let outputs = vec![RowOutput { dtype: DType::F32, single: false }];
    let program = RowProgram::new(vec![DType::F32; 2], outputs, vec![kept, last]).expect("fits");
    let of_row = RowLayout { offset: 0, rows: smallvec::smallvec![1], column: 0, run: 1 };
    let mut g = Gen::new(10);
    for (rows, length) in [(1, 67), (9, 67), (20, 128)] {
        check(&mut g, &program, [rows, length], &[RowLayout::plain(length), of_row.clone()]);
    }
}

/// What is made of a kept row `e`, of the input `x` and of the row's sum `s`.
type Made = fn(&mut Builder, [Reg; 3]) -> Vec<Reg>;

/// `x²` is kept and added up, then `made` of it is stored.
fn kept_once(made: Made) -> RowProgram {
    let dtype = DType::F32;
    let mut b = Builder::new(&[dtype]);
    let x = b.input(0);
    let square = b.mul(x, x);
    let kept = Stage {
        program: b.finish(&[(square, dtype)]).expect("valid"),
        extent: Extent::Row,
        reduced: vec![(Combine::Sum, Source::Output(0))],
        passing: 0,
        kept: 1,
        stored: Vec::new(),
    };
    let mut b = Builder::new(&[dtype; 3]);
    let (x, e, s) = (b.input(0), b.input(1), b.input(2));
    let made: Vec<(Reg, DType)> = made(&mut b, [e, x, s]).into_iter().map(|y| (y, dtype)).collect();
    let last = Stage {
        program: b.finish(&made).expect("valid"),
        extent: Extent::Row,
        reduced: Vec::new(),
        passing: 0,
        kept: 0,
        stored: (0..made.len()).collect(),
    };
    let outputs = vec![RowOutput { dtype, single: false }; made.len()];
    RowProgram::new(vec![dtype], outputs, vec![kept, last]).expect("fits")
}

/// A row waits in the output that is its product with one element, and nowhere else.
#[test]
fn rows_that_are_scaled_wait_in_their_output() {
    let forms: [(Made, Option<(usize, usize)>); 7] = [
        (|b, [e, _, s]| vec![b.mul(e, s)], Some((1, 0))),
        (|b, [e, x, s]| vec![b.add(x, s), b.mul(s, e)], Some((1, 1))),
        // An element for each of the row's.
        (|b, [e, x, _]| vec![b.mul(e, x)], None),
        // No product.
        (|b, [e, _, s]| vec![b.add(e, s)], None),
        // Read twice.
        (|b, [e, _, s]| vec![b.mul(e, s), b.add(e, s)], None),
        // The product is read once more, or is no output.
        (
            |b, [e, x, s]| {
                let y = b.mul(e, s);
                vec![y, b.add(x, y)]
            },
            None,
        ),
        (
            |b, [e, x, s]| {
                let y = b.mul(e, s);
                vec![b.add(x, y)]
            },
            None,
        ),
    ];
    let mut g = Gen::new(12);
    for (at, (made, waits)) in forms.into_iter().enumerate() {
        let program = kept_once(made);
        for (rows, length) in [(1, 1), (9, 67), (40, 300), (3, 5000)] {
            let layouts = [RowLayout::plain(length)];
            assert_eq!(in_outputs(&program, &layouts), [waits], "form {at}");
            check(&mut g, &program, [rows, length], &layouts);
        }
    }
    for (dtype, waits) in [(DType::F32, Some((2, 0))), (DType::F64, Some((2, 0))), (DType::F16, None)] {
        let program = row_program(Form::Softmax, dtype, 9).expect("fits").expect("is one");
        assert_eq!(in_outputs(&program, &[RowLayout::plain(9)]), [waits], "{dtype}");
    }
}
