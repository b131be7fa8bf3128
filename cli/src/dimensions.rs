//! From declared inputs with symbolic dimensions to shapes: `--dim` first, then the arrays that are given, then 1.

use crate::failure::UsageError;
use recurve::{Dim, Fact, ValueSpec};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// One `NAME=N` of `--dim`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Binding {
    name: String,
    extent: usize,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, extent) = text.rsplit_once('=').ok_or("NAME=N is needed, such as batch=1")?;
        let extent = extent.trim().parse().map_err(|_| format!("`{extent}` is no size"))?;
        match name.trim() {
            "" => Err("a name is needed before `=`".to_owned()),
            name => Ok(Self { name: name.to_owned(), extent }),
        }
    }
}

/// Shapes for the inputs of a model.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// By input; `None` where the input is no tensor or its rank is unknown.
    pub(crate) shapes: Vec<Option<Vec<usize>>>,
    /// Dimensions that nothing bound and that were taken as 1.
    pub(crate) assumed: Vec<String>,
}

/// Shapes of the inputs `specs`. The arrays in `given`, by input, keep their shapes and bind symbols too.
pub(crate) fn resolve(
    specs: &[ValueSpec],
    bindings: &[Binding],
    given: &[Option<&[usize]>],
) -> Result<Shapes, UsageError> {
    let declared: Vec<Option<&[Dim]>> = specs.iter().map(|spec| dims(&spec.fact)).collect();
    let mut symbols: BTreeMap<&str, usize> = BTreeMap::new();
    let mut axes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for binding in bindings {
        let previous = match find(specs, &declared, &binding.name)? {
            Target::Symbol => symbols.insert(&binding.name, binding.extent),
            Target::Axis(input, axis) => axes.insert((input, axis), binding.extent),
        };
        if previous.is_some_and(|extent| extent != binding.extent) {
            return Err(UsageError::new(format!("--dim binds `{}` twice", binding.name)));
        }
    }
    for (dims, shape) in declared.iter().zip(given) {
        if let (Some(dims), Some(shape)) = (dims, shape) {
            for (dim, &extent) in dims.iter().zip(*shape) {
                if let Some(symbol) = dim.as_symbol() {
                    symbols.entry(symbol).or_insert(extent);
                }
            }
        }
    }
    let mut made = Shapes::default();
    for (input, dims) in declared.iter().enumerate() {
        if let Some(shape) = given.get(input).copied().flatten() {
            made.shapes.push(Some(shape.to_vec()));
            continue;
        }
        let extent = |(axis, dim): (usize, &Dim)| {
            let bound = axes.get(&(input, axis)).copied();
            let bound = bound.or(dim.known()).or_else(|| symbols.get(dim.as_symbol()?).copied());
            bound.unwrap_or_else(|| {
                let name = match dim.as_symbol() {
                    Some(symbol) => symbol.to_owned(),
                    None => axis_name(&specs[input].name, axis),
                };
                if !made.assumed.contains(&name) {
                    made.assumed.push(name);
                }
                1
            })
        };
        let shape = dims.map(|dims| dims.iter().enumerate().map(extent).collect());
        made.shapes.push(shape);
    }
    Ok(made)
}

enum Target {
    Symbol,
    /// Of an input, an axis without a name.
    Axis(usize, usize),
}

fn find(specs: &[ValueSpec], declared: &[Option<&[Dim]>], name: &str) -> Result<Target, UsageError> {
    let all = || declared.iter().flatten().flat_map(|dims| dims.iter());
    if all().any(|dim| dim.as_symbol() == Some(name)) {
        return Ok(Target::Symbol);
    }
    if let Some((input, axis)) = name.rsplit_once(':') {
        let input = specs.iter().position(|spec| &*spec.name == input);
        let dim = input.zip(axis.parse().ok());
        let dim = dim.filter(|&(i, axis): &(usize, usize)| {
            declared[i].and_then(|dims| dims.get(axis)) == Some(&Dim::Unknown)
        });
        if let Some((input, axis)) = dim {
            return Ok(Target::Axis(input, axis));
        }
    }
    let mut known: Vec<String> = all().filter_map(|dim| dim.as_symbol().map(str::to_owned)).collect();
    for (spec, dims) in specs.iter().zip(declared) {
        for (axis, dim) in dims.unwrap_or_default().iter().enumerate() {
            if *dim == Dim::Unknown {
                known.push(axis_name(&spec.name, axis));
            }
        }
    }
    known.sort();
    known.dedup();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(UsageError::new(format!("the model's inputs have no free dimension `{name}`; they have {known}"))
        .hint("`recurve inspect MODEL` lists the dimensions that --dim binds"))
}

fn axis_name(input: &Arc<str>, axis: usize) -> String {
    format!("{input}:{axis}")
}

fn dims(fact: &Fact) -> Option<&[Dim]> {
    fact.tensor()?.shape.as_deref()
}

/// The symbols of the inputs in order.
pub(crate) fn symbols(specs: &[ValueSpec]) -> Vec<String> {
    let mut symbols: Vec<String> = Vec::new();
    for dim in specs.iter().filter_map(|spec| dims(&spec.fact)).flatten() {
        if let Some(symbol) = dim.as_symbol().filter(|symbol| !symbols.iter().any(|s| s == symbol)) {
            symbols.push(symbol.to_owned());
        }
    }
    symbols
}
