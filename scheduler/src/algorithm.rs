//! The algorithms by name.

use crate::partial::{Channels, Watch};
use crate::schedule::Schedule;
use crate::{Problem, cpop, heft, lookahead, peft};

/// The list schedulers; the portfolio and the exact search have options of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Heterogeneous earliest finish time.
    Heft,
    /// Critical path on a processor.
    Cpop,
    /// Predict earliest finish time.
    Peft,
    /// Lookahead HEFT.
    Lookahead,
    /// HEFT that decides with the channels.
    HeftLinks,
}

impl Algorithm {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] = [Self::Heft, Self::Cpop, Self::Peft, Self::Lookahead, Self::HeftLinks];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Heft => "heft",
            Self::Cpop => "cpop",
            Self::Peft => "peft",
            Self::Lookahead => "lookahead",
            Self::HeftLinks => "heft-links",
        }
    }

    /// Schedules a problem. Capacities are not looked at.
    ///
    /// # Returns
    /// The schedule, valid for the channels: the classic algorithms decide without queues and their placement
    /// is then replayed with them. `None` where the links leave a dead end.
    ///
    /// # Example
    /// ```
    /// # let text = std::fs::read_to_string("tests/data/t02.json").map_err(|e| e.to_string())?;
    /// # let instance = recurve_scheduler::Instance::from_json(&text).map_err(|e| e.to_string())?;
    /// use recurve_scheduler::{Algorithm, Problem};
    /// let problem = Problem::new(&instance).map_err(|e| e.to_string())?;
    /// let schedule = Algorithm::Heft.schedule(&problem).ok_or("dead end")?;
    /// assert_eq!(schedule.makespan, 80.0);
    /// assert!(schedule.validate(&instance).is_ok());
    /// # Ok::<(), String>(())
    /// ```
    pub fn schedule(self, problem: &Problem) -> Option<Schedule> {
        self.run(problem, Watch::Nothing)
    }

    /// Schedules a problem memory-aware: a placement that would overflow a memory is not taken.
    ///
    /// # Returns
    /// A schedule within the capacities, or `None` where the list has no placement left for some task, which
    /// does not mean that there is none.
    pub fn schedule_within(self, problem: &Problem) -> Option<Schedule> {
        self.run(problem, Watch::Capacities)
    }

    pub(crate) fn run(self, problem: &Problem, watch: Watch) -> Option<Schedule> {
        let free = Channels::Free;
        let decided = match self {
            Self::Heft => heft::heft(problem, free, watch)?,
            Self::Cpop => cpop::cpop(problem, free, watch)?,
            Self::Peft => peft::peft(problem, free, watch)?,
            Self::Lookahead => lookahead::lookahead(problem, free, watch)?,
            Self::HeftLinks => return heft::heft(problem, Channels::Queue, watch),
        };
        if problem.channel_count > 0 { heft::contended(problem, watch, &decided) } else { Some(decided) }
    }
}
