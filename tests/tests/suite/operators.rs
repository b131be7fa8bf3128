//! Every operator of the table: kernel against reference, and inference against what came out.

use recurve::testing::{check_operator, operators};

/// Draws per operator.
const SEEDS: u64 = 40;

#[test]
fn every_operator_agrees_with_its_reference() {
    let mut failures = Vec::new();
    for operator in operators() {
        let name = match operator.domain {
            "" => operator.name.to_owned(),
            domain => format!("{domain}:{}", operator.name),
        };
        // Other draws than those of the operators' own test.
        let failed: Vec<_> = (1000..1000 + SEEDS)
            .filter_map(|seed| {
                let threads = 1 + (seed % 2) as usize;
                check_operator(&name, seed, threads).err().map(|failure| (seed, failure))
            })
            .collect();
        if let Some((seed, failure)) = failed.first() {
            failures.push(format!("{name}: {} of {SEEDS}, first seed {seed}: {failure:#?}", failed.len()));
        }
    }
    assert!(failures.is_empty(), "{} operators differ:\n{}", failures.len(), failures.join("\n"));
}
