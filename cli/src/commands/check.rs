//! `recurve check`: compares a model's outputs with expected ones.

use super::DOCUMENT_VERSION;
use crate::arguments::{ExecutionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::exit::Exit;
use crate::failure::UsageError;
use crate::inputs::Source;
use crate::quantity::plural;
use crate::table::table;
use crate::terminal::Terminal;
use crate::{inputs, npz, onnx_test};
use anyhow::Result;
use recurve::testing::{Mismatch, Tolerance, compare};
use recurve::{RunOptions, Session, Value};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve check model.onnx --inputs x.npz --expect y.npz --rtol 1e-4")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    execution: ExecutionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    #[command(flatten)]
    time: TimeArguments,
    /// NPZ file with the expected outputs by name; not with --onnx-test
    #[arg(long, value_name = "F.npz", help_heading = "Comparison")]
    expect: Option<PathBuf>,
    /// Folder with test_data_set_*, or one such folder, as in the ONNX backend suite; it has inputs and outputs, so that
    /// --inputs, --expect, --dim and --seed do not go with it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["expect", "inputs", "bindings", "seed"])]
    #[arg(help_heading = "Comparison")]
    onnx_test: Option<PathBuf>,
    /// Floats may differ by this share of the expected value
    #[arg(long, value_name = "X", default_value_t = 1e-3, value_parser = parse_tolerance)]
    #[arg(allow_negative_numbers = true, help_heading = "Comparison")]
    rtol: f64,
    /// Floats may differ by this much more, whatever the value
    #[arg(long, value_name = "X", default_value_t = 1e-5, value_parser = parse_tolerance)]
    #[arg(allow_negative_numbers = true, help_heading = "Comparison")]
    atol: f64,
}

/// Where the expected outputs are.
#[derive(Clone, Copy)]
enum Expected<'a> {
    /// In an NPZ file.
    Arrays(&'a Path),
    /// In folders of the ONNX backend suite, with their inputs.
    Suite(&'a Path),
}

impl Arguments {
    fn expected(&self) -> Result<Expected<'_>, UsageError> {
        match (&self.expect, &self.onnx_test) {
            (Some(file), _) => Ok(Expected::Arrays(file)),
            (None, Some(folder)) => Ok(Expected::Suite(folder)),
            (None, None) => Err(UsageError::new("nothing says which outputs are expected").hint(
                "give an NPZ file with --expect, or a folder of the ONNX backend suite with --onnx-test",
            )),
        }
    }
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 => Ok(value),
        _ => Err("a number of at least 0 is needed".to_owned()),
    }
}

/// The document of `recurve check --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    passed: bool,
    rtol: f64,
    atol: f64,
    cases: Vec<Case>,
}

