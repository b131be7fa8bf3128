//! The plan document and its text form.

use super::PlanError;
use super::device::held_bytes;
use super::instruction::{Instruction, Phase};
use super::streams::MOST_STREAMS;
use crate::exec::Space;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the document.
///
/// 2: steps on a device may be brought their weights in every run. 3: copies of weights may begin between the launches of
/// another step. 4: a step may be of a segment, and be led by one
/// worker with threads that others lend.
pub(crate) const VERSION: u32 = 4;

/// How the steps of a model are placed on workers, for one set of input shapes.
///
/// [`fmt::Display`] writes it in a stable form for review; [`Plan::to_json`] and [`Plan::from_json`] keep it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// Version of the format.
    pub version: u32,
    /// Hash of the model's graph.
    pub model: String,
    /// Hash of the profile that it was made from.
    pub profile: String,
    /// Element types and shapes of the inputs.
    pub inputs: Vec<PlannedInput>,
    /// How the graph was rewritten before it was placed: `none`, or as the rewrite names itself.
    pub rewrite: String,
    /// Threads, the caller's included.
    pub workers: usize,
    /// Time from the first instruction to the last, by the costs of the steps and of hand-overs.
    pub predicted_us: f64,
    /// The same for the model as it is, with every step on all workers, one after the other.
    pub together_us: f64,
    /// The same for the model as it is, with every step on one worker.
    pub alone_us: f64,
    /// A time below which no placement of these steps comes, by the scheduler's bounds.
    pub bound_us: f64,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The steps in the order of the graph.
    pub steps: Vec<PlannedStep>,
    /// The instructions.
    pub phases: Vec<Phase>,
    /// Offset in the arena of every value that lies there.
    pub offsets: Vec<usize>,
    /// The same for the model as it is, with every step on the device that it can run on, one behind the other, where there is
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_us: Option<f64>,
    /// Bytes of the device's memory in that case: weights, constants and the arena.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<usize>,
    /// What runs on a device beside the CPU, where something does. The last of the workers launches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PlannedDevice>,
}

/// What a plan has on a device beside the CPU.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedDevice {
    /// The device: `cuda:0`, `emulated`.
    pub device: String,
    /// The steps that run there.
    pub steps: Vec<usize>,
    /// The stream that each of them is given to; empty where there is one for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<usize>,
    /// What is copied between the memories.
    pub copies: Vec<PlannedCopy>,
    /// Bytes of its arena.
    pub arena_bytes: usize,
    /// Bytes of the blocks of the weights and constants that stay there.
    pub weight_bytes: usize,
    /// Whether kernels do with little workspace there, though that is slower: what is planned so fits less memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lean: bool,
    /// The steps that are brought weights in every run, which then do not stay there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brought: Vec<BroughtWeights>,
    /// Offset in its arena of everything that lies there.
    pub offsets: Vec<usize>,
}

impl PlannedDevice {
    /// Bytes of the device's memory that the plan takes: the block of its arena, and those of what stays there.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weight_bytes.saturating_add(held_bytes(self.arena_bytes))
    }

    /// The stream of a step that runs there.
    pub(crate) fn stream(&self, step: usize) -> Option<usize> {
        let at = self.steps.iter().position(|&own| own == step)?;
        Some(self.streams.get(at).copied().unwrap_or(0))
    }

    /// How a step that runs there is brought weights, where it is.
    pub(crate) fn brought_to(&self, step: usize) -> Option<&BroughtWeights> {
        self.brought.iter().find(|weights| weights.step == step)
    }

    /// Refuses weights that are brought to no step there, to one twice, or beside one that has no copies between its launches.
    pub(crate) fn check_brought(&self) -> Result<(), PlanError> {
        for (at, BroughtWeights { step, beside, .. }) in self.brought.iter().enumerate() {
            let again = self.brought[..at].iter().any(|other| other.step == *step);
            if again || !self.steps.contains(step) {
                return Err(PlanError::invalid(format!("step {step} cannot be brought weights")));
            }
            let Some(beside) = beside else { continue };
            if self.brought_to(*beside).is_none_or(|own| !own.apart || own.step == *step) {
                let what = format!(
                    "step {step} is brought weights between the launches of step {beside}, which has none"
                );
                return Err(PlanError::invalid(what));
            }
        }
        Ok(())
    }

    /// Bytes of weights that are brought in every run.
    #[must_use]
    pub fn brought_bytes(&self) -> usize {
        self.brought.iter().fold(0, |sum, weights| sum.saturating_add(weights.bytes))
    }

    /// Refuses streams that are not those of the steps.
    pub(crate) fn check_streams(&self) -> Result<(), PlanError> {
        let (streams, steps) = (self.streams.len(), self.steps.len());
        if streams != 0 && streams != steps {
            return Err(PlanError::invalid(format!("it names {streams} streams for {steps} steps")));
        }
        match self.streams.iter().find(|&&stream| stream >= MOST_STREAMS) {
            Some(stream) => Err(PlanError::invalid(format!("there is no stream {stream}"))),
            None => Ok(()),
        }
    }
}

