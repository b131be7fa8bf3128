//! `recurve ops`: the operator table.

use super::DOCUMENT_VERSION;
use crate::exit::Exit;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::DType;
use recurve::model::Accuracy;
use recurve::testing::{OperatorInfo, operators};
use serde::Serialize;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve ops --json")]
pub(crate) struct Arguments {}

/// The document of `recurve ops --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    operators: Vec<OperatorEntry>,
}

#[derive(Debug, Serialize)]
struct OperatorEntry {
    name: &'static str,
    /// Empty for the standard one.
    domain: &'static str,
    /// Versions in which it changed, oldest supported first.
    since: &'static [i64],
    /// Last version that has it, where it was removed.
    until: Option<i64>,
    /// Element types of its main input.
    dtypes: Vec<&'static str>,
    accuracy: &'static str,
}

pub(crate) fn run(_: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let operators = operators().iter().map(entry).collect();
    let document = Document { version: DOCUMENT_VERSION, operators };
    if terminal.json() {
        terminal.document(&document)?;
    } else {
        terminal.print(&text(&document, terminal))?;
    }
    Ok(Exit::Success)
}

fn entry(info: &OperatorInfo) -> OperatorEntry {
    OperatorEntry {
        name: info.name,
        domain: info.domain,
        since: info.since,
        until: info.until,
        dtypes: info.dtypes.iter().map(|dtype: &DType| dtype.name()).collect(),
        accuracy: match info.accuracy {
            Accuracy::Exact => "exact",
            Accuracy::Elementwise => "elementwise",
            Accuracy::Reduction => "reduction",
            Accuracy::Random => "random",
            _ => "other",
        },
    }
}

/// What is said under the table.
const LEGEND: &str = "The accuracy class tells how near results are to the specification, computed in float64 or exact integers: `exact`,\n\
    every bit; `elementwise`, a few units in the last place of the element type; `reduction`, relative to the size of the\n\
    summed terms; `random`, results are drawn. The dtypes are those of the main input.\n";

fn text(document: &Document, terminal: &Terminal) -> String {
    let mut rows = Vec::with_capacity(document.operators.len());
    for op in &document.operators {
        let name =
            if op.domain.is_empty() { op.name.to_owned() } else { format!("{}:{}", op.domain, op.name) };
        let since: Vec<String> = op.since.iter().map(i64::to_string).collect();
        let until = op.until.map(|last| format!(" to {last}")).unwrap_or_default();
        rows.push(vec![
            name,
            format!("{}{until}", since.join(" ")),
            op.accuracy.to_owned(),
            op.dtypes.join(" "),
        ]);
    }
    let count = document.operators.len();
    let title = format!("{count} operators: name, opsets in which they changed, accuracy class, dtypes");
    format!("{}\n{}{LEGEND}", terminal.heading(&title), table(&rows, &[]))
}