/// One set of inputs.
#[derive(Debug, Serialize)]
struct Case {
    name: String,
    /// Inputs that no file gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drawn: Vec<String>,
    outputs: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    name: String,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Difference {
    /// One is a tensor, the other a sequence or nothing.
    Kind,
    Dtype {
        got: &'static str,
        expected: &'static str,
    },
    Shape {
        got: Vec<usize>,
        expected: Vec<usize>,
    },
    Elements {
        count: usize,
        first: Vec<Element>,
    },
}

#[derive(Debug, Serialize)]
struct Element {
    index: Vec<usize>,
    got: String,
    expected: String,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let expected = arguments.expected()?;
    let session = arguments.model.load(arguments.execution.builder(), terminal)?;
    let options = arguments.time.options();
    let tolerance = Tolerance { relative: arguments.rtol, absolute: arguments.atol };
    let cases = match expected {
        Expected::Suite(folder) => {
            let folders = onnx_test::folders(folder)?;
            let bar = terminal.progress(Some(folders.len() as u64), "checking");
            let mut cases = Vec::new();
            for folder in folders {
                let set = onnx_test::read(&folder, &session)?;
                cases.push(case((&session, &options), set.name, &set.inputs, &set.expected, tolerance)?);
                bar.inc(1);
            }
            bar.finish_and_clear();
            cases
        }
        Expected::Arrays(path) => {
            let expected: Vec<(String, Value)> =
                npz::read(path)?.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
            let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
            let drawn = inputs.iter().filter(|input| input.source == Source::Seed);
            let drawn: Vec<String> = drawn.map(|input| input.name.clone()).collect();
            let inputs: Vec<_> = inputs.into_iter().map(|input| (input.name, input.value)).collect();
            let case = case((&session, &options), path.display().to_string(), &inputs, &expected, tolerance)?;
            vec![Case { drawn, ..case }]
        }
    };
    for spec in session.outputs() {
        let compared = cases
            .iter()
            .filter(|case| case.outputs.iter().any(|verdict| *verdict.name == *spec.name))
            .count();
        if compared == 0 {
            terminal.narrate(format!(
                "note: output `{}` is not compared: no array of its name is given",
                spec.name
            ));
        } else if compared < cases.len() {
            terminal.narrate(format!(
                "note: output `{}` is compared in {compared} of {} data sets: the others have no array of its name",
                spec.name,
                cases.len()
            ));
        }
    }
    let failed = cases.iter().flat_map(|case| &case.outputs).filter(|verdict| !verdict.passed).count();
    let all = cases.iter().map(|case| case.outputs.len()).sum::<usize>();
    let document = Document {
        version: DOCUMENT_VERSION,
        passed: failed == 0,
        rtol: arguments.rtol,
        atol: arguments.atol,
        cases,
    };
    if terminal.json() {
        terminal.document(&document)?;
    } else {
        terminal.print(&text(&document, arguments.inputs.seed, terminal))?;
    }
    if failed == 0 {
        return Ok(Exit::Success);
    }
    terminal.complain("error", &format!("{failed} of {all} outputs differ"));
    if document.cases.iter().any(|case| !case.drawn.is_empty()) {
        terminal
            .complain("hint", "inputs were drawn from a seed; --inputs gives those that belong to --expect");
    }
    let differences =
        || document.cases.iter().flat_map(|case| &case.outputs).filter_map(|v| v.difference.as_ref());
    for (differs, hint) in [
        (
            differences().any(|d| matches!(d, Difference::Shape { .. })),
            "shapes follow from --inputs and --dim, which must be those that the expected outputs were made with",
        ),
        (
            differences().any(|d| matches!(d, Difference::Dtype { .. })),
            "elements are compared within one type: save the expected array in the output's, with `array.astype(...)`",
        ),
        (
            differences().any(|d| matches!(d, Difference::Elements { .. })),
            "--rtol and --atol say how much floats may differ",
        ),
    ] {
        if differs {
            terminal.complain("hint", hint);
        }
    }
    Ok(Exit::OutputsDiffer)
}

fn case(
    (session, options): (&Session, &RunOptions),
    name: String,
    inputs: &[(String, Value)],
    expected: &[(String, Value)],
    tolerance: Tolerance,
) -> Result<Case> {
    if expected.is_empty() {
        return Err(UsageError::new(format!("`{name}` holds no expected output")).into());
    }
    if let Some((stray, _)) = expected.iter().find(|(n, _)| !session.outputs().iter().any(|o| *o.name == **n))
    {
        let names: Vec<&str> = session.outputs().iter().map(|spec| &*spec.name).collect();
        let problem =
            format!("`{name}` expects `{stray}`, which is no output of the model: {}", names.join(", "));
        return Err(UsageError::new(problem)
            .hint("--expect takes arrays named as the outputs: `numpy.savez(file, name=array)` names them")
            .into());
    }
    let outputs = session.run_with(inputs.iter().map(|(name, value)| (name.as_str(), value)), options)?;
    let mut verdicts = Vec::with_capacity(expected.len());
    for (name, want) in expected {
        let difference = match outputs.get(name).map(|got| compare(got, want, tolerance)) {
            Some(Ok(())) => None,
            Some(Err(mismatch)) => Some(difference(mismatch, want)),
            None => Some(Difference::Kind),
        };
        verdicts.push(Verdict { name: name.clone(), passed: difference.is_none(), difference });
    }
    Ok(Case { name, drawn: Vec::new(), outputs: verdicts })
}

fn difference(mismatch: Mismatch, want: &Value) -> Difference {
    match mismatch {
        Mismatch::Kind => Difference::Kind,
        Mismatch::DType { got, want } => Difference::Dtype { got: got.name(), expected: want.name() },
        Mismatch::Shape { got, want } => Difference::Shape { got, expected: want },
        Mismatch::Elements { count, first } => {
            let shape = want.as_tensor().map(|tensor| tensor.shape().to_vec());
            let element = |(at, got, expected): (usize, String, String)| {
                let index = shape.as_ref().map_or_else(|| vec![at], |shape| unravel(at, shape));
                Element { index, got, expected }
            };
            Difference::Elements { count, first: first.into_iter().map(element).collect() }
        }
    }
}

/// The index of the element at row-major position `at`.
fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &extent) in index.iter_mut().zip(shape).rev() {
        *place = at % extent.max(1);
        at /= extent.max(1);
    }
    index
}

fn text(document: &Document, seed: u64, terminal: &Terminal) -> String {
    let mut lines = Vec::new();
    for case in &document.cases {
        lines.push(terminal.heading(&case.name));
        if !case.drawn.is_empty() {
            lines.push(format!("  inputs drawn from seed {seed}: {}", case.drawn.join(", ")));
        }
        for verdict in &case.outputs {
            let word = terminal.verdict(if verdict.passed { "ok" } else { "differs" }, verdict.passed);
            lines.push(format!("  {word}  {}", verdict.name));
            if let Some(difference) = &verdict.difference {
                lines.extend(explain(difference).iter().map(|line| format!("    {line}")));
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn explain(difference: &Difference) -> Vec<String> {
    match difference {
        Difference::Kind => vec!["another kind of value is expected".to_owned()],
        Difference::Dtype { got, expected } => vec![format!("dtype {got}; {expected} is expected")],
        Difference::Shape { got, expected } => vec![format!("shape {got:?}; {expected:?} is expected")],
        Difference::Elements { count, first } => {
            let row = |e: &Element| vec![format!("{:?}", e.index), e.got.clone(), e.expected.clone()];
            let header = ["index", "got", "expected"].map(str::to_owned).to_vec();
            let rows: Vec<_> = std::iter::once(header).chain(first.iter().map(row)).collect();
            let title = format!("{}, the first:", plural(*count, "different element"));
            std::iter::once(title).chain(table(&rows, &[]).lines().map(str::to_owned)).collect()
        }
    }
}
