//! From declared inputs with symbolic dimensions to shapes: `--dim` first, then the arrays that are given, then 1.

use crate::failure::UsageError;
use recurve::model::{Dim, Fact, ValueSpec};
use std::collections::BTreeMap;
use std::str::FromStr;

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
        let extent = extent
            .trim()
            .parse()
            .map_err(|_| format!("`{extent}` is no extent: a whole number below 2^64"))?;
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
    let known = symbols(specs);
    let mut bound: BTreeMap<&str, usize> = BTreeMap::new();
    for Binding { name, extent } in bindings {
        if !known.contains(name) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!("the model's inputs have no free dimension `{name}`; they have {known}");
            return Err(
                UsageError::new(problem).hint("--dim binds what `recurve inspect MODEL` lists as dims")
            );
        }
        if bound.insert(name, *extent).is_some_and(|previous| previous != *extent) {
            return Err(UsageError::new(format!("--dim binds `{name}` twice")));
        }
    }
    for (spec, shape) in specs.iter().zip(given) {
        if let (Some(dims), Some(shape)) = (dims(&spec.fact), shape) {
            for (dim, &extent) in dims.iter().zip(*shape) {
                if let Some(symbol) = dim.as_symbol() {
                    if let Some(told) = bindings.iter().find(|b| b.name == symbol && b.extent != extent) {
                        let problem =
                            format!("--dim says {symbol}={}, `{}` has {extent}", told.extent, spec.name);
                        return Err(
                            UsageError::new(problem).hint("arrays bind their dimensions by themselves")
                        );
                    }
                    bound.entry(symbol).or_insert(extent);
                }
            }
        }
    }
    let mut made = Shapes::default();
    for (spec, given) in specs.iter().zip(given) {
        let extent = |dim: &Dim| {
            dim.known().or_else(|| bound.get(dim.as_symbol()?).copied()).unwrap_or_else(|| {
                let name = dim.to_string();
                if !made.assumed.contains(&name) {
                    made.assumed.push(name);
                }
                1
            })
        };
        let shape = match given {
            Some(shape) => Some(shape.to_vec()),
            None => dims(&spec.fact).map(|dims| dims.iter().map(extent).collect()),
        };
        made.shapes.push(shape);
    }
    Ok(made)
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
