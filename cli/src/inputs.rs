//! The inputs of a run: those of an NPZ file, the rest drawn from a seed.

use crate::arguments::InputArguments;
use crate::dimensions::resolve;
use crate::failure::UsageError;
use crate::npz;
use crate::terminal::Terminal;
use anyhow::Result;
use half::{bf16, f16};
use recurve::model::Fact;
use recurve::testing::Gen;
use recurve::values::Bool;
use recurve::{DType, Element, Session, Tensor, Value};

/// One input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// Where an input comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    File,
    Seed,
}

/// All inputs of the model.
pub(crate) fn prepare(
    session: &Session,
    arguments: &InputArguments,
    terminal: &Terminal,
) -> Result<Vec<Input>> {
    let specs = session.inputs();
    let mut inputs: Vec<Input> = Vec::with_capacity(specs.len());
    if let Some(path) = &arguments.inputs {
        if path.is_dir() {
            return Err(UsageError::new(format!("`{}` is a folder", path.display()))
                .hint("--inputs takes an NPZ file; `recurve check --onnx-test` takes folders of the ONNX backend suite")
                .into());
        }
        for (name, tensor) in npz::read(path)? {
            if !specs.iter().any(|spec| *spec.name == *name) {
                let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
                let problem = format!(
                    "`{}` holds `{name}`, which is no input of the model: {}",
                    path.display(),
                    names.join(", ")
                );
                return Err(UsageError::new(problem)
                    .hint("--inputs takes arrays named as the inputs: `numpy.savez(file, name=array)` names them")
                    .into());
            }
            inputs.push(Input { name, value: tensor.into(), source: Source::File });
        }
    }
    let from_file = |name: &str| inputs.iter().find(|input| input.name == name);
    let given: Vec<Option<&[usize]>> =
        specs.iter().map(|spec| Some(from_file(&spec.name)?.value.as_tensor()?.shape())).collect();
    let resolved = resolve(specs, &arguments.dimensions.bindings, &given)?;
    let mut drawn = Vec::new();
    for (spec, shape) in specs.iter().zip(&resolved.shapes) {
        if from_file(&spec.name).is_some() {
            continue;
        }
        let value = match (&spec.fact, shape) {
            (Fact::Tensor(fact), Some(shape)) => {
                draw(&mut generator(arguments.seed, &spec.name), fact.dtype, shape, &spec.name)?.into()
            }
            (Fact::Tensor(_), None) => return Err(undrawable(&spec.name, "its rank is not known").into()),
            (Fact::Sequence(_), _) => return Err(undrawable(&spec.name, "it is a sequence").into()),
            (Fact::Optional(_), _) => Value::Optional(None),
        };
        if is_single_integer(&spec.fact) {
            terminal.narrate(format!(
                "note: input `{}` is a single integer and was drawn as 0 or 1: give it with --inputs where it is a rate, a \
                 length or the like",
                spec.name
            ));
        }
        tracing::debug!(input = %spec.name, ?value, seed = arguments.seed, "drawn");
        drawn.push(Input { name: spec.name.to_string(), value, source: Source::Seed });
    }
    if !resolved.assumed.is_empty() {
        let names = resolved.assumed.join(", ");
        terminal.narrate(format!("note: taken as 1, since --dim does not bind them: {names}"));
    }
    inputs.extend(drawn);
    Ok(inputs)
}

/// Whether a value is one integer, whatever is bound: such inputs choose what a model does.
fn is_single_integer(fact: &Fact) -> bool {
    let Some(fact) = fact.tensor() else { return false };
    let one = fact.shape.as_ref().is_some_and(|dims| dims.iter().all(|dim| dim.known() == Some(1)));
    one && matches!(fact.dtype, DType::I16 | DType::I32 | DType::I64 | DType::U16 | DType::U32 | DType::U64)
}

/// The draws of one input: they depend on the seed and its name, not on what else is drawn.
fn generator(seed: u64, name: &str) -> Gen {
    // FNV-1a.
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    Gen::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash)
}

fn undrawable(name: &str, why: &str) -> UsageError {
    UsageError::new(format!("input `{name}` cannot be drawn: {why}")).hint("give it with --inputs")
}

/// Floats from -1 to 1, 8-bit integers (images, quantised data) of any value, wider ones (indices, lengths,
/// masks) 0 or 1, so that few models refuse them.
fn draw(random: &mut Gen, dtype: DType, shape: &[usize], name: &str) -> Result<Tensor> {
    Ok(match dtype {
        DType::F32 => filled(shape, name, || random.float(-1.0, 1.0) as f32)?,
        DType::F64 => filled(shape, name, || random.float(-1.0, 1.0))?,
        DType::F16 => filled(shape, name, || f16::from_f64(random.float(-1.0, 1.0)))?,
        DType::BF16 => filled(shape, name, || bf16::from_f64(random.float(-1.0, 1.0)))?,
        DType::I8 => filled(shape, name, || random.bits() as i8)?,
        DType::U8 => filled(shape, name, || random.bits() as u8)?,
        DType::I16 => filled(shape, name, || random.int(0, 1) as i16)?,
        DType::I32 => filled(shape, name, || random.int(0, 1) as i32)?,
        DType::I64 => filled(shape, name, || random.int(0, 1))?,
        DType::U16 => filled(shape, name, || random.int(0, 1) as u16)?,
        DType::U32 => filled(shape, name, || random.int(0, 1) as u32)?,
        DType::U64 => filled(shape, name, || random.int(0, 1) as u64)?,
        DType::Bool => filled(shape, name, || Bool::new(random.chance(0.5)))?,
        other => return Err(undrawable(name, &format!("it is {other}")).into()),
    })
}

fn filled<T: Element>(shape: &[usize], name: &str, draw: impl FnMut() -> T) -> Result<Tensor> {
    let too_large = || {
        UsageError::new(format!("input `{name}` of shape {shape:?} does not fit into memory"))
            .hint("bind smaller dimensions with --dim")
    };
    let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).ok_or_else(too_large)?;
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| too_large())?;
    elements.resize_with(count, draw);
    Ok(Tensor::new(shape, elements)?)
}
