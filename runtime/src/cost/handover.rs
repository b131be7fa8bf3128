//! What it costs to hand work from one thread to another.

use super::measure::{Effort, Measured, measure};
use crate::exec::{Flags, Stop, Team};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// Round trips of one measurement of a flag.
const ROUNDS: u64 = 64;
/// Times that something is measured while it is disturbed.
const TRIES: usize = 4;
/// Longer than any hand-over: who waits never parks.
const NEVER_PARKS: Duration = Duration::from_secs(1);
/// From parking until the system has put a thread to sleep.
const ASLEEP: Duration = Duration::from_micros(50);

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// All threads begin together and end together, with nothing to do.
    pub phase: Measured,
    /// From a flag's rise to a polling thread's going on.
    pub flag: Measured,
    /// From a flag's rise to a parked thread's going on.
    pub wake: Measured,
}

impl Handover {
    /// On `team`; `None` where it has one thread, or others use it.
    pub(crate) fn measure(team: &Team, effort: Effort) -> Option<Self> {
        let threads = team.threads();
        let stop = Stop::default();
        if threads < 2 || team.gang(threads, &stop).size() < threads {
            return None;
        }
        let phase = || {
            timed(effort, || {
                let mut members: Vec<()> = vec![(); threads];
                let start = Instant::now();
                team.gang(threads, &stop).run(&mut members[..], &|_| ());
                Some(start.elapsed())
            })
        };
        let phase = calm(phase)?;
        let flag = || {
            timed(effort, || {
                let gang = team.gang(2, &stop);
                if gang.size() < 2 {
                    return None;
                }
                let flags = Flags::new(2, NEVER_PARKS);
                // Who waits first, and how long the rounds took it.
                let mut members = [(0usize, Duration::ZERO), (1, Duration::ZERO)];
                gang.run(&mut members, &|(own, time)| {
                    let start = Instant::now();
                    for round in 1..=ROUNDS {
                        if *own == 0 {
                            flags.raise(0, round);
                            let _ = flags.wait(1, round);
                        } else {
                            let _ = flags.wait(0, round);
                            flags.raise(1, round);
                        }
                    }
                    *time = start.elapsed();
                });
                Some(members[0].1 / (2 * ROUNDS as u32))
            })
        };
        Some(Self { phase, flag: calm(flag)?, wake: calm(|| timed(effort, || woken(team, &stop)))? })
    }

    /// Whether something else used the cores while it was measured, so that it is to be measured again.
    pub(crate) fn is_disturbed(&self) -> bool {
        [self.phase, self.flag, self.wake].iter().any(Measured::is_disturbed)
    }

    /// Whether it can be measured at all: a file may say anything.
    pub(crate) fn is_sound(&self) -> bool {
        self.phase.is_sound() && self.flag.is_sound() && self.wake.is_sound()
    }
}

/// From a flag's rise to the going on of who sleeps: it is raised once that has parked, and some time later, when it is asleep
/// for sure.
fn woken(team: &Team, stop: &Stop) -> Option<Duration> {
    let gang = team.gang(2, stop);
    if gang.size() < 2 {
        return None;
    }
    let flags = Flags::new(1, Duration::ZERO);
    let origin = Instant::now();
    // Who sleeps, and when the flag rose and the other went on.
    let mut members = [(false, Duration::ZERO), (true, Duration::ZERO)];
    gang.run(&mut members, &|(sleeps, at)| {
        if *sleeps {
            let _ = flags.wait(0, 1);
            *at = origin.elapsed();
            return;
        }
        let asleep = || {
            let since = Instant::now();
            while since.elapsed() < ASLEEP {
                std::hint::spin_loop();
            }
        };
        let begun = Instant::now();
        while !flags.has_parked() && begun.elapsed() < NEVER_PARKS {
            std::hint::spin_loop();
        }
        asleep();
        *at = origin.elapsed();
        flags.raise(0, 1);
    });
    members[1].1.checked_sub(members[0].1)
}

/// Measures again, some times, while something else uses the cores; the shortest median of all.
fn calm(mut once: impl FnMut() -> Option<Measured>) -> Option<Measured> {
    let mut best = once()?;
    for _ in 1..TRIES {
        if !best.is_disturbed() {
            break;
        }
        let again = once()?;
        if again.median_us < best.median_us {
            best = again;
        }
    }
    Some(best)
}

fn timed(effort: Effort, mut once: impl FnMut() -> Option<Duration>) -> Option<Measured> {
    let mut taken = false;
    let measured = measure(effort, || {
        let time = once();
        taken |= time.is_none();
        Ok::<_, Infallible>(time.unwrap_or_default())
    });
    let Ok(measured) = measured;
    measured.filter(|_| !taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_while_disturbed_is_measured_again() {
        let time = |median_us, p90_us| Measured { median_us, min_us: 1.0, p90_us, runs: 10 };
        let mut times = [time(900.0, 4000.0), time(2.0, 3.0), time(1.5, 2.0)].into_iter();
        assert_eq!(calm(|| times.next()), Some(time(2.0, 3.0)));
        assert_eq!(times.next(), Some(time(1.5, 2.0)), "what was calm is kept");
        let mut tries = 0;
        let noisy = calm(|| {
            tries += 1;
            Some(time(100.0 - f64::from(tries), 4000.0))
        });
        assert_eq!((noisy, tries), (Some(time(96.0, 4000.0)), 4), "it ends");
        let one = Handover { phase: time(1.0, 2.0), flag: time(1.0, 2.0), wake: time(1.0, 100.0) };
        assert!(one.is_disturbed() && !Handover { wake: one.flag, ..one }.is_disturbed());
    }

    #[test]
    fn hand_overs_of_a_team_take_time_and_one_thread_has_none() {
        let effort = Effort { warm: 1, least: 3, most: 5, time: Duration::from_millis(5) };
        let all = Handover::measure(&Team::new(2, false), effort).expect("two threads");
        assert!(all.is_sound() && all.flag.min_us > 0.0 && all.phase.min_us > 0.0 && all.wake.min_us > 0.0);
        // The system has to bring a thread back, which takes longer than reading a flag.
        assert!(all.wake.min_us > all.flag.min_us, "{all:?}");
        assert_eq!(Handover::measure(&Team::serial(), effort), None);
    }
}
