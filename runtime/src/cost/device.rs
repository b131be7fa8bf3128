//! What is known of a device beside the CPU: what it is, what handing it work costs, and, where it was never measured, the
//! rates that its times are computed from.

use super::measure::Measured;
use crate::ops::Cost;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where the times of a device come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeviceSource {
    /// They were measured on it.
    Measured,
    /// They were measured on the emulator, which runs on the CPU: they say nothing of a GPU.
    Emulated,
    /// They were computed from published constants; nothing was measured.
    Synthetic,
}

impl fmt::Display for DeviceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measured => "measured",
            Self::Emulated => "emulated",
            Self::Synthetic => "synthetic",
        })
    }
}

/// A device beside the CPU. What was never measured is absent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Its name.
    pub name: String,
    /// Where its times come from.
    pub source: DeviceSource,
    /// What they rest on, for whoever reads them.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Compute capability, ten times the major number and the minor one.
    pub capability: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most bytes of shared memory that a block may ask for.
    pub shared_bytes: u32,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// A kernel that does nothing, behind others in a stream.
    pub kernel: Option<Measured>,
    /// The same as a node of a captured graph.
    pub graph_node: Option<Measured>,
    /// From giving a kernel that does nothing to an empty stream until the host knows of its end.
    pub round_trip: Option<Measured>,
    /// A kernel that does nothing and waits for the event behind one in another stream; where it is absent, plans give all
    /// steps to one stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Measured>,
    /// What its times are computed from where an operator was not measured.
    #[serde(default)]
    pub rates: Option<DeviceRates>,
}

/// Rates of a device that was not measured: `t = launches · kernel + max(operations / F, bytes / B) + steps · S`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRates {
    /// Operations per microsecond, by element type; what is not named is not estimated where it has operations.
    pub flops_per_us: BTreeMap<String, f64>,
    /// Bytes of its memory per microsecond.
    pub bytes_per_us: f64,
    /// One step of a recurrence: the state exchanged among multiprocessors, and gates.
    pub step_us: f64,
}

/// What an operator asks of a device.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct DeviceWork<'a> {
    pub(crate) cost: Cost,
    /// Element type that it computes in.
    pub(crate) dtype: &'a str,
    pub(crate) launches: usize,
    /// Steps that follow one on the other.
    pub(crate) steps: usize,
}

impl DeviceProfile {
    /// The time of an operator by the rates; `None` where one that it needs is absent.
    pub(crate) fn by_rates(&self, work: DeviceWork<'_>) -> Option<f64> {
        let rates = self.rates.as_ref()?;
        let kernel = self.graph_node.or(self.kernel)?.median_us;
        let least = self.least_us(work.cost, work.dtype)?;
        Some(work.launches as f64 * kernel + least + work.steps as f64 * rates.step_us)
    }

    /// The time that its arithmetic or its memory takes for an operator, by the rates.
    pub(crate) fn least_us(&self, cost: Cost, dtype: &str) -> Option<f64> {
        let rates = self.rates.as_ref()?;
        let arithmetic = if cost.flops > 0.0 && cost.flops.is_finite() {
            cost.flops / rates.flops_per_us.get(dtype).or_else(|| rates.flops_per_us.get("f32"))?
        } else {
            0.0
        };
        Some(arithmetic.max(cost.bytes.max(0.0) / rates.bytes_per_us))
    }

    /// How much later a kernel begins that waits for another stream than one behind another in its own.
    pub(crate) fn event_us(&self) -> Option<f64> {
        Some((self.event?.median_us - self.kernel?.median_us).max(0.0))
    }

    /// Whether it can be of a device at all: a file may say anything.
    pub(crate) fn is_sound(&self) -> bool {
        let positive = |rate: f64| rate.is_finite() && rate > 0.0;
        let rates = self.rates.as_ref().is_none_or(|r| {
            r.flops_per_us.values().all(|f| positive(*f))
                && positive(r.bytes_per_us)
                && r.step_us >= 0.0
                && r.step_us.is_finite()
        });
        let times = [self.kernel, self.graph_node, self.round_trip, self.event];
        rates && times.iter().flatten().all(Measured::is_sound) && self.multiprocessors > 0
    }

    /// What its kernels are prepared for.
    pub(crate) fn device(&self) -> recurve_kernels::launch::Device {
        recurve_kernels::launch::Device {
            capability: self.capability,
            multiprocessors: self.multiprocessors,
            shared_bytes: self.shared_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(us: f64) -> Option<Measured> {
        Some(Measured { median_us: us, min_us: us, p90_us: us, runs: 1 })
    }

    #[test]
    fn a_time_by_rates_is_that_of_launches_the_slower_of_two_bounds_and_steps() {
        let rates = DeviceRates {
            flops_per_us: [("f32".to_owned(), 100.0), ("f16".to_owned(), 1000.0)].into(),
            bytes_per_us: 10.0,
            step_us: 0.5,
        };
        let mut device = DeviceProfile {
            name: "one".into(),
            source: DeviceSource::Synthetic,
            notes: Vec::new(),
            capability: 90,
            multiprocessors: 132,
            shared_bytes: 1 << 17,
            memory_bytes: 1 << 30,
            kernel: exactly(2.0),
            graph_node: exactly(1.0),
            round_trip: None,
            event: None,
            rates: Some(rates),
        };
        let work =
            DeviceWork { cost: Cost { flops: 1000.0, bytes: 20.0 }, dtype: "f32", launches: 2, steps: 4 };
        assert_eq!(device.by_rates(work), Some(2.0 + 10.0 + 2.0));
        assert_eq!(device.by_rates(DeviceWork { dtype: "f16", ..work }), Some(2.0 + 2.0 + 2.0));
        assert_eq!(device.event_us(), None, "what was not measured is absent");
        device.event = exactly(3.5);
        assert_eq!(device.event_us(), Some(1.5));
        device.graph_node = None;
        assert_eq!(device.by_rates(work), Some(4.0 + 10.0 + 2.0));
        device.kernel = None;
        assert_eq!(device.by_rates(work), None, "what was not measured is absent");
        assert!(device.is_sound());
        device.rates.as_mut().expect("some").bytes_per_us = 0.0;
        assert!(!device.is_sound());
    }
}
