//! Nests executed point by point from their definition: what every rewrite and every kernel of a nest is judged by.
//! Floats are combined in f64, integers exactly.

use super::nest::{Effect, Fold, Nest, Outside, Source, Stage};
use super::program::{Kind, Value, interpret as evaluate};
use super::sequential::Sequential;
use crate::dtype::DType;

/// An input or output: extents and row-major values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<Value>,
}

impl Operand {
    /// All zeros.
    pub(crate) fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let kind = Kind::of(dtype).expect("a type that programs hold");
        let values = vec![Value::Int(0).to(kind); shape.iter().product()];
        Self { dtype, shape: shape.to_vec(), values }
    }

    /// Position of `index`, where it lies inside.
    fn position(&self, index: impl Iterator<Item = i64>) -> Option<usize> {
        index.zip(&self.shape).try_fold(0, |at, (i, &extent)| {
            let i = usize::try_from(i).ok().filter(|&i| i < extent)?;
            Some(at * extent + i)
        })
    }
}

/// What stages read and write.
struct Memory<'a> {
    inputs: &'a [Operand],
    outputs: Vec<Operand>,
    /// The arrays of a sequential axis, as they were when the pass began, and with what it carries.
    arrays: Vec<Operand>,
    carried: Vec<Operand>,
}

/// Carries out `nest`, whose extents are known, on `inputs`; `outputs` gives types and shapes.
pub(crate) fn interpret(nest: &Nest, inputs: &[Operand], outputs: Vec<Operand>) -> Vec<Operand> {
    let extents: Vec<usize> = nest.axes.iter().map(|d| d.known().expect("extents are known")).collect();
    let mut memory = Memory { inputs, outputs, arrays: Vec::new(), carried: Vec::new() };
    let mut point = vec![0; extents.len()];
    let Some(sequential) = &nest.sequential else {
        let inner: Vec<usize> = nest.stages.iter().flat_map(|s| s.over.iter().copied()).collect();
        let outer: Vec<usize> = (0..extents.len()).filter(|a| !inner.contains(a)).collect();
        run_stages(nest, 0..nest.stages.len(), &extents, &outer, &mut point, &mut memory);
        return memory.outputs;
    };
    memory.arrays = sequential
        .arrays
        .iter()
        .map(|array| match array.initial {
            Some(operand) => inputs[operand].clone(),
            None => {
                let shape: Vec<usize> = array.extents.iter().map(|d| d.known().expect("known")).collect();
                Operand::zeros(array.dtype, &shape)
            }
        })
        .collect();
    for step in 0..extents[sequential.axis] {
        point[sequential.axis] = step;
        let mut first = 0;
        for pass in &sequential.passes {
            memory.carried.clone_from(&memory.arrays);
            run_stages(nest, first..first + pass.stages, &extents, &pass.axes, &mut point, &mut memory);
            std::mem::swap(&mut memory.arrays, &mut memory.carried);
            first += pass.stages;
        }
    }
    for &(output, array) in &sequential.last {
        memory.outputs[output].values.clone_from(&memory.arrays[array].values);
    }
    memory.outputs
}

/// Carries out these stages, one after the other, at every point of the axes `outer`.
fn run_stages(
    nest: &Nest,
    stages: std::ops::Range<usize>,
    extents: &[usize],
    outer: &[usize],
    point: &mut Vec<usize>,
    memory: &mut Memory<'_>,
) {
    walk(extents, outer, point, &mut |point| {
        let mut folds = vec![Value::Int(0); nest.stages.len()];
        for at in stages.clone() {
            folds[at] = run_stage(nest, &nest.stages[at], extents, point, &folds, memory);
        }
    });
}

/// Every point of the axes `over`, the last of them fastest.
fn walk(extents: &[usize], over: &[usize], point: &mut Vec<usize>, visit: &mut dyn FnMut(&mut Vec<usize>)) {
    let Some((&axis, rest)) = over.split_first() else {
        visit(point);
        return;
    };
    for i in 0..extents[axis] {
        point[axis] = i;
        walk(extents, rest, point, visit);
    }
    point[axis] = 0;
}

