//! The profile document.

use super::device::DeviceProfile;
use super::handover::Handover;
use super::machine::Machine;
use super::measure::Measured;
use super::signature::hash_text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the document, and of how what it holds is measured: what was measured in another way is no cost of this.
///
/// 2: waking a thread is timed once it sleeps.
const VERSION: u32 = 2;
/// How many of an operator are measured side by side on a device.
pub(crate) const BESIDE: usize = 4;

/// What operators and transfers cost on one machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the format.
    pub version: u32,
    /// Version of Recurve whose kernels were measured.
    pub recurve: String,
    /// Where.
    pub machine: Machine,
    /// What handing work to other threads costs, by the number of threads.
    pub handover: BTreeMap<usize, Handover>,
    /// Transfers between memories by size.
    pub links: Vec<LinkTime>,
    /// Devices beside the CPU, by the names of their lanes and memories: `cuda:0`, `emulated`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, DeviceProfile>,
    /// By signature.
    pub operators: BTreeMap<String, OperatorCost>,
    /// What steps take that were timed together, one right behind the other: by their signatures in that order, with ` then `
    /// between, and by lane. What is absent takes what its steps take.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<String, BTreeMap<String, Measured>>,
}

/// The cost of one signature.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorCost {
    /// Operations, where they are known.
    pub flops: Option<f64>,
    /// Bytes read and written at least once, where they are known.
    pub bytes: Option<f64>,
    /// Measured times by lane: `cpu:1`, `cpu:2`, `cuda:0`.
    pub lanes: BTreeMap<String, Measured>,
    /// By device beside the CPU, the time until four of it have ended that begin together in streams of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, Measured>,
}

impl OperatorCost {
    /// Which part of a device it takes while it runs there, at most 1, where that was measured: as many as do not slow each
    /// other down have room side by side.
    pub(crate) fn share(&self, device: &str) -> Option<f64> {
        let (alone, beside) = (self.lanes.get(device)?, self.beside.get(device)?);
        let share = beside.median_us / (BESIDE as f64 * alone.median_us);
        share.is_finite().then(|| share.clamp(1.0 / BESIDE as f64, 1.0))
    }
}

/// The time of one transfer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTime {
    /// Memory read: `host`, `cuda:0`.
    pub from: String,
    /// Memory written.
    pub to: String,
    /// Bytes moved.
    pub bytes: u64,
    /// How long it took.
    pub time: Measured,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A file cannot be read or written.
    #[error("cannot read or write the profile `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The text is no profile.
    #[error("this is no profile: {what}")]
    Malformed {
        /// Where that was seen.
        what: String,
    },
    /// It was measured on another machine, by another version of Recurve or in another way.
    #[error("it was measured {what}")]
    Other {
        /// Where or by what.
        what: String,
    },
}

impl Profile {
    /// Of this machine, with nothing measured.
    pub fn empty() -> Self {
        Self {
            version: VERSION,
            recurve: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::here(),
            handover: BTreeMap::new(),
            links: Vec::new(),
            devices: BTreeMap::new(),
            operators: BTreeMap::new(),
            segments: BTreeMap::new(),
        }
    }

