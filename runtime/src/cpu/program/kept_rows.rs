//! Where rows lie that stages keep for later ones: in scratch memory, or in the output that is made of them.
//!
//! A row of floats waits in an output where its only reader multiplies it by one element and that product is the output:
//! softmax keeps its exponentials so. They are written while the loop that makes them computes, instead of by one that
//! does little else, and rows that are worked on at once take less of the first cache.

use super::compile::uniform;
use super::compiled::Reach;
use super::row_layout::RowLayout;
use crate::loops::program::{Instruction, Kind, Opcode};
use crate::loops::rows::{Extent, RowProgram, Stage};

/// How the program of a stage that runs over rows, or `once` per row, reads the nest's inputs, the rows that were kept
/// ahead of it, of which those in `there` lie where it writes, and the scalars that were made.
pub(super) fn reaches(
    layouts: &[RowLayout],
    once: bool,
    there: impl IntoIterator<Item = bool>,
    scalars: usize,
) -> Vec<Reach> {
    // A stage that runs once per row runs over the rows as others do over their elements.
    let of_row = if once { Reach::Run } else { Reach::One };
    let of_input = |l: &RowLayout| match l.reach() {
        Reach::One => of_row,
        _ if once => Reach::Run,
        reach => reach,
    };
    let mut reaches: Vec<Reach> = layouts.iter().map(of_input).collect();
    reaches.extend(there.into_iter().map(|there| if there { Reach::There } else { Reach::Run }));
    reaches.extend(std::iter::repeat_n(of_row, scalars));
    reaches
}

/// For each row that is kept, in order, the stage that reads it and the output in which it waits, where it waits in one.
pub(super) fn in_outputs(program: &RowProgram, layouts: &[RowLayout]) -> Vec<Option<(usize, usize)>> {
    let mut found = Vec::new();
    for (at, stage) in program.stages.iter().enumerate() {
        for own in 0..stage.kept {
            let dtype = stage.program.outputs()[stage.passing + own].dtype;
            let input = program.inputs.len() + found.len();
            let mut readers =
                (at + 1..program.stages.len()).filter(|&k| reads(&program.stages[k], input) > 0);
            let only = readers.next().filter(|_| readers.next().is_none());
            found.push(only.and_then(|reader| {
                let kept: usize = program.stages[..reader].iter().map(|s| s.kept).sum();
                let made = program.stages[..reader].iter().map(scalars).sum();
                let reaches = reaches(layouts, false, std::iter::repeat_n(false, kept), made);
                let output = scaled(&program.stages[reader], input, &reaches)?;
                (program.outputs[output].dtype == dtype).then_some((reader, output))
            }));
        }
    }
    found
}

/// Scalars that a stage makes.
fn scalars(stage: &Stage) -> usize {
    match stage.extent {
        Extent::Row => stage.reduced.len(),
        Extent::Once { scalars } => scalars,
    }
}

/// How many instructions of a stage are its input `input`.
fn reads(stage: &Stage, input: usize) -> usize {
    let is = |i: &&Instruction| i.opcode == Opcode::Input && i.arguments[0] as usize == input;
    stage.program.instructions().iter().filter(is).count()
}

/// The nest's output that is `input` times one element, where nothing else of the stage reads either.
fn scaled(stage: &Stage, input: usize, reaches: &[Reach]) -> Option<usize> {
    let instructions = stage.program.instructions();
    if stage.extent != Extent::Row || reads(stage, input) != 1 {
        return None;
    }
    let is = |i: &Instruction| i.opcode == Opcode::Input && i.arguments[0] as usize == input;
    let register = instructions.iter().position(is)?;
    let readers_of = |register: usize| {
        let all = instructions.iter().enumerate();
        all.flat_map(move |(k, i)| i.registers().filter(move |&r| r == register).map(move |_| k))
    };
    let stored = |register: usize| {
        let outputs = stage.program.outputs().iter().enumerate();
        outputs.filter(move |(_, o)| o.register == register).map(|(k, _)| k)
    };
    let mut readers = readers_of(register);
    let (product, None, 0) = (readers.next()?, readers.next(), stored(register).count()) else { return None };
    let Instruction { opcode: Opcode::Mul, kind: Kind::F32 | Kind::F64, .. } = instructions[product] else {
        return None;
    };
    let one = uniform(&stage.program, reaches);
    let mut outputs = stored(product);
    let (output, None, 0) = (outputs.next()?, outputs.next(), readers_of(product).count()) else {
        return None;
    };
    let lead = stage.passing + stage.kept;
    let target = stage.stored.get(output.checked_sub(lead)?)?;
    instructions[product].registers().any(|r| one[r]).then_some(*target)
}
