//! What a session's plans may use beside the threads, and what the user says of where nodes run.

use super::step_names::{StepNames, Unplaced};
use crate::cuda::{Allowance, GpuError, GpuProgram};
use crate::device::{Device, Fallback};
use crate::engine::Engine;
use crate::error::Error;
use crate::exec::{Bound, Program};
use crate::memory::Budget;
use crate::plan::{Forced, PlanError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Graphs that are kept on a device though no plan uses them.
const PROGRAMS: usize = 8;

/// Nodes of some names that have to run on the CPU, or on the GPU.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Placement {
    /// Their names; `*` stands for any characters, and `?` for one.
    pub pattern: String,
    /// Where they run.
    pub device: Device,
}

impl Placement {
    /// Nodes whose names fit `pattern` run on `device`.
    pub fn new(pattern: impl Into<String>, device: Device) -> Self {
        Self { pattern: pattern.into(), device }
    }
}

impl std::str::FromStr for Placement {
    type Err = Error;

    /// `pattern=device`, such as `decoder*=cpu`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Setting { name: "place", problem: format!("is `{text}`; {why}") };
        let (pattern, device) = text
            .rsplit_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| wrong("a pattern of names, `=` and a device are needed".to_owned()))?;
        let unknown = |_| wrong(format!("`{device}` is no device: `cpu`, `cuda:0` and `emulated` are"));
        Ok(Self { pattern: pattern.to_owned(), device: device.parse().map_err(unknown)? })
    }
}

/// A GPU that plans do not use any more since it failed, as [`Fallback::Cpu`] allows.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostDevice {
    /// Which.
    pub device: Device,
    /// What it failed with.
    pub error: GpuError,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct PlanDevices {
    /// The GPU that the user allows.
    pub(super) gpu: Option<Device>,
    /// Most bytes of its memory.
    pub(super) limit: Option<usize>,
    pub(super) placements: Vec<Placement>,
    fallback: Fallback,
    /// Why the GPU is not used any more.
    lost: OnceLock<LostDevice>,
    /// By device and graph, the latest used first: constants and packed weights that are on the device stay there while plans come and
    /// go.
    programs: Mutex<Vec<((Device, String), Arc<GpuProgram>)>>,
}

impl PlanDevices {
    pub(super) fn new(
        gpu: Option<Device>,
        limit: Option<usize>,
        placements: Vec<Placement>,
        fallback: Fallback,
    ) -> Self {
        Self { gpu, limit, placements, fallback, lost: OnceLock::new(), programs: Mutex::default() }
    }

    /// The GPU that plans use: none once it has failed.
    pub(super) fn usable(&self) -> Option<Device> {
        self.gpu.filter(|_| self.lost.get().is_none())
    }

    /// Whether plans go on without the GPU after this error; then it is noted.
    pub(super) fn give_up(&self, error: &Error) -> bool {
        let Error::Gpu { device, source } = error else { return false };
        if self.fallback != Fallback::Cpu || self.gpu.is_none() {
            return false;
        }
        tracing::warn!(%device, %source, "the GPU failed: plans go on without it");
        let _ = self.lost.set(LostDevice { device: *device, error: source.clone() });
        true
    }

    /// Why the GPU is not used any more.
    pub(super) fn lost(&self) -> Option<&LostDevice> {
        self.lost.get()
    }

    /// The program's graph on the device, which is opened by the first who asks.
    pub(super) fn program(
        &self,
        device: Device,
        program: &Program,
        (engine, budget): (&Engine, &Budget),
    ) -> Result<Arc<GpuProgram>, Error> {
        // A rewrite of one name has another graph for other shapes.
        let own = (device, program.graph_hash().to_owned());
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = programs.iter().position(|(of, _)| *of == own) {
            programs[..=at].rotate_right(1);
            return Ok(programs[0].1.clone());
        }
        let failed = |source| Error::Gpu { device, source };
        let gpu = engine.0.gpu(device).map_err(failed)?;
        let hosts = (Fallback::Deny, engine.threads());
        let (graph, precision) = (program.graph().clone(), program.precision());
        // The limit of plans is kept when they are made.
        let gpu = Allowance::new(gpu, None);
        let made = GpuProgram::new(graph, gpu, budget.clone(), hosts, precision).map_err(failed)?;
        precision.check_capability(made.device().capability)?;
        let made = Arc::new(made);
        programs.insert(0, (own, made.clone()));
        programs.truncate(PROGRAMS);
        Ok(made)
    }

    /// Whether the user wants something on the GPU, however long it takes there.
    pub(super) fn wants_gpu(&self) -> bool {
        self.placements.iter().any(|placement| placement.device != Device::Cpu)
    }

    /// Where the user says that each step runs: that which a named node went into, or those that it became. A pattern that
    /// fits nothing is an error.
    pub(super) fn forced(
        &self,
        names: &StepNames<'_>,
        bound: &Bound,
        program: &Program,
    ) -> Result<Vec<Option<Forced>>, PlanError> {
        let mut forced = vec![None; bound.step_count()];
        if self.placements.is_empty() {
            return Ok(forced);
        }
        let named: Vec<Vec<String>> =
            (0..bound.step_count()).map(|step| names.of(bound, program, step)).collect();
        for Placement { pattern, device } in &self.placements {
            let mut fits = false;
            for (step, forced) in forced.iter_mut().enumerate() {
                if named[step].iter().any(|name| is_like(name, pattern)) {
                    fits = true;
                    *forced = Some(if *device == Device::Cpu { Forced::Cpu } else { Forced::Device });
                }
            }
            let gpu = *device == Device::Cpu || Some(*device) == self.gpu;
            let why = match (gpu, fits) {
                (true, true) => continue,
                (true, false) => match names.unplaced(|name| is_like(name, pattern)) {
                    Some(Unplaced::InBody { name, of }) => {
                        format!(
                            "`{name}` is in a graph that `{of}` runs, all of which runs in one place: name `{of}`"
                        )
                    }
                    Some(Unplaced::Nothing { name }) => format!("no kernel runs for `{name}`"),
                    None => "no node that runs has such a name".to_owned(),
                },
                (false, _) => match self.gpu {
                    Some(own) => format!("plans use cpu and {own}, not {device}"),
                    None => format!("plans use cpu alone, not {device}"),
                },
            };
            return Err(PlanError::Unplaceable { placement: format!("{pattern}={device}"), why });
        }
        Ok(forced)
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters and `?` for one.
fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // The latest star, and what it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(&c) if c == '?' || c == name[at] => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((begin, end)) => {
                    star = Some((begin, end + 1));
                    (at, of) = (end + 1, begin + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_stars_and_question_marks() {
        for (name, pattern) in
            [("a", "a"), ("decoder/lstm", "dec*"), ("abcabd", "*ab?"), ("", "*"), ("x=1", "x=?")]
        {
            assert!(is_like(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [("a", "b"), ("a", ""), ("abc", "a?"), ("abc", "*b"), ("", "?")] {
            assert!(!is_like(name, pattern), "{name} {pattern}");
        }
    }

    #[test]
    fn a_placement_is_a_pattern_and_a_device() {
        let read = "x=y*=cuda:0".parse::<Placement>().expect("one");
        assert_eq!(read, Placement::new("x=y*", Device::Cuda(0)));
        for wrong in ["", "a", "=cpu", "a=gpu"] {
            assert!(wrong.parse::<Placement>().is_err(), "{wrong}");
        }
        let error = "a=gpu".parse::<Placement>().expect_err("no device").to_string();
        assert!(error.contains("`gpu` is no device"), "{error}");
    }
}
