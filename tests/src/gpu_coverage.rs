//! The table of what a GPU computes of each operator and element type: `docs/gpu.md`.

use anyhow::{Result, anyhow};
use recurve::DType;
use recurve::testing::{OperatorInfo, Placement, operators, placement};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Random uses of an operator are drawn until so many in a row have shown nothing new.
const SEEDS: u64 = 80;
/// The most that are drawn of one.
const MOST_SEEDS: u64 = 800;

const VIEW: &str = "*view*";
const KNOWN: &str = "*known when bound*";

/// What the kernel families do.
const FAMILIES: &[(&str, &str)] = &[
    ("arg_extreme", "the place of the largest or smallest element along an axis"),
    ("attention", "softmax(q·kᵀ)·v for a tile of queries at a time"),
    ("blocks", "products by weights of 2, 4 or 8 bits, which stay packed"),
    ("channels", "response normalisation across channels"),
    ("class_loss", "losses of samples by the classes that they are of"),
    ("codes", "conversions of types of eight bits and fewer"),
    ("col2im", "columns of sliding blocks added up to images"),
    ("conv", "convolutions over up to three axes"),
    ("conv_integer", "convolutions of quantised tensors"),
    ("conv_transpose", "transposed convolutions"),
    ("copy", "regions of tensors moved: transpositions, slices, joins, repetitions"),
    ("cumulative", "running sums and products along an axis"),
    ("deform", "columns of windows whose taps the data moves"),
    ("depthwise", "convolutions of one channel each"),
    ("det", "determinants of matrices"),
    ("gather", "rows picked by indices"),
    ("gather_nd", "elements or blocks picked by tuples of indices"),
    ("gemm", "matrix products"),
    ("gemv", "products of up to 16 rows by constant weights"),
    ("grid_sample", "images read at the positions of a grid"),
    ("gru", "the steps of a GRU"),
    ("linear_attention", "a state for each head that goes over the tokens"),
    ("lstm", "the steps of an LSTM"),
    ("map", "a scalar program for each element, interpreted"),
    (
        "nest",
        "loops around scalar programs, interpreted: any operator that has loops and no kernel of its own",
    ),
    ("norm", "normalisations of rows: layers, groups, instances, root mean squares"),
    ("pool", "pooling over up to three axes"),
    ("reduce", "sums, means, norms, extremes along axes"),
    ("resample", "resizing and sampling at computed places"),
    ("rnn", "the steps of an RNN"),
    ("roi_align", "regions of images, sampled on regular grids"),
    ("roi_max", "the largest elements of regions of images"),
    ("scatter", "elements or blocks put, or added, where indices say"),
    ("softmax", "softmax and its logarithm along an axis"),
    ("top_k", "the largest or smallest elements along an axis, sorted"),
    ("transpose", "regions moved whose lines run along different axes on both sides, by tiles"),
    ("winograd", "convolutions of 3 × 3 at stride 1, 16 products for four positions"),
];

/// What became of the uses of one operator with one element type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    families: BTreeSet<String>,
    reasons: BTreeSet<String>,
}

impl Seen {
    fn note(&mut self, dtype: Option<DType>, placement: Placement) {
        match placement {
            Placement::View => {
                self.families.insert(VIEW.into());
            }
            Placement::Known => {
                self.families.insert(KNOWN.into());
            }
            Placement::Kernels(families) => self.families.extend(families.into_iter().map(str::to_owned)),
            Placement::Refused(reason) => {
                self.reasons.insert(reason_of(&reason, dtype));
            }
            _ => {}
        }
    }

    /// The cell: families, and the reasons.
    fn cell(&self) -> String {
        let list =
            |of: &BTreeSet<String>, between: &str| of.iter().cloned().collect::<Vec<_>>().join(between);
        let (families, reasons) = (list(&self.families, ", "), list(&self.reasons, "; or "));
        match (families.is_empty(), reasons.is_empty()) {
            (true, _) => format!("none: {reasons}"),
            (false, true) => families,
            (false, false) => format!("{families}; else: {reasons}"),
        }
    }
}

/// A reason without what was drawn by chance in it: types besides the first input's, and numbers over a limit. What to do
/// about it stands above the table.
fn reason_of(reason: &str, dtype: Option<DType>) -> String {
    let advice = [": cast it", ": allow"].into_iter().find_map(|start| reason.find(start));
    let reason = &reason[..advice.unwrap_or(reason.len())];
    if let Some((first, rest)) = reason.split_once(' ')
        && let Some(named) = operators().iter().flat_map(|o| o.dtypes.to_vec()).find(|d| d.name() == first)
    {
        let whose = if Some(named) == dtype { "the type" } else { "another of its types" };
        return format!("{whose} {rest}");
    }
    if let Some((what, rest)) = reason.split_once(" is ")
        && let Some((_, limit)) = rest.split_once(", at most ")
        && let Some((start, name)) = what.rsplit_once(": ")
    {
        return format!("{start}: more than {} {name}", limit.trim_end_matches(" is possible"));
    }
    reason.to_owned()
}

