//! Nests against their definition: floats in f64, integers exactly.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::program::Program;
use super::map::value::{Float, Int, Value, bits, bytes, held, parse, rounded};
use crate::dtype::DType;
use crate::map::Source;
use crate::nest::{
    Affine, Buffers, Code, Effect, Fold, From, Nest, Outside, Read, Stage, Target, VARIANTS, Variant,
};
use crate::program::{Kind, Opcode};

const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const INTS: [DType; 5] = [DType::I8, DType::U8, DType::I32, DType::I64, DType::U64];

/// One stage under construction.
struct Plan {
    over: Vec<usize>,
    program: Program,
    inputs: Vec<From>,
    effect: Effect,
}

/// A nest under construction, and what its reads hold.
struct Problem {
    extents: Vec<u64>,
    reads: Vec<Read>,
    stages: Vec<Plan>,
    outputs: Vec<Target>,
    /// By input.
    values: Vec<Vec<Value>>,
}

fn affine(offset: i64, terms: &[(usize, i64)]) -> Affine {
    Affine { offset, terms: terms.to_vec() }
}

fn at(affine: &Affine, point: &[u64]) -> i64 {
    affine.terms.iter().fold(affine.offset, |sum, &(axis, k)| sum + k * point[axis] as i64)
}

/// A value whose sums neither cancel nor overflow much.
fn value(r: &mut Draw, dtype: DType) -> Value {
    let signed = dtype.is_float() || dtype.is_signed_int();
    let value = if dtype.is_float() {
        Float((r.unit() * 2.0).into())
    } else {
        Int(i128::from(r.within(0..=20)) - if signed { 10 } else { 0 })
    };
    held(dtype, value)
}

/// A program of a few exact instructions over `inputs` of these kinds and storage types, its result of `kind`.
fn program(r: &mut Draw, inputs: &[(DType, Kind)], kind: Kind, stored: &[DType]) -> Program {
    let mut program = Program::default();
    let mut registers = Vec::new();
    if r.within(0..=5) == 0 {
        // Nothing is read: what is combined is how many points count.
        let one = if kind.is_float() { Float(1.0) } else { Int(1) };
        let constant = program.constant(kind, one);
        program.outputs = stored.iter().map(|&dtype| (constant, dtype)).collect();
        return program;
    }
    for (number, &(dtype, of)) in inputs.iter().enumerate() {
        let mut x = program.input(number as u32, dtype);
        if of != kind {
            x = program.push(Opcode::Convert, kind, of, kind.dtype(), [x as u32, 0, 0]);
        }
        registers.push(x);
    }
    let mut last = registers[0];
    for (number, &register) in registers.iter().enumerate() {
        if number > 0 {
            let opcode = r.pick(&[Opcode::Add, Opcode::Sub, Opcode::Max]);
            last = program.call(opcode, &[last, register]);
        }
        match r.within(0..=3) {
            0 => last = program.call(Opcode::Neg, &[last]),
            1 => last = program.call(Opcode::Abs, &[last]),
            _ => {}
        }
    }
    program.outputs = stored.iter().map(|&dtype| (last, dtype)).collect();
    program
}

