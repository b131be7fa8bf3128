//! Every operator as a model of one node on one device, against its reference.

use super::report::Tally;
use recurve::testing::{Failure, check_operator_on, operators};
use std::time::{Duration, Instant};

/// Runs `cases` random uses of every operator whose name begins with one of `names` (of none: of all), until the time is
/// up. A device refuses what it has no kernel for, which counts apart.
pub fn operators_on(
    builder: &dyn Fn() -> recurve::SessionBuilder,
    seed: u64,
    cases: u32,
    names: &[String],
    time: Duration,
    told: &mut dyn FnMut(Tally),
) -> Option<String> {
    let begin = Instant::now();
    for operator in operators() {
        let name = operator.full_name();
        if !names.is_empty() && !names.iter().any(|n| name.starts_with(n.as_str())) {
            continue;
        }
        if begin.elapsed() > time {
            return Some(format!("time was up before operator `{name}`"));
        }
        let start = Instant::now();
        let mut tally = Tally { suite: name.clone(), ..Tally::default() };
        for case in 0..u64::from(cases) {
            let seed = seed.wrapping_add(case);
            match check_operator_on(builder(), &name, seed) {
                Ok(true) => tally.passed += 1,
                Ok(false) => tally.refused += 1,
                Err(failure) => tally.fail(format!("seed {seed}: {}", told_of(&failure))),
            }
        }
        tally.seconds = start.elapsed().as_secs_f64();
        // What no case of runs is no suite.
        if tally.passed + tally.failed > 0 {
            told(tally);
        }
    }
    None
}

/// A failure in words; the case itself is what the seed draws.
fn told_of(failure: &Failure) -> String {
    match failure {
        Failure::Run { source, .. } => source.to_string(),
        Failure::Mismatch { output, mismatch, .. } => format!("output {output}: {mismatch}"),
        other => format!("{other:?}"),
    }
}
