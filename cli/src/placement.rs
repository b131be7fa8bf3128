//! Arguments that say what plans may use, and what they are to be best at.

use crate::arguments::parse_choice;
use crate::failure::UsageError;
use crate::quantity::{parse_bytes, parse_time};
use recurve::settings::{Devices, Placement};
use recurve::{Device, SessionBuilder};
use std::time::Duration;

/// What a plan may use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Placement")]
pub(crate) struct DevicesArguments {
    /// What plans may use, with commas between: cpu, cpu:0-7 for the first eight cores, and one GPU, cuda:0 or emulated
    /// [default: cpu]
    #[arg(long, value_name = "A,B", value_parser = parse_choice::<Devices>)]
    pub(crate) devices: Option<Devices>,
}

/// What a plan may use, and what it has to keep to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Placement")]
pub(crate) struct PlacementArguments {
    #[command(flatten)]
    pub(crate) devices: DevicesArguments,
    /// Of a GPU: most bytes of its memory, such as 512MiB, that a plan with --devices may use, or with --device a model
    /// [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    gpu_memory_limit: Option<usize>,
    /// Run nodes whose names fit a pattern on one of --devices, such as 'decoder*=cpu', with all that they were fused with;
    /// `*` stands for any characters, `?` for one; may be given several times
    #[arg(long, value_name = "PATTERN=DEVICE")]
    place: Vec<Placement>,
    /// With --mode memory: the service-level objective, the longest time that a run may take, such as 5ms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    slo: Option<Duration>,
}

impl DevicesArguments {
    /// Whether there is a GPU among them.
    pub(crate) fn has_gpu(&self) -> bool {
        self.devices.as_ref().is_some_and(|devices| devices.gpu.is_some())
    }

    /// Its name.
    pub(crate) fn gpu(&self) -> Option<String> {
        self.devices.as_ref()?.gpu.map(|gpu| gpu.to_string())
    }

    /// A session's settings.
    pub(crate) fn apply(&self, builder: SessionBuilder) -> SessionBuilder {
        match &self.devices {
            Some(devices) => builder.with_devices(devices.clone()),
            None => builder,
        }
    }
}

impl PlacementArguments {
    /// A session's settings.
    pub(crate) fn apply(&self, builder: SessionBuilder) -> SessionBuilder {
        let builder = self.devices.apply(builder).with_placements(self.place.iter().cloned());
        match self.gpu_memory_limit {
            Some(bytes) => builder.with_gpu_memory_limit(bytes),
            None => builder,
        }
    }

    /// Whether nodes are told where to run.
    pub(crate) fn places(&self) -> bool {
        !self.place.is_empty()
    }

    /// `mode`, or the least memory within the objective where that is asked for.
    pub(crate) fn mode(
        &self,
        memory: bool,
        mode: recurve::settings::Mode,
    ) -> Result<recurve::settings::Mode, UsageError> {
        match (memory, self.slo) {
            (true, _) if !self.devices.has_gpu() => {
                let problem = "--mode memory asks for the least memory of a GPU, and plans use cpu alone";
                Err(UsageError::new(problem).hint(
                    "name a GPU with --devices, such as --devices cpu,cuda:0, and the longest time with --slo, such as --slo 5ms",
                ))
            }
            (true, Some(slo)) => Ok(recurve::settings::Mode::Memory { slo }),
            (true, None) => {
                let problem = "--mode memory needs an objective for the time";
                Err(UsageError::new(problem).hint("give it with --slo, such as --slo 5ms"))
            }
            (false, Some(_)) => Err(UsageError::new("--slo goes with --mode memory")),
            (false, None) => Ok(mode),
        }
    }

    /// Refuses what is for a GPU where plans may not use one.
    pub(crate) fn needs_gpu(&self, more: &[(bool, &str)]) -> Result<(), UsageError> {
        let limit = [(self.limits_gpu(), "--gpu-memory-limit")];
        let mut given = limit.iter().chain(more).filter(|(given, _)| *given);
        if let Some((_, name)) = given.next().filter(|_| !self.devices.has_gpu()) {
            return Err(UsageError::new(format!("{name} is for plans that may use a GPU"))
                .hint("name it with --devices, such as --devices cpu,cuda:0"));
        }
        let gpu = self.devices.devices.as_ref().and_then(|devices| devices.gpu);
        let used = |device: Device| device == Device::Cpu || Some(device) == gpu;
        match self.place.iter().find(|place| !used(place.device)) {
            Some(Placement { pattern, device, .. }) => {
                let own = gpu.map_or_else(|| "cpu alone".to_owned(), |gpu| format!("cpu and {gpu}"));
                let problem = format!("--place '{pattern}={device}': plans use {own}");
                Err(UsageError::new(problem)
                    .hint("--devices says what plans use, such as --devices cpu,cuda:0"))
            }
            None => Ok(()),
        }
    }

    /// Whether a GPU's memory is limited.
    pub(crate) fn limits_gpu(&self) -> bool {
        self.gpu_memory_limit.is_some()
    }

    /// Whether something is given that has an effect on plans alone.
    pub(crate) fn is_for_plans(&self) -> bool {
        self.devices.devices.is_some() || self.places()
    }
}
