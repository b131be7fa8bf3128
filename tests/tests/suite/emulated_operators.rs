//! Random uses of operators on the emulated GPU: each gives what its reference gives, or says why it has no
//! kernel, and gives it on the host then.

use recurve::testing::{EmulatedOperators, operators};
use std::collections::BTreeMap;

/// Operators that have kernels, how many random uses are drawn, and how many of them run there at least: the others are of
/// types, or depend on data, that kernels do not take.
const COVERED: &[(&str, u64, usize)] = &[
    ("ArgMax", 60, 6),
    ("ArgMin", 60, 6),
    ("Concat", 40, 30),
    ("Conv", 60, 30),
    ("DepthToSpace", 40, 30),
    ("Expand", 40, 30),
    ("GRU", 72, 40),
    ("Gather", 40, 20),
    ("If", 40, 30),
    ("LSTM", 72, 40),
    ("Loop", 40, 20),
    ("Pad", 40, 30),
    ("RNN", 72, 40),
    ("Scan", 40, 30),
    ("Slice", 40, 30),
    ("SpaceToDepth", 40, 30),
    ("Split", 40, 30),
    ("Tile", 40, 25),
    ("Transpose", 40, 30),
];

/// Random cases of `name` from these seeds: how many ran, and why others did not.
fn checked(
    gpu: &EmulatedOperators,
    name: &str,
    seeds: std::ops::Range<u64>,
) -> (usize, BTreeMap<String, usize>) {
    let (mut ran, mut reasons) = (0, BTreeMap::new());
    for seed in seeds {
        match gpu.check(name, seed) {
            Ok(None) => ran += 1,
            Ok(Some(reason)) => *reasons.entry(reason.to_string()).or_insert(0) += 1,
            Err(failure) => panic!("{name}, seed {seed}: {failure:#?}"),
        }
    }
    (ran, reasons)
}

#[test]
fn operators_with_kernels_agree_with_their_references() {
    let gpu = EmulatedOperators::new().expect("the emulated GPU");
    for &(name, cases, least) in COVERED {
        let (ran, reasons) = checked(&gpu, name, 0..cases);
        println!("{name}: {ran} of {cases}, otherwise {reasons:?}");
        assert!(ran >= least, "{name}: only {ran} of {cases} ran: {reasons:?}");
    }
}

#[test]
fn every_operator_runs_there_or_on_the_host() {
    let gpu = EmulatedOperators::new().expect("the emulated GPU");
    let mut with_kernel = 0;
    for operator in operators() {
        let name = operator.full_name();
        let (ran, reasons) = checked(&gpu, &name, 100..104);
        println!("{name}: {ran} of 4, otherwise {reasons:?}");
        with_kernel += usize::from(ran > 0);
    }
    assert!(with_kernel >= 80, "{with_kernel} operators have kernels");
}
