//! The table of what a GPU computes of each operator and element type: `docs/gpu.md`.

use anyhow::{Result, anyhow};
use recurve::DType;
use recurve::testing::{OperatorInfo, Placement, operators, placement};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Random uses of each operator that are looked at.
const SEEDS: u64 = 80;

/// What became of the uses of one operator with one element type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    families: BTreeSet<String>,
    reasons: BTreeMap<String, usize>,
    ran: usize,
}

impl Seen {
    fn note(&mut self, dtype: Option<DType>, placement: Placement) {
        match placement {
            Placement::View => {
                self.families.insert("*view*".into());
            }
            Placement::Known => {
                self.families.insert("*known when bound*".into());
            }
            Placement::Kernels(families) => {
                self.families.extend(families.into_iter().map(str::to_owned));
            }
            Placement::Refused(reason) => {
                // What to do about it stands above the table, and types refused alike share a row.
                let advice = [": cast it", ": allow"].into_iter().find_map(|start| reason.find(start));
                let reason = &reason[..advice.unwrap_or(reason.len())];
                let of_type = dtype.and_then(|d| reason.strip_prefix(d.name()));
                let reason = of_type.map_or(reason.to_owned(), |rest| format!("the type{rest}"));
                *self.reasons.entry(reason).or_default() += 1;
                return;
            }
            _ => return,
        }
        self.ran += 1;
    }

    /// The cell: families, and the reason that is met most.
    fn cell(&self) -> String {
        let families: Vec<&str> = self.families.iter().map(String::as_str).collect();
        let most = self.reasons.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        match (self.ran, most) {
            (0, None) => "*not drawn*".into(),
            (0, Some((reason, _))) => format!("none: {reason}"),
            (_, None) => families.join(", "),
            (_, Some((reason, _))) => format!("{}; else: {reason}", families.join(", ")),
        }
    }
}

/// The rows of an operator: its element types, those that have the same cell together.
fn rows(operator: &OperatorInfo) -> Result<Vec<(String, String)>> {
    let name = operator.full_name();
    let mut seen: BTreeMap<Option<DType>, Seen> = BTreeMap::new();
    for seed in 0..SEEDS {
        let placed = placement(&name, seed).map_err(|error| anyhow!("{name}, seed {seed}: {error}"))?;
        // What takes no tensor, or one of another type than those of the operator, is told under none.
        let dtype = placed.0.filter(|dtype| operator.dtypes.contains(dtype));
        seen.entry(dtype).or_default().note(dtype, placed.1);
    }
    let mut rows: Vec<(Vec<String>, String)> = Vec::new();
    let types: Vec<Option<DType>> = if operator.dtypes.is_empty() || !seen.keys().any(Option::is_some) {
        vec![None]
    } else {
        operator.dtypes.iter().copied().map(Some).collect()
    };
    for dtype in types {
        let cell = seen.get(&dtype).map_or_else(|| Seen::default().cell(), Seen::cell);
        let name = dtype.map_or_else(|| "any".into(), |dtype| dtype.to_string());
        match rows.iter_mut().find(|(_, known)| *known == cell) {
            Some((names, _)) => names.push(name),
            None => rows.push((vec![name], cell)),
        }
    }
    Ok(rows.into_iter().map(|(names, cell)| (names.join(", "), cell)).collect())
}

/// The page.
pub fn page() -> Result<String> {
    let mut page = String::from(
        "# Operators on GPUs\n\n\
         Written by `cargo run --release -p recurve-tests --bin gpu-coverage -- --update`; CI checks that it is current.\n\n\
         The CPU runs every operator with every element type listed. The last column tells what a GPU launches: the kernel\n\
         families of `kernels/src`, over 80 random valid uses of each operator, or why it refuses, of several reasons the one\n\
         met most. *view*: the output is the input under another shape. *known when bound*: the outputs follow from shapes and\n\
         constants. What is refused runs on the host only where `Fallback::Cpu` allows it, and each such trip is reported;\n\
         where another type has a kernel, a cast gives it one.\n\n\
         | operator | types of the first input | GPU |\n|---|---|---|\n",
    );
    let mut all = operators();
    all.sort_by_key(|operator| operator.full_name().to_lowercase());
    for operator in &all {
        for (types, cell) in rows(operator)? {
            writeln!(page, "| {} | {types} | {cell} |", operator.full_name())?;
        }
    }
    Ok(page)
}