/// Weights that a step on a device is brought in every run, through a room of its arena that other steps use, too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BroughtWeights {
    /// The step.
    pub step: usize,
    /// Whether the parts of the step have theirs in turns in that room, those of the first ahead of the step and the others
    /// between its kernels.
    pub apart: bool,
    /// The step behind whose end the copy ahead of it begins, where it is not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<usize>,
    /// The step that the copy goes on beside: it begins behind the last copy between the launches of that, where there is
    /// such a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<usize>,
    /// Bytes that are copied in all.
    pub bytes: usize,
}

/// A copy between the host's memory and a device's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedCopy {
    /// The name of the value that it is of, in the model.
    #[serde(default)]
    pub name: String,
    /// Where that lies.
    pub space: Space,
    /// The first byte of that.
    pub first: usize,
    /// Bytes.
    pub bytes: usize,
    /// To the device, or from it.
    pub up: bool,
    /// How long it takes.
    pub cost_us: f64,
    /// Where that is known from.
    pub timing: Timing,
    /// When it begins, by the prediction.
    pub start_us: f64,
}

/// The form of an input that a plan is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its extents.
    pub shape: Vec<usize>,
}

impl fmt::Display for PlannedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{} {}[{}]", self.name, self.dtype, extents.join(","))
    }
}

/// One step of a plan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedStep {
    /// Name of the node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Where it runs: `cpu0`, `cpu1`, …, `cpu0-1` for workers that share it, `cpu*` for all workers together, or a device, whose streams behind the first have
    /// their number: `cuda:0`, `cuda:0/1`.
    pub place: String,
    /// How long it takes there.
    pub cost_us: f64,
    /// Where that is known from.
    pub timing: Timing,
    /// With how many steps, itself among them, its time was measured; 0 where that is its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segment: usize,
    /// When it begins, by the prediction.
    pub start_us: f64,
    /// Bytes that it writes.
    pub bytes: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Where a cost is known from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Timing {
    /// It was measured.
    Measured,
    /// It follows from what similar operators took.
    Estimated,
    /// It was measured on the emulator, and says nothing of a GPU.
    Emulated,
    /// It was computed from published constants of a device that was not measured.
    Synthetic,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
            Self::Emulated => "emulated",
            Self::Synthetic => "synthetic",
        })
    }
}

