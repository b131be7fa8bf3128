//! A nest over rows as a row program: each fold and the store become a pass over the row.
//!
//! What an earlier pass has computed for every element and a later one needs again is kept, where it takes more than
//! one operation: the exponentials of a softmax are taken once. Expressions are compared by structure.

use super::nest::{Effect, Fold, Nest, Source};
use super::program::{Builder, Instruction, Kind, Opcode, Program, Reg};
use super::rows::{Combine, Extent, RowOutput, RowProgram, Source as Reduced, Stage};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use std::collections::HashMap;
use std::ops::Range;

/// Rows up to this length keep what is needed again.
const KEPT: usize = 1 << 14;
/// Operations for each element from which on a value is kept.
const WORTH_KEEPING: usize = 2;

/// The stages of `nest`, whose axes `row` are those of rows of `length` elements; inputs are the nest's reads.
/// Outputs have one element per row unless the store runs over rows.
pub(crate) fn row_program(nest: &Nest, row: &Range<usize>, length: usize) -> Result<RowProgram, OpError> {
    let misfit = || OpError::internal("a nest that is no row program");
    let mut inputs = vec![None; nest.reads.len()];
    for stage in &nest.stages {
        for (source, dtype) in stage.inputs.iter().zip(stage.program.inputs()) {
            if let Source::Read(at) = source {
                inputs[*at] = Some(*dtype);
            }
        }
    }
    let inputs: Vec<DType> = inputs.into_iter().collect::<Option<_>>().ok_or_else(misfit)?;
    let expressions = Expressions::of(nest, row);
    let kept = if length <= KEPT { expressions.kept(nest) } else { Vec::new() };
    let (mut stages, mut outputs) = (Vec::new(), Vec::new());
    let mut types = inputs.clone();
    // Kept rows stand before the scalars, of which each fold makes one.
    let (mut rows, mut scalars): (Vec<usize>, Vec<DType>) = (Vec::new(), Vec::new());
    for (at, stage) in nest.stages.iter().enumerate() {
        let program = &stage.program;
        types.truncate(inputs.len());
        types.extend(rows.iter().map(|&id| expressions.made[id].kind.dtype()));
        types.extend(&scalars);
        let mut builder = Builder::new(&types);
        let first_scalar = inputs.len() + rows.len();
        let given: Vec<Reg> = stage
            .inputs
            .iter()
            .map(|source| match *source {
                Source::Read(read) => builder.input(read),
                Source::Fold(fold) => builder.input(first_scalar + fold),
            })
            .collect();
        let ids = &expressions.stages[at];
        let registers = builder.inline_but(program, &given, |builder, register| {
            let place = rows.iter().position(|&id| id == ids[register])?;
            Some(builder.input(inputs.len() + place))
        });
        let own: Vec<usize> = kept.iter().filter(|&&(_, first)| first == at).map(|k| k.0).collect();
        let mut made: Vec<(Reg, DType)> = Vec::new();
        let place = |id: usize| ids.iter().position(|&i| i == id).map(|r| registers[r]).ok_or_else(misfit);
        let (mut reduced, mut passing, mut stored, mut extent) = (Vec::new(), 0, Vec::new(), Extent::Row);
        match &stage.effect {
            Effect::Fold(fold) => {
                let output = program.outputs()[0];
                let source = match own.iter().position(|&id| id == ids[output.register]) {
                    Some(place) => Reduced::Output(place),
                    None => match direct(program, output.register, &stage.inputs, nest, row) {
                        Some(read) => Reduced::Input(read),
                        None => {
                            passing = 1;
                            made.push((registers[output.register], output.dtype));
                            Reduced::Output(0)
                        }
                    },
                };
                reduced.push((combine(*fold), source));
                scalars.push(output.dtype);
                for &id in &own {
                    made.push((place(id)?, expressions.made[id].kind.dtype()));
                }
            }
            Effect::Carry(..) => return Err(misfit()),
            Effect::Store(_) => {
                let single = stage.over.is_empty();
                for output in program.outputs() {
                    stored.push(outputs.len());
                    outputs.push(RowOutput { dtype: output.dtype, single });
                    made.push((registers[output.register], output.dtype));
                }
                extent = if single { Extent::Once { scalars: 0 } } else { Extent::Row };
            }
        }
        let program = builder.finish(&made)?;
        stages.push(Stage { program, extent, reduced, passing, kept: own.len(), stored });
        rows.extend(own);
    }
    RowProgram::new(inputs, outputs, stages)
}