/// The rows of an operator: the types of its first input, those that have the same cell together.
fn rows(operator: &OperatorInfo) -> Result<Vec<(String, Seen)>> {
    let name = operator.full_name();
    let mut seen: BTreeMap<Option<DType>, Seen> = BTreeMap::new();
    let mut last = 0;
    for seed in 0..MOST_SEEDS {
        if seed - last > SEEDS {
            break;
        }
        let placed = placement(&name, seed).map_err(|error| anyhow!("{name}, seed {seed}: {error}"))?;
        // What takes no tensor first is told under none.
        let dtype = placed.0;
        let before = seen.get(&dtype).cloned();
        seen.entry(dtype).or_default().note(dtype, placed.1);
        if before.as_ref() != seen.get(&dtype) {
            last = seed;
        }
    }
    let mut rows: Vec<(Vec<String>, Seen)> = Vec::new();
    for (dtype, seen) in seen {
        let name = dtype.map_or_else(|| "any".into(), |dtype| dtype.to_string());
        match rows.iter_mut().find(|(_, known)| *known == seen) {
            Some((names, _)) => names.push(name),
            None => rows.push((vec![name], seen)),
        }
    }
    Ok(rows.into_iter().map(|(names, seen)| (names.join(", "), seen)).collect())
}

/// The page.
pub fn page() -> Result<String> {
    let mut page = String::from(
        "# Operators on GPUs\n\n\
         Written by `cargo run --release -p recurve-tests --bin gpu-coverage -- --update`; CI checks that it is current.\n\n\
         The CPU runs every operator with every element type that it has. The last column tells what a GPU launches for one:\n\
         *kernel families*, kinds of kernels that are told in the table at the end, or *none*. Behind *else* stand\n\
         the reasons for which some uses of the operator are refused. All of this was seen on random valid uses, drawn for\n\
         each operator until 80 in a row showed nothing new: a reason that is rarer is missing, and so is a type of the first\n\
         input that was never drawn.\n\n\
         What is refused runs on the host only where `Fallback::Cpu` allows it, and each such trip is reported; where another\n\
         type has a kernel, a cast gives it one.\n\n\
         | words | meaning |\n|---|---|\n\
         | *view* | nothing is launched: the output is the input under another shape |\n\
         | *known when bound* | nothing is launched: the outputs follow from shapes and constants |\n\
         | what it makes depends on data | the shape of an output is known only when the data is, so that no memory can be \
         given to it beforehand |\n\
         | its steps, or which branch it takes, depend on data | control flow that is decided by data and whose values \
         change their shapes; in plans over the CPU and a GPU any that data decides |\n\
         | its random numbers are drawn on the host | in plans over the CPU and a GPU, a branch that draws, where data on the \
         GPU decides whether it is taken |\n\
         | mel weights between frequencies that are data | spectrograms share one matrix: where its numbers are constants, \
         counts and rate also integers among the model's inputs, it is known when shapes are bound |\n\n\
         ## Operators\n\n\
         | operator | types of the first input | GPU |\n|---|---|---|\n",
    );
    let mut all = operators();
    all.sort_by_key(|operator| operator.full_name().to_lowercase());
    let mut met: BTreeSet<String> = BTreeSet::new();
    for operator in &all {
        for (types, seen) in rows(operator)? {
            writeln!(page, "| {} | {types} | {} |", operator.full_name(), seen.cell())?;
            met.extend(seen.families);
        }
    }
    page.push_str("\n## Kernel families\n\n| family | what it computes |\n|---|---|\n");
    for family in met.iter().filter(|family| ![VIEW, KNOWN].contains(&family.as_str())) {
        let told = FAMILIES.iter().find(|(name, _)| name == family);
        let (_, what) = told.ok_or_else(|| anyhow!("what family {family} does is not told"))?;
        writeln!(page, "| {family} | {what} |")?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_without_what_chance_draws() {
        let of = |reason: &str| reason_of(reason, Some(DType::F64));
        assert_eq!(
            of("float64 is not computed by its GPU kernels: cast it, or"),
            "the type is not computed by its GPU kernels"
        );
        assert_eq!(of("int4 is not computed"), "another of its types is not computed");
        let limit = "its kernel refuses it: inputs is 9, at most 8 is possible";
        assert_eq!(of(limit), "its kernel refuses it: more than 8 inputs");
        assert_eq!(of("no GPU kernel computes it"), "no GPU kernel computes it");
    }
}