    /// Reads a profile of any machine.
    ///
    /// # Example
    /// ```
    /// use recurve::profiles::Profile;
    /// let profile = Profile::from_json(&Profile::empty().to_json())?;
    /// assert_eq!(profile, Profile::empty());
    /// assert!(Profile::from_json("{}").is_err());
    /// # Ok::<(), recurve::profiles::ProfileError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self, ProfileError> {
        let malformed = |what: String| ProfileError::Malformed { what };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if version != VERSION {
            let what = format!("in the way of version {version}; this engine reads version {VERSION}");
            return Err(ProfileError::Other { what });
        }
        let profile: Self = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        let times =
            |o: &'_ OperatorCost| o.lanes.values().chain(o.beside.values()).copied().collect::<Vec<_>>();
        let lanes = profile.operators.iter().flat_map(|(s, o)| times(o).into_iter().map(move |m| (s, m)));
        if let Some((signature, _)) = lanes.into_iter().find(|(_, m)| !m.is_sound()) {
            return Err(malformed(format!("the times of `{signature}` are none")));
        }
        if let Some((steps, _)) = profile.segments.iter().find(|(_, on)| !on.values().all(Measured::is_sound))
        {
            return Err(malformed(format!("the times of `{steps}` are none")));
        }
        if profile.links.iter().any(|l| !l.time.is_sound())
            || !profile.handover.values().all(Handover::is_sound)
        {
            return Err(malformed("times of transfers or hand-overs are none".to_owned()));
        }
        if let Some((name, _)) = profile.devices.iter().find(|(_, device)| !device.is_sound()) {
            return Err(malformed(format!("the rates or times of `{name}` are none")));
        }
        Ok(profile)
    }

    /// Reads a profile of any machine from a file.
    ///
    /// # Example
    /// ```
    /// # let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/h100-synthetic.json"));
    /// use recurve::profiles::Profile;
    /// let profile = Profile::read(path)?; // runtime/profiles/h100-synthetic.json
    /// assert!(profile.operators.is_empty() && !profile.devices.is_empty(), "rates alone");
    /// # Ok::<(), recurve::profiles::ProfileError>(())
    /// ```
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let io = |source| ProfileError::Io { path: path.to_owned(), source };
        Self::from_json(&std::fs::read_to_string(path).map_err(io)?)
    }

    /// The document.
    pub fn to_json(&self) -> String {
        // Strings, numbers and maps with string keys cannot fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Errs where it is of another machine or another version of Recurve.
    ///
    /// # Example
    /// ```
    /// use recurve::profiles::Profile;
    /// let mut profile = Profile::empty();
    /// profile.check_here()?;
    /// profile.machine.processor = "another".to_owned();
    /// assert!(profile.check_here().is_err());
    /// # Ok::<(), recurve::profiles::ProfileError>(())
    /// ```
    pub fn check_here(&self) -> Result<(), ProfileError> {
        let here = Machine::here();
        if self.recurve != env!("CARGO_PKG_VERSION") {
            return Err(ProfileError::Other { what: format!("by Recurve {}", self.recurve) });
        }
        if self.machine != here {
            let what =
                format!("on another machine: {} with {} cores", self.machine.processor, self.machine.cores);
            return Err(ProfileError::Other { what });
        }
        Ok(())
    }

    /// A short name of everything in it.
    pub fn hash(&self) -> String {
        hash_text(&self.to_json())
    }

    /// Adds what `other` measured; of what both measured, that of `other`.
    pub fn merge(&mut self, other: Self) {
        self.handover.extend(other.handover);
        self.devices.extend(other.devices);
        for link in other.links {
            self.links.retain(|l| (&l.from, &l.to, l.bytes) != (&link.from, &link.to, link.bytes));
            self.links.push(link);
        }
        for (signature, cost) in other.operators {
            let own = self.operators.entry(signature).or_default();
            (own.flops, own.bytes) = (cost.flops.or(own.flops), cost.bytes.or(own.bytes));
            own.lanes.extend(cost.lanes);
            own.beside.extend(cost.beside);
        }
        for (steps, on) in other.segments {
            self.segments.entry(steps).or_default().extend(on);
        }
    }

    /// The devices beside the CPU alone: their costs, copies to them and from them, and operators on them.
    pub fn of_devices(mut self) -> Self {
        let Self { devices, links, operators, handover, segments, .. } = &mut self;
        handover.clear();
        links.retain(|link| devices.contains_key(&link.from) || devices.contains_key(&link.to));
        for cost in operators.values_mut() {
            cost.lanes.retain(|lane, _| devices.contains_key(lane));
        }
        operators.retain(|_, cost| !cost.lanes.is_empty());
        retain_lanes(segments, |lane| devices.contains_key(lane));
        self
    }

    /// The CPU, and beside it `device` alone, where there is one.
    pub fn of_cpu_and(mut self, device: Option<&str>) -> Self {
        let Self { devices, links, operators, segments, .. } = &mut self;
        let kept = |name: &str| device == Some(name);
        devices.retain(|name, _| kept(name));
        links.retain(|link| [&link.from, &link.to].iter().all(|end| *end == "host" || kept(end)));
        for cost in operators.values_mut() {
            cost.lanes.retain(|lane, _| lane.starts_with("cpu:") || kept(lane));
            cost.beside.retain(|lane, _| kept(lane));
        }
        operators.retain(|_, cost| !cost.lanes.is_empty());
        retain_lanes(segments, |lane| lane.starts_with("cpu:") || kept(lane));
        self
    }

    /// What handing work over costs among `threads` threads or, where that was not measured, among the most that were.
    pub(crate) fn handover_among(&self, threads: usize) -> Option<&Handover> {
        self.handover.get(&threads).or_else(|| self.handover.values().next_back())
    }

    /// What a signature takes on a lane, where it was measured.
    pub(crate) fn measured(&self, signature: &str, lane: &str) -> Option<Measured> {
        self.operators.get(signature)?.lanes.get(lane).copied()
    }

    /// What steps of these signatures take on a lane one right behind the other, where they were timed so.
    pub(crate) fn measured_together(&self, segment: &str, lane: &str) -> Option<Measured> {
        self.segments.get(segment)?.get(lane).copied()
    }
}

/// Leaves what was timed on these lanes alone.
fn retain_lanes(segments: &mut BTreeMap<String, BTreeMap<String, Measured>>, kept: impl Fn(&str) -> bool) {
    segments.retain(|_, on| {
        on.retain(|lane, _| kept(lane));
        !on.is_empty()
    });
}
