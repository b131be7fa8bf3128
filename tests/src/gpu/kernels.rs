//! The suites of the kernel families on one device.

use super::machine::Guarded;
use super::report::Tally;
use recurve_kernels::cases::{SUITES, Suite};
use std::time::Instant;

/// Which cases are run.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Of each suite, in the place of its own number.
    pub cases: Option<u32>,
    /// Only suites whose names begin with one of these.
    pub suites: Vec<String>,
    /// Only suites behind this one.
    pub after: Option<String>,
    /// Only this case of each.
    pub only: Option<u32>,
}

impl Chosen {
    fn takes(&self, suite: &Suite) -> bool {
        let named = self.suites.is_empty() || self.suites.iter().any(|s| suite.name.starts_with(s.as_str()));
        named && self.after.as_deref().is_none_or(|after| suite.name > after)
    }
}

/// Runs what was chosen; `told` hears of each suite when it is done. Gives what ended everything: the device is lost.
pub fn kernels(
    machine: &mut Guarded,
    seed: u64,
    chosen: &Chosen,
    told: &mut dyn FnMut(Tally),
) -> Option<String> {
    for suite in SUITES.iter().filter(|suite| chosen.takes(suite)) {
        let start = Instant::now();
        let mut tally = Tally { suite: suite.name.to_owned(), ..Tally::default() };
        let numbers = match chosen.only {
            Some(number) => number..number + 1,
            None => 0..chosen.cases.unwrap_or(suite.count),
        };
        for number in numbers {
            match suite.case(seed, number, machine) {
                Ok(()) => tally.passed += 1,
                Err(failure) if failure.is_beyond() => tally.refused += 1,
                Err(failure) => tally.fail(format!("seed {seed} case {number}: {failure}")),
            }
            if machine.lost().is_some() {
                break;
            }
        }
        tally.seconds = start.elapsed().as_secs_f64();
        told(tally);
        if let Some(error) = machine.lost() {
            return Some(format!("{error}, at suite `{}`", suite.name));
        }
    }
    None
}
