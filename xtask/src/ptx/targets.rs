//! The processors that modules are compiled for, and the compiler's flags.

/// One module's target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The processor's name to the compiler.
    pub(super) name: &'static str,
    /// Compute capability, as `10 · major + minor`.
    pub(super) capability: u32,
    /// Whether the code runs on that capability only: names that end in `a`.
    pub(super) exact: bool,
    /// The version of PTX, as the compiler's feature.
    language: &'static str,
    /// The CUDA version that brought that PTX version, as drivers count theirs.
    pub(super) driver: u32,
}

/// Each asks for the least PTX version that has its kernels' instructions: 7.4 brought the cache hints, 8.1 `st.async`.
/// Processors above 9.0 run the module of 8.0: kernels assemble for `sm_100a`, too, but none has an instruction that only
/// that has, so a module of its own would be the same text again.
pub(super) const TARGETS: &[Target] = &[
    Target { name: "sm_75", capability: 75, exact: false, language: "ptx74", driver: 11040 },
    Target { name: "sm_80", capability: 80, exact: false, language: "ptx74", driver: 11040 },
    Target { name: "sm_90a", capability: 90, exact: true, language: "ptx81", driver: 12010 },
];

impl Target {
    /// The compiler's flags. The threshold keeps small arrays in registers: a loop over an array that is not
    /// unrolled whole puts the array into local memory. Above level 1 the compiler's own jump threading copies a
    /// barrier into both branches of a condition that stands before and behind it, though not all threads of a
    /// block come to either copy; LLVM's knows barriers and does not.
    pub(super) fn flags(&self) -> Vec<String> {
        vec![
            format!("-Ctarget-cpu={}", self.name),
            format!("-Ctarget-feature=+{}", self.language),
            "-Cllvm-args=-unroll-threshold=20000".to_owned(),
            "-Zmir-opt-level=1".to_owned(),
        ]
    }
}

/// The flags of every target, as part of what the modules are made from.
pub(super) fn all_flags() -> String {
    let lines: Vec<String> = TARGETS.iter().map(|target| target.flags().join(" ")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_ascend_and_a_suffix_means_one_capability() {
        assert!(TARGETS.is_sorted_by_key(|target| target.capability));
        for target in TARGETS {
            assert_eq!(target.exact, target.name.ends_with('a'), "{}", target.name);
            let digits: String = target.name.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(digits, target.capability.to_string());
        }
    }
}