impl Problem {
    /// Windows of one operand, rows of another, perhaps; one or two folds, and a store over the loops inside or none.
    fn draw(r: &mut Draw) -> Self {
        let float = r.within(0..=2) > 0;
        let types: &[DType] = if float { &FLOATS } else { &INTS };
        let output = r.pick(types);
        let like: Vec<DType> = types.iter().copied().filter(|&d| Kind::of(d) == Kind::of(output)).collect();
        let kind = Kind::of(output).unwrap_or(Kind::F32);
        let outer = r.within(0..=2) as usize;
        let inner = r.within(1..=2) as usize;
        let mut extents: Vec<u64> = (0..outer).map(|_| r.edge(&[1, 3, 33], 1..=9).into()).collect();
        extents.extend((0..inner).map(|_| u64::from(r.edge(&[1, 2, 31, 32, 33, 70], 1..=6))));
        let over: Vec<usize> = (outer..outer + inner).collect();
        // Windows: the first axes move them, the axes inside go along them.
        let outside = r.pick(&[Outside::Never, Outside::Skipped, Outside::Value(3.0), Outside::Skipped]);
        let (mut shape, mut index) = (Vec::new(), Vec::new());
        for axis in 0..outer.max(inner) {
            let (step, dilation) = (i64::from(r.within(0..=2)), i64::from(r.within(1..=2)));
            let mut terms = Vec::new();
            if axis < outer && step > 0 {
                terms.push((axis, step));
            }
            if axis < inner {
                terms.push((outer + axis, dilation));
            }
            let reach = terms.iter().fold(1, |n, &(axis, k)| n + k * (extents[axis] as i64 - 1));
            let (begin, extent) = match outside {
                Outside::Never => (0, reach + i64::from(r.within(0..=1))),
                _ => (i64::from(r.within(0..=3)), (reach - i64::from(r.within(0..=4))).max(1)),
            };
            shape.push(extent as u64);
            index.push(affine(-begin, &terms));
        }
        let mut reads = vec![Read { input: 0, dtype: r.pick(&like), shape, index, outside }];
        if r.bool() {
            let dense: Vec<Affine> = (0..extents.len()).map(|axis| affine(0, &[(axis, 1)])).collect();
            let (dtype, shape) = (r.pick(&like), extents.clone());
            reads.push(Read { input: 1, dtype, shape, index: dense, outside: Outside::Never });
        }
        let of = |read: usize| (From::Read(read), (reads[read].dtype, kind));
        let fold_of = |fold: usize| (From::Fold(fold), (kind.dtype(), kind));
        let mut stages = Vec::new();
        for number in 0..r.within(1..=2) as usize {
            let mut sources = vec![of(0)];
            sources.extend((reads.len() > 1 && r.bool()).then(|| of(1)));
            sources.extend((number > 0).then(|| fold_of(0)));
            let (inputs, types): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
            let fold = r.pick(&[Fold::Sum, Fold::Sum, Fold::Max, Fold::Min, Fold::Product]);
            // Products of so many factors leave the range of floats.
            let fold = if fold == Fold::Product && kind.is_float() { Fold::Sum } else { fold };
            let program = program(r, &types, kind, &[kind.dtype()]);
            stages.push(Plan { over: over.clone(), program, inputs, effect: Effect::Fold(fold) });
        }
        let mut sources = vec![fold_of(stages.len() - 1)];
        let wide = reads.len() > 1 && r.bool();
        sources.extend(wide.then(|| of(1)));
        sources.extend((stages.len() > 1).then(|| fold_of(0)));
        let stored: Vec<DType> = (0..r.within(1..=2)).map(|_| r.pick(&like)).collect();
        let (inputs, types): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let program = program(r, &types, kind, &stored);
        let axes = if wide { extents.len() } else { outer };
        let effect = Effect::Store((0..axes).map(|axis| affine(0, &[(axis, 1)])).collect());
        stages.push(Plan { over: if wide { over } else { Vec::new() }, program, inputs, effect });
        let outputs: Vec<Target> =
            stored.iter().map(|&dtype| Target { dtype, shape: extents[..axes].to_vec() }).collect();
        let values = reads
            .iter()
            .map(|read| (0..read.shape.iter().product()).map(|_| value(r, read.dtype)).collect())
            .collect();
        Self { extents, reads, stages, outputs, values }
    }

    /// The value of a read at a point; `None` where the point is left out.
    fn read(&self, read: &Read, point: &[u64], kind: Kind) -> Option<Value> {
        let mut place = 0;
        for (index, &extent) in read.index.iter().zip(&read.shape) {
            let at = at(index, point);
            if at < 0 || at >= extent as i64 {
                return match read.outside {
                    Outside::Value(v) if kind.is_float() => Some(Float(v)),
                    Outside::Value(v) => Some(Int(v as i128)),
                    _ => None,
                };
            }
            place = place * extent as usize + at as usize;
        }
        Some(self.values[read.input][place])
    }

    /// Every output, by the definition, with the number of terms that its sums have at most.
    fn expected(&self) -> Vec<Vec<Value>> {
        let inner: Vec<usize> = self.stages.iter().flat_map(|s| s.over.clone()).collect();
        let outer: Vec<usize> = (0..self.extents.len()).filter(|axis| !inner.contains(axis)).collect();
        let mut made: Vec<Vec<Value>> =
            self.outputs.iter().map(|t| vec![Int(0); t.shape.iter().product::<u64>() as usize]).collect();
        for start in points(&self.extents, &outer, &vec![0; self.extents.len()]) {
            let mut folds: Vec<Value> = Vec::new();
            for stage in &self.stages {
                let mut total: Option<Value> = None;
                let kind = stage.program.instructions[stage.program.outputs[0].0].kind;
                for point in points(&self.extents, &stage.over, &start) {
                    let given = stage.inputs.iter().map(|from| match from {
                        From::Fold(fold) => Some(folds[*fold]),
                        From::Read(read) => self.read(&self.reads[*read], &point, kind),
                    });
                    let Some(given) = given.collect::<Option<Vec<Value>>>() else { continue };
                    let values = stage.program.run(&given);
                    match &stage.effect {
                        Effect::Fold(fold) => {
                            total = Some(total.map_or(values[0], |t| combine(*fold, t, values[0], kind)));
                        }
                        Effect::Store(index) => {
                            for ((made, target), value) in made.iter_mut().zip(&self.outputs).zip(values) {
                                let place = index.iter().zip(&target.shape);
                                let place =
                                    place.fold(0, |n, (i, &e)| n * e as usize + at(i, &point) as usize);
                                made[place] = value;
                            }
                        }
                    }
                }
                folds.push(match (&stage.effect, total) {
                    (_, Some(value)) => value,
                    (Effect::Fold(fold), None) => nothing(*fold, kind),
                    _ => Int(0),
                });
            }
        }
        made
    }
}

