//! What tells one machine from another, as far as times depend on it.

use super::signature::hash_text;
use serde::{Deserialize, Serialize};

/// The machine that a profile was measured on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Name of the processor, empty where the system does not tell.
    pub processor: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Instruction set of the kernels, and the processor's matrix unit where they use one: "AVX-512, AMX".
    pub instructions: String,
    /// System and architecture.
    pub system: String,
    /// GPUs with the version of their driver, in its order.
    pub gpus: Vec<String>,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        let gpus = crate::device::gpus().unwrap_or_default();
        Self {
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: instructions(),
            system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            gpus: gpus.into_iter().map(|gpu| format!("{} driver {}", gpu.name, gpu.driver)).collect(),
        }
    }

    /// A short name of all of it.
    pub fn fingerprint(&self) -> String {
        hash_text(&format!("{self:?}"))
    }
}

/// What kernels are compiled for that run here.
fn instructions() -> String {
    let vectors = crate::cpu::simd::Level::detect().name();
    match crate::cpu::amx::Unit::detect() {
        Some(_) => format!("{vectors}, AMX"),
        None => vectors.to_owned(),
    }
}

/// The name that Linux gives the processor.
fn processor() -> String {
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = listed.lines().find_map(|line| line.strip_prefix("model name"));
    named.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_has_another_fingerprint() {
        let here = Machine::here();
        assert_eq!(here.fingerprint(), Machine::here().fingerprint());
        for other in [
            Machine { cores: here.cores + 1, ..here.clone() },
            Machine { processor: "another".to_owned(), ..here.clone() },
            Machine { gpus: vec!["one".to_owned()], ..here.clone() },
        ] {
            assert_ne!(here.fingerprint(), other.fingerprint());
        }
    }
}
