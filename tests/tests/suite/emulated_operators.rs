//! Random uses of operators on the emulated GPU: each gives what its reference gives, or says why it has no kernel.

use recurve::GpuReject;
use recurve::testing::{EmulatedOperators, operators};
use std::collections::BTreeMap;

/// Operators that run on the GPU in every form that is drawn, or in so many of a hundred at least.
const COVERED: &[(&str, usize)] = &[
    ("ArgMax", 40),
    ("ArgMin", 40),
    ("Concat", 90),
    ("Conv", 90),
    ("DepthToSpace", 90),
    ("Expand", 80),
    ("GRU", 60),
    ("Gather", 80),
    ("LSTM", 60),
    ("Pad", 60),
    ("RNN", 60),
    ("Slice", 80),
    ("SpaceToDepth", 90),
    ("Split", 80),
    ("Tile", 80),
    ("Transpose", 90),
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
    for &(name, least) in COVERED {
        let cases = 40;
        let (ran, reasons) = checked(&gpu, name, 0..cases);
        println!("{name}: {ran} of {cases}, otherwise {reasons:?}");
        assert!(ran * 100 >= least * cases as usize, "{name}: only {ran} of {cases} ran: {reasons:?}");
    }
}

#[test]
fn every_operator_runs_or_says_why_not() {
    let gpu = EmulatedOperators::new().expect("the emulated GPU");
    let mut without = Vec::new();
    for operator in operators() {
        let name = operator.full_name();
        let (ran, reasons) = checked(&gpu, &name, 100..104);
        println!("{name}: {ran} of 4, otherwise {reasons:?}");
        if ran == 0 && reasons.keys().all(|reason| *reason == GpuReject::NoKernel.to_string()) {
            without.push(name);
        }
    }
    // What has no kernel at all is known, so that an operator does not lose its kernel unseen.
    assert!(!without.iter().any(|name| COVERED.iter().any(|(covered, _)| covered == name)));
}
