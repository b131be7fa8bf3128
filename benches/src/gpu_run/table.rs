//! The table of a run: sections, suites, and numbers beside those of PyTorch.

use serde_json::Value;
use std::fmt::Write as _;

/// The whole page.
pub(super) fn render(record: &Value) -> String {
    let mut page = String::from("# On a GPU\n\n");
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let sections = record["sections"].as_object().cloned().unwrap_or_default();
    let known = |key: &str| {
        let found = sections.values().map(|s| s["record"][key].clone()).find(Value::is_string);
        found.map_or_else(|| "?".to_owned(), |value| text(&value))
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "{}, {}, module {}, CUDA {}, seed {}, {:.0} s.\n\n| section | end | passed | refused | failed |\n|---|---|---:|---:|---:|",
        text(&record["device"]),
        known("name"),
        known("module"),
        known("driver"),
        record["seed"],
        record["seconds"].as_f64().unwrap_or(0.0),
    );
    for (name, section) in &sections {
        let suites = section["record"]["suites"].as_array().cloned().unwrap_or_default();
        let sum = |key: &str| -> String {
            if suites.is_empty() {
                return String::new();
            }
            suites.iter().filter_map(|suite| suite[key].as_u64()).sum::<u64>().to_string()
        };
        let (passed, refused, failed) = (sum("passed"), sum("refused"), sum("failed"));
        let _ = writeln!(page, "| {name} | {} | {passed} | {refused} | {failed} |", text(&section["end"]));
    }
    failures(&mut page, &sections);
    for name in ["constants", "benches"] {
        measures(&mut page, name, &sections);
    }
    page
}

/// What failed, and why.
fn failures(page: &mut String, sections: &serde_json::Map<String, Value>) {
    let mut lines = Vec::new();
    for (name, section) in sections {
        let record = &section["record"];
        let of_suites = record["suites"].as_array().into_iter().flatten();
        let mut all: Vec<String> = of_suites
            .flat_map(|suite| {
                let of = suite["suite"].as_str().unwrap_or("?").to_owned();
                let failures = suite["failures"].as_array().cloned().unwrap_or_default();
                failures.into_iter().map(move |failure| format!("{of}: {}", failure.as_str().unwrap_or("?")))
            })
            .collect();
        let strings = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|line| line.as_str().map(str::to_owned)).collect()
        };
        all.extend(strings(&record["failures"]));
        if all.is_empty() && section["end"] != "passed" {
            all.extend(strings(&section["said"]).last().cloned());
        }
        lines.extend(all.into_iter().map(|line| format!("- {name}: {}\n", line.replace('\n', " "))));
    }
    if !lines.is_empty() {
        page.push_str("\n## Failed, or not run\n\n");
        page.extend(lines);
    }
}

/// Numbers of one section.
fn measures(page: &mut String, name: &str, sections: &serde_json::Map<String, Value>) {
    let of = |section: &str| -> Vec<Value> {
        let record = sections.get(section).map(|section| &section["record"]["measures"]);
        record.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (ours, theirs) = (of(name), of("pytorch"));
    if ours.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "\n## {name}\n\n| what | value | unit | of a copy | PyTorch |\n|---|---:|---|---:|---:|"
    );
    for measure in ours {
        let value = measure["value"].as_f64().unwrap_or(f64::NAN);
        let of_copy = measure["of_copy"].as_f64().map(|part| format!("{part:.2}")).unwrap_or_default();
        let same =
            theirs.iter().find(|other| other["name"] == measure["name"] && other["unit"] == measure["unit"]);
        let beside = same.and_then(|other| other["value"].as_f64()).map(short).unwrap_or_default();
        let (what, unit) = (measure["name"].as_str().unwrap_or("?"), measure["unit"].as_str().unwrap_or("?"));
        let _ = writeln!(
            page,
            "| {} | {} | {unit} | {of_copy} | {beside} |",
            what.replace('|', "\\|"),
            short(value)
        );
    }
}

/// Four digits or so.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_stand_beside_those_of_the_same_name_and_failures_are_told() {
        let record = json!({ "device": "cuda:0", "seed": 7, "seconds": 12.4, "sections": {
            "benches": { "end": "passed", "record": { "name": "H", "module": "sm_90a", "driver": "12.8", "measures": [
                { "name": "gemm f32 4096³", "value": 41.5, "unit": "TFLOP/s" },
                { "name": "map |x|", "value": 3000.0, "unit": "GB/s", "of_copy": 0.934 },
            ] } },
            "kernels": { "end": "failed", "record": { "suites": [
                { "suite": "gemv", "passed": 58, "refused": 1, "failed": 1, "failures": ["case 3: 1 instead of 2"] },
                { "suite": "map", "passed": 2, "refused": 0, "failed": 0, "failures": [] },
            ] } },
            "models": { "end": "timed_out", "record": null, "said": ["first", "last"] },
            "pytorch": { "end": "passed", "record": { "measures": [
                { "name": "gemm f32 4096³", "value": 50.25, "unit": "TFLOP/s" },
            ] } },
        } });
        let page = render(&record);
        for line in [
            "cuda:0, H, module sm_90a, CUDA 12.8, seed 7, 12 s.",
            "| kernels | failed | 60 | 1 | 1 |",
            "- kernels: gemv: case 3: 1 instead of 2",
            "- models: last",
            "| gemm f32 4096³ | 41.500 | TFLOP/s |  | 50.250 |",
            "| map \\|x\\| | 3000 | GB/s | 0.93 |  |",
        ] {
            assert!(page.contains(line), "`{line}` is not in\n{page}");
        }
    }
}