/// Every point of the axes `over`, from `start` on.
fn points(extents: &[u64], over: &[usize], start: &[u64]) -> Vec<Vec<u64>> {
    let mut all = vec![start.to_vec()];
    for &axis in over {
        let moved = |point: &Vec<u64>| {
            let point = point.clone();
            (0..extents[axis]).map(move |i| {
                let mut point = point.clone();
                point[axis] = i;
                point
            })
        };
        all = all.iter().flat_map(moved).collect();
    }
    all
}

fn combine(fold: Fold, a: Value, b: Value, kind: Kind) -> Value {
    match (a, b) {
        (Float(a), Float(b)) => Float(match fold {
            Fold::Sum => a + b,
            Fold::Product => a * b,
            Fold::Max => a.max(b),
            Fold::Min => a.min(b),
        }),
        (Int(a), Int(b)) => {
            let made = match fold {
                Fold::Sum => a + b,
                Fold::Product => a.wrapping_mul(b),
                Fold::Max => a.max(b),
                Fold::Min => a.min(b),
            };
            rounded(kind, Int(made))
        }
        other => panic!("{other:?}"),
    }
}

/// A fold of nothing.
fn nothing(fold: Fold, kind: Kind) -> Value {
    let (bits, signed) = (kind.dtype().bits(), kind.dtype().is_signed_int());
    match fold {
        Fold::Sum if kind.is_float() => Float(0.0),
        Fold::Product if kind.is_float() => Float(1.0),
        Fold::Max if kind.is_float() => Float(f64::NEG_INFINITY),
        Fold::Min if kind.is_float() => Float(f64::INFINITY),
        Fold::Sum => Int(0),
        Fold::Product => Int(1),
        Fold::Max if signed => Int(-(1 << (bits - 1))),
        Fold::Max => Int(0),
        Fold::Min if signed => Int((1 << (bits - 1)) - 1),
        Fold::Min => Int((1 << bits) - 1),
    }
}

/// Whether sums of `terms` terms, themselves perhaps of such sums, are as close as they can be held to be.
fn near(dtype: DType, got: Value, want: Value, terms: f64) -> bool {
    let (Float(got), Float(want)) = (got, want) else { return got == want };
    let ulp = match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => f32::EPSILON.into(),
    };
    let small = if dtype == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
    let equal = got == want || (got.is_nan() && want.is_nan());
    equal || (got - want).abs() <= ulp * want.abs() + 16.0 * small * terms * terms
}

fn check(r: &mut Draw, lab: &mut Lab<'_>, forced: Option<&Variant>) -> Result<(), Failure> {
    let problem = Problem::draw(r);
    let bits_of = |plan: &Plan| plan.program.constants.iter().map(|&(kind, v)| bits(kind, v)).collect();
    let constants: Vec<Vec<u64>> = problem.stages.iter().map(bits_of).collect();
    let stages: Vec<Stage<'_>> = problem
        .stages
        .iter()
        .zip(&constants)
        .map(|(plan, constants)| Stage {
            over: plan.over.clone(),
            program: Source {
                instructions: &plan.program.instructions,
                constants,
                outputs: &plan.program.outputs,
            },
            inputs: plan.inputs.clone(),
            effect: plan.effect.clone(),
        })
        .collect();
    let nest =
        Nest { extents: &problem.extents, reads: &problem.reads, stages: &stages, outputs: &problem.outputs };
    let code = Code::new(&nest)?;
    let mut inputs = Vec::new();
    for (read, values) in problem.reads.iter().zip(&problem.values) {
        let all: Vec<u8> = values.iter().flat_map(|&value| bytes(read.dtype, value)).collect();
        inputs.push(lab.upload("input", &all)?);
    }
    let width = |dtype: DType| dtype.bits() as u64 / 8;
    let mut outputs = Vec::new();
    for target in &problem.outputs {
        outputs.push(lab.room("output", target.shape.iter().product::<u64>() * width(target.dtype))?);
    }
    let variant = match forced {
        Some(variant) if crate::launch::Variant::accepts(variant, &code).is_ok() => variant,
        _ => VARIANTS.choose(&code)?,
    };
    let buffers = Buffers { code: lab.upload("code", &code.bytes())?, inputs: &inputs, outputs: &outputs };
    lab.run(variant.prepare(&code, &buffers, &lab.device())?)?;
    let inside: u64 = problem.stages[0].over.iter().map(|&axis| problem.extents[axis]).product();
    for ((target, buffer), want) in problem.outputs.iter().zip(&outputs).zip(problem.expected()) {
        let got = lab.bytes(*buffer)?;
        for (place, (got, want)) in got.chunks(width(target.dtype) as usize).zip(want).enumerate() {
            let got = parse(target.dtype, got);
            if !near(target.dtype, got, want, inside as f64) {
                let what = format!("{}: {nest:?} at {place}: {got:?} instead of {want:?}", variant.id);
                return Err(Failure::Wrong(what));
            }
        }
    }
    Ok(())
}

/// Random nests, by the variant that suits them.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    check(r, lab, None)
}

/// Every variant in turn, where it computes what is drawn.
pub(super) fn variants(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    check(r, lab, Some(&VARIANTS.0[number as usize % VARIANTS.0.len()]))
}