fn combine(fold: Fold) -> Combine {
    match fold {
        Fold::Sum => Combine::Sum,
        Fold::Product => Combine::Prod,
        Fold::Max => Combine::Max,
        Fold::Min => Combine::Min,
    }
}

/// The read that `register` is, as it lies in memory, with an element for each of the row's.
fn direct(
    program: &Program,
    register: usize,
    inputs: &[Source],
    nest: &Nest,
    row: &Range<usize>,
) -> Option<usize> {
    let made = &program.instructions()[register];
    let wide = matches!(made.dtype, DType::F32 | DType::F64);
    match inputs.get(made.arguments[0] as usize) {
        Some(&Source::Read(read)) if made.opcode == Opcode::Input && wide => {
            // What stays still along some of the row's axes does not lie there element by element.
            let along = |axis| nest.axes[axis] == Dim::Known(1) || moves(nest, read, &(axis..axis + 1));
            (moves(nest, read, row) && row.clone().all(along)).then_some(read)
        }
        _ => None,
    }
}

/// Whether read `read` differs along the row.
fn moves(nest: &Nest, read: usize, row: &Range<usize>) -> bool {
    nest.reads[read].index.iter().any(|a| a.terms().iter().any(|t| row.contains(&t.0)))
}

/// The expressions of all stages, equal ones under one number.
struct Expressions {
    /// The number of each instruction of each stage.
    stages: Vec<Vec<usize>>,
    made: Vec<Expression>,
}

struct Expression {
    kind: Kind,
    /// Operations for each element of a row; those that are the same for the whole row count nothing.
    work: usize,
    moving: bool,
    /// The first stage that computes it.
    first: usize,
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Source(Source),
    Constant(Kind, u64),
    Made(Instruction),
}

impl Expressions {
    fn of(nest: &Nest, row: &Range<usize>) -> Self {
        let mut known: HashMap<Key, usize> = HashMap::new();
        let mut made: Vec<Expression> = Vec::new();
        let mut stages = Vec::with_capacity(nest.stages.len());
        for (first, stage) in nest.stages.iter().enumerate() {
            let mut ids: Vec<usize> = Vec::with_capacity(stage.program.instructions().len());
            for instruction in stage.program.instructions() {
                let &Instruction { opcode, kind, dtype, arguments, .. } = instruction;
                let (key, moving, mut work) = match opcode {
                    Opcode::Input => {
                        let source = stage.inputs[arguments[0] as usize];
                        let moving = matches!(source, Source::Read(read) if moves(nest, read, row));
                        (Key::Source(source), moving, usize::from(moving && dtype != kind.dtype()))
                    }
                    Opcode::Constant => {
                        (Key::Constant(kind, stage.program.constant(arguments[0] as usize)), false, 0)
                    }
                    opcode => {
                        let mut copy = *instruction;
                        for argument in &mut copy.arguments[..opcode.arity()] {
                            *argument = ids[*argument as usize] as u32;
                        }
                        if opcode.is_commutative() {
                            copy.arguments[..2].sort_unstable();
                        }
                        let moving = instruction.registers().any(|r| made[ids[r]].moving);
                        let work = if opcode.is_function() { 15 } else { 1 };
                        (Key::Made(copy), moving, if moving { work } else { 0 })
                    }
                };
                for register in instruction.registers() {
                    work = work.saturating_add(made[ids[register]].work);
                }
                let id = *known.entry(key).or_insert_with(|| {
                    made.push(Expression { kind, work, moving, first });
                    made.len() - 1
                });
                ids.push(id);
            }
            stages.push(ids);
        }
        Self { stages, made }
    }

    /// What is kept, and the stage that computes it, in the order of stages.
    fn kept(&self, nest: &Nest) -> Vec<(usize, usize)> {
        let mut kept: Vec<(usize, usize)> = Vec::new();
        for (at, stage) in nest.stages.iter().enumerate() {
            let ids = &self.stages[at];
            let mut pending: Vec<usize> = stage.program.outputs().iter().map(|o| o.register).collect();
            let mut seen = vec![false; ids.len()];
            while let Some(register) = pending.pop() {
                if std::mem::replace(&mut seen[register], true) {
                    continue;
                }
                let expression = &self.made[ids[register]];
                let again = expression.first < at && expression.moving && expression.kind.is_float();
                if again && expression.work >= WORTH_KEEPING {
                    if !kept.iter().any(|k| k.0 == ids[register]) {
                        kept.push((ids[register], expression.first));
                    }
                } else {
                    pending.extend(stage.program.instructions()[register].registers());
                }
            }
        }
        kept.sort_by_key(|k| k.1);
        kept
    }
}
