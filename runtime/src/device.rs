//! Where a model runs, and what this machine has of it.

use crate::cuda::{self, GpuError};
use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// Where operators run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Device {
    /// The cores of this machine.
    #[default]
    Cpu,
    /// A GPU, by its number from 0 in the driver's order.
    Cuda(usize),
    /// The emulator of the GPU kernels: it runs them on the CPU and checks every access to memory. It tells whether
    /// they are right, not how fast they are. It has 4 GiB of memory.
    Emulated,
}

/// What becomes of operators that have no kernel for the GPU that a model runs on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// They are an error that names them.
    #[default]
    Deny,
    /// They run on the CPU between the GPU's kernels: what they read is copied down, and what they make up.
    /// [`Session::host_trips`](crate::Session::host_trips) tells which and how often.
    Cpu,
}

impl FromStr for Fallback {
    type Err = Error;

    /// `deny` or `cpu`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "deny" => Ok(Self::Deny),
            "cpu" => Ok(Self::Cpu),
            _ => {
                let problem = format!("is `{text}`; `deny` and `cpu` are possible");
                Err(Error::Setting { name: "fallback", problem })
            }
        }
    }
}

/// What a plan may use: threads of the CPU, and a GPU beside them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Devices {
    /// Threads, the caller's included; `None` for one per core.
    pub threads: Option<usize>,
    /// The GPU; [`Device::Emulated`] is one, too.
    pub gpu: Option<Device>,
}

impl FromStr for Devices {
    type Err = Error;

    /// Names with commas between them, the CPU among them: `cpu`, `cpu:0-7` for eight threads, `cuda:0`, `emulated`.
    ///
    /// # Example
    /// ```
    /// use recurve::Device;
    /// use recurve::settings::Devices;
    /// let devices: Devices = "cpu:0-7,cuda:0".parse()?;
    /// assert_eq!((devices.threads, devices.gpu), (Some(8), Some(Device::Cuda(0))));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Setting { name: "devices", problem };
        let mut devices = Self::default();
        let mut cpu = false;
        for name in text.split(',').map(str::trim) {
            let threads = name.strip_prefix("cpu:").map(|cores| {
                let last = cores.strip_prefix("0-").unwrap_or(cores).parse::<usize>().ok();
                let first = cores == "0" || cores.starts_with("0-");
                last.filter(|_| first).and_then(|last| last.checked_add(1))
            });
            match (name, threads) {
                ("cpu", _) | (_, Some(Some(_))) if cpu => {
                    return Err(wrong(format!("is `{text}`, which names the CPU twice")));
                }
                ("cpu", _) => cpu = true,
                (_, Some(Some(threads))) => (cpu, devices.threads) = (true, Some(threads)),
                (_, Some(None)) => {
                    let problem = format!("is `{text}`; cores are given as `cpu:0-N`, from the first on");
                    return Err(wrong(problem));
                }
                (name, None) => {
                    let other = |_| {
                        wrong(format!("is `{text}`; `cpu`, `cpu:0-7`, `cuda:0` and `emulated` are possible"))
                    };
                    let gpu: Device = name.parse().map_err(other)?;
                    if devices.gpu.replace(gpu).is_some() {
                        return Err(wrong(format!("is `{text}`; plans use one GPU")));
                    }
                }
            }
        }
        if !cpu {
            let problem = format!(
                "is `{text}`, without the CPU, whose threads launch and run what a GPU cannot; `cpu,{text}` is possible"
            );
            return Err(wrong(problem));
        }
        Ok(devices)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `cpu`, `cuda:0` and so on, `cuda` for the first, or `emulated`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let ordinal = match text {
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        match (text, ordinal) {
            ("cpu", _) => Ok(Self::Cpu),
            ("emulated", _) => Ok(Self::Emulated),
            (_, Some(ordinal)) => Ok(Self::Cuda(ordinal)),
            _ => Err(Error::Setting {
                name: "device",
                problem: format!(
                    "is `{text}`; `cpu`, `cuda:0`, `cuda:1`, …, `cuda` for the first and `emulated` are possible"
                ),
            }),
        }
    }
}

/// A GPU of this machine, or why it cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GpuInfo {
    /// How to name it.
    pub device: Device,
    /// The name that the driver gives it.
    pub name: String,
    /// Major and minor number of its compute capability.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub memory: u64,
    /// CUDA version of the driver, such as `12.8`.
    pub driver: String,
    /// The module of kernels that it would run, such as `sm_90a`; none was built for GPUs older than the oldest.
    pub module: Option<String>,
}

/// The GPUs of this machine in the driver's order, or why there is none.
///
/// # Example
/// ```
/// match recurve::gpu::gpus() {
///     Ok(gpus) => gpus.iter().for_each(|gpu| println!("{}: {}", gpu.device, gpu.name)),
///     Err(reason) => println!("no GPU: {reason}"),
/// }
/// ```
pub fn gpus() -> Result<Vec<GpuInfo>, GpuError> {
    let found = cuda::gpus()?;
    Ok(found
        .into_iter()
        .enumerate()
        .map(|(ordinal, p)| GpuInfo {
            device: Device::Cuda(ordinal),
            module: cuda::module(p.capability).map(|m| m.record().target.clone()),
            name: p.name,
            capability: p.capability,
            multiprocessors: p.multiprocessors,
            memory: p.memory,
            driver: p.driver.map(|v| v.to_string()).unwrap_or_default(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_without_the_cpu_are_refused() {
        for text in ["cuda:0", "emulated"] {
            let error = text.parse::<Devices>().expect_err("no CPU").to_string();
            assert!(error.contains("without the CPU") && error.contains(&format!("`cpu,{text}`")), "{error}");
            let both = format!("{text},cpu").parse::<Devices>().expect("both");
            assert_eq!((both.threads, both.gpu), (None, text.parse().ok()));
        }
    }

    #[test]
    fn a_fallback_is_read() {
        assert_eq!("deny".parse::<Fallback>().ok(), Some(Fallback::Deny));
        assert_eq!("cpu".parse::<Fallback>().ok(), Some(Fallback::Cpu));
        let error = "gpu".parse::<Fallback>().expect_err("no fallback").to_string();
        assert!(error.contains("`gpu`"), "{error}");
    }

    #[test]
    fn devices_are_one_cpu_and_one_gpu() {
        let read = |text: &str| text.parse::<Devices>().ok().map(|d| (d.threads, d.gpu));
        assert_eq!(read("cpu"), Some((None, None)));
        assert_eq!(read("cpu:0"), Some((Some(1), None)));
        assert_eq!(read("cpu:0-3, emulated"), Some((Some(4), Some(Device::Emulated))));
        assert_eq!(read("cuda:1,cpu"), Some((None, Some(Device::Cuda(1)))));
        for wrong in
            ["", "cpu:", "cpu:2-3", "cpu:0-", "cpu,cpu", "cpu:0-1,cpu", "cuda:0,emulated", "cpu;cuda:0"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(13), Device::Emulated] {
            assert_eq!(device.to_string().parse::<Device>().ok(), Some(device));
        }
        assert_eq!("cuda".parse::<Device>().ok(), Some(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = wrong.parse::<Device>().expect_err(wrong).to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