/// Runs one stage at a point of the outer axes; the value of a fold, or zero for a store.
fn run_stage(
    nest: &Nest,
    stage: &Stage,
    extents: &[usize],
    point: &mut Vec<usize>,
    folds: &[Value],
    memory: &mut Memory<'_>,
) -> Value {
    let mut folded: Option<Value> = None;
    walk(extents, &stage.over, point, &mut |point| {
        let mut given = Vec::with_capacity(stage.inputs.len());
        for source in &stage.inputs {
            let value = match source {
                Source::Fold(index) => folds[*index],
                Source::Read(index) => {
                    let read = &nest.reads[*index];
                    let operand = match read.operand.checked_sub(Sequential::FIRST_ARRAY) {
                        Some(array) => &memory.arrays[array],
                        None => &memory.inputs[read.operand],
                    };
                    let at = operand.position(read.index.iter().map(|a| a.at(point)));
                    match (at, read.outside) {
                        (Some(at), _) => operand.values[at],
                        (None, Outside::Value(v)) => {
                            Value::Float(v).to(Kind::of(operand.dtype).expect("a type that programs hold"))
                        }
                        (None, Outside::Skipped) => return,
                        (None, Outside::Never) => {
                            panic!("read {index} of {nest:?} leaves its operand at {point:?}")
                        }
                    }
                }
            };
            given.push(value);
        }
        let made = evaluate(&stage.program, &given);
        match &stage.effect {
            Effect::Fold(fold) => {
                folded = Some(folded.map_or_else(
                    || combine(*fold, identity(*fold, made[0]), made[0]),
                    |f| combine(*fold, f, made[0]),
                ));
            }
            Effect::Store(index) => {
                for (output, value) in memory.outputs.iter_mut().zip(made) {
                    let at = output.position(index.iter().map(|a| a.at(point)));
                    output.values[at.expect("a store lies inside its output")] = value;
                }
            }
            Effect::Carry(array, index) => {
                let array = &mut memory.carried[*array];
                let at = array.position(index.iter().map(|a| a.at(point)));
                array.values[at.expect("what is carried lies inside its array")] = made[0];
            }
        }
    });
    match (&stage.effect, folded) {
        (_, Some(value)) => value,
        (Effect::Fold(fold), None) => {
            let kind = Kind::of(stage.program.outputs()[0].dtype).expect("a type that programs hold");
            let zero = if kind.is_float() { Value::Float(0.0) } else { Value::Int(0) };
            identity(*fold, zero)
        }
        (Effect::Store(_) | Effect::Carry(..), None) => Value::Int(0),
    }
}

/// The value of a fold of nothing, of the sort of `like`.
fn identity(fold: Fold, like: Value) -> Value {
    match (fold, like) {
        (Fold::Sum, Value::Float(_)) => Value::Float(0.0),
        (Fold::Product, Value::Float(_)) => Value::Float(1.0),
        (Fold::Max, Value::Float(_)) => Value::Float(f64::NEG_INFINITY),
        (Fold::Min, Value::Float(_)) => Value::Float(f64::INFINITY),
        (Fold::Sum, _) => Value::Int(0),
        (Fold::Product, _) => Value::Int(1),
        (Fold::Max, _) => Value::Int(i128::MIN),
        (Fold::Min, _) => Value::Int(i128::MAX),
    }
}

fn combine(fold: Fold, a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Value::Float(match fold {
            Fold::Sum => a + b,
            Fold::Product => a * b,
            Fold::Max if a.is_nan() || b.is_nan() => f64::NAN,
            Fold::Min if a.is_nan() || b.is_nan() => f64::NAN,
            Fold::Max => a.max(b),
            Fold::Min => a.min(b),
        }),
        (Value::Int(a), Value::Int(b)) => Value::Int(match fold {
            Fold::Sum => a + b,
            Fold::Product => a.wrapping_mul(b),
            Fold::Max => a.max(b),
            Fold::Min => a.min(b),
        }),
        (a, b) => panic!("{fold:?} of {a:?} and {b:?}"),
    }
}