impl Plan {
    /// Reads a plan. Whether it fits a model is found when it is used.
    ///
    /// # Example
    /// ```
    /// use recurve::plans::{Plan, PlanError};
    /// let error = Plan::from_json("{}").expect_err("no plan");
    /// assert!(matches!(error, PlanError::Malformed { .. }));
    /// # Ok::<(), PlanError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        let malformed = |what: String| PlanError::Malformed { what };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // Fields of other versions are others.
        let Versioned { version } = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if version != VERSION {
            return Err(malformed(format!("it has version {version} instead of {VERSION}")));
        }
        serde_json::from_str(text).map_err(|e| malformed(e.to_string()))
    }

    /// The document.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists cannot fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Whether some step runs beside another.
    pub fn is_parallel(&self) -> bool {
        let busy = |lists: &[Vec<Instruction>]| lists.iter().filter(|list| !list.is_empty()).count();
        self.phases.iter().any(|phase| match phase {
            Phase::Together { .. } => false,
            Phase::Apart { lists } => busy(lists) > 1,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {} of model {} by profile {}", self.version, self.model, self.profile)?;
        let inputs: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
        writeln!(f, "inputs {}", inputs.join(", "))?;
        writeln!(f, "rewrite {}, {} workers, arena {} bytes", self.rewrite, self.workers, self.arena_bytes)?;
        writeln!(
            f,
            "predicted {:.1} us, all together {:.1} us, one worker {:.1} us, bound {:.1} us",
            self.predicted_us, self.together_us, self.alone_us, self.bound_us
        )?;
        let stream = |step: usize| match self.device.as_ref().and_then(|device| device.stream(step)) {
            None | Some(0) => String::new(),
            Some(stream) => format!(" in stream {stream}"),
        };
        let name = |step: usize| {
            let own = self.steps.get(step);
            own.map_or_else(String::new, |s| {
                format!(" {} ({}) {:.1} us{}", s.name, s.op, s.cost_us, stream(step))
            })
        };
        let moved = |copy: usize| {
            let copy = self.device.as_ref().and_then(|device| device.copies.get(copy));
            copy.map_or_else(String::new, |c| {
                let way = if c.up { "to the device" } else { "to the host" };
                format!(" {} of {} bytes {way} {:.1} us", space(c.space), c.bytes, c.cost_us)
            })
        };
        for (at, phase) in self.phases.iter().enumerate() {
            match phase {
                Phase::Together { step } => writeln!(f, "phase {at} together\n  run {step}{}", name(*step))?,
                Phase::Apart { lists } => {
                    writeln!(f, "phase {at} apart")?;
                    for (worker, list) in lists.iter().enumerate() {
                        writeln!(f, "  worker {worker}")?;
                        for instruction in list {
                            match instruction {
                                Instruction::Wait(flag) => writeln!(f, "    wait {flag}")?,
                                Instruction::Run(step) => writeln!(f, "    run {step}{}", name(*step))?,
                                Instruction::Signal(flag) => writeln!(f, "    signal {flag}")?,
                                Instruction::Copy(copy) => writeln!(f, "    copy {copy}{}", moved(*copy))?,
                                Instruction::Lead { step, threads } => {
                                    writeln!(f, "    lead {step} on {threads} threads{}", name(*step))?;
                                }
                                Instruction::Lend(step) => writeln!(f, "    lend to {step}")?,
                            }
                        }
                    }
                }
            }
        }
        let offsets: Vec<String> = self.offsets.iter().map(ToString::to_string).collect();
        writeln!(f, "offsets {}", offsets.join(" "))?;
        let Some(device) = &self.device else { return Ok(()) };
        let PlannedDevice { device: name, arena_bytes, weight_bytes, .. } = device;
        let lean = if device.lean { ", little workspace" } else { "" };
        writeln!(f, "device {name}, arena {arena_bytes} bytes, weights {weight_bytes} bytes{lean}")?;
        for BroughtWeights { step, apart, behind, beside, bytes } in &device.brought {
            let apart = if *apart { ", each part's by itself" } else { "" };
            let behind = behind.map_or_else(String::new, |behind| format!(", behind step {behind}"));
            let beside = beside.map_or_else(String::new, |of| format!(", between the launches of step {of}"));
            writeln!(f, "step {step} is brought {bytes} bytes of weights{apart}{behind}{beside}")?;
        }
        let offsets: Vec<String> = device.offsets.iter().map(ToString::to_string).collect();
        writeln!(f, "device offsets {}", offsets.join(" "))
    }
}

fn space(space: Space) -> String {
    match space {
        Space::Input(at) => format!("input {at}"),
        Space::Tenant(at) => format!("value {at}"),
        Space::Output(at) => format!("output {at}"),
        Space::Weights(step) => format!("weights of step {step}"),
    }
}
