//! The table of what is supported, as a Markdown page: the operator table beside what the suite says of each.

use super::refused::RefusedList;
use super::report::{Counts, Report};
use recurve::DType;
use recurve::testing::{OperatorInfo, operators};
use std::fmt::Write as _;

/// Classes of element types, widest first, and the name that stands for all of one.
const CLASSES: [(&str, &[DType]); 2] = [
    ("floats", &[DType::F32, DType::F64, DType::F16, DType::BF16]),
    (
        "integers",
        &[DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64],
    ),
];

/// The page for a run of the whole suite.
pub fn operator_table(report: &Report, refused: &RefusedList) -> String {
    let Counts { pass, refused: count, wrong } = report.total;
    let cases = pass + count + wrong;
    let mut page = format!(
        "# Operators\n\n\
        Written by `cargo xtask conformance -- --update`; CI checks that it is current.\n\n\
        Of the {cases} cases of the ONNX {} backend suite, {pass} pass, {count} are refused at load and {wrong} are wrong.\n",
        report.onnx
    );
    let rounding: Vec<String> = report.passed_by_rounding().map(|path| format!("`{path}`")).collect();
    if !rounding.is_empty() {
        let _ = writeln!(
            page,
            "Within the rounding of the expected values, though not within the suite's tolerance: {}.",
            rounding.join(", ")
        );
    }
    page.push_str(
        "\n## Supported\n\n\
        The opsets are those in which the operator changed, from the oldest that its form is known of; nodes of the\n\
        operator sets 1 to 6 are translated to set 7. *floats* are f32, f64, f16 and bf16, *integers* those of 8 to 64\n\
        bits, signed and unsigned; they are the types of the main input. Cases are those of the suite that are about\n\
        the operator; every operator is also held to its reference by random cases. The last two lines are the cases\n\
        about no operator above, whole models and operators that are not supported, and all of the suite.\n\n\
        | operator | opsets | types | cases passed | refused |\n|---|---|---|---:|---:|\n",
    );
    let mut rest = report.total;
    for info in operators() {
        let name = name_of(&info);
        let Counts { pass, refused, wrong } = report.operators.get(&name).copied().unwrap_or_default();
        rest = Counts { pass: rest.pass - pass, refused: rest.refused - refused, wrong: rest.wrong - wrong };
        let until = info.until.map(|last| format!(" to {last}")).unwrap_or_default();
        let since: Vec<String> = info.since.iter().map(i64::to_string).collect();
        let types = types(info.dtypes);
        let _ = writeln!(page, "| {name} | {}{until} | {types} | {pass} | {refused} |", since.join(", "));
    }
    for (name, Counts { pass, refused, .. }) in [("*others*", rest), ("*all*", report.total)] {
        let _ = writeln!(page, "| {name} | | | {pass} | {refused} |");
    }
    page.push_str("\n## Refused\n\n| operator | reason | cases |\n|---|---|---:|\n");
    for (name, reason, count) in refused.reasons() {
        let _ = writeln!(page, "| {name} | {reason} | {count} |");
    }
    page
}

fn name_of(info: &OperatorInfo) -> String {
    if info.domain.is_empty() { info.name.to_owned() } else { format!("{}:{}", info.domain, info.name) }
}

/// The names of `dtypes`, a class of which all are there by its own.
fn types(dtypes: &[DType]) -> String {
    let whole = |class: &[DType]| class.iter().all(|dtype| dtypes.contains(dtype));
    let mut names: Vec<&str> =
        CLASSES.iter().filter(|(_, class)| whole(class)).map(|(name, _)| *name).collect();
    let named = |dtype: &DType| CLASSES.iter().any(|(_, class)| whole(class) && class.contains(dtype));
    names.extend(dtypes.iter().filter(|dtype| !named(dtype)).map(|dtype| dtype.name()));
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_classes_are_named() {
        assert_eq!(types(&[DType::F32, DType::I64]), "float32, int64");
        let [(_, floats), (_, integers)] = CLASSES;
        assert_eq!(types(floats), "floats");
        assert_eq!(types(&[floats, integers, &[DType::Bool]].concat()), "floats, integers, bool");
    }

    #[test]
    fn every_operator_has_a_row() {
        let page = operator_table(&Report::new("1", &[], false), &RefusedList::default());
        let rows = page.lines().filter(|line| line.starts_with("| ") && line.ends_with("| 0 | 0 |")).count();
        // The others and the sum.
        assert_eq!(rows, operators().len() + 2);
    }

    #[test]
    fn the_rows_add_up() {
        let mut report = Report::new("1", &[], false);
        let counts = |pass, refused| Counts { pass, refused, wrong: 0 };
        report.total = counts(10, 7);
        report.operators.insert("Abs".to_owned(), counts(3, 1));
        report.operators.insert("a whole model".to_owned(), counts(7, 6));
        let page = operator_table(&report, &RefusedList::default());
        assert!(page.contains("\n| *others* | | | 7 | 6 |\n| *all* | | | 10 | 7 |\n"), "{page}");
    }
}
