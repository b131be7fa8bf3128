//! `compute-sanitizer`: where it is, and what its report says.

use std::path::PathBuf;

/// Where it may be, beside the folders of `PATH`.
const PLACES: [&str; 2] = ["/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer"];
const NAME: &str = "compute-sanitizer";

/// The tool, where it is there.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from)).collect();
    folders.into_iter().map(|folder| folder.join(NAME)).find(|tool| tool.is_file())
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Errors, of what a program with kernels did.
    Errors(u64),
    /// Nothing: the tool did not come to work here.
    Nothing,
}

/// Reads the lines `ERROR SUMMARY: 0 errors` of memcheck and `RACECHECK SUMMARY: 0 hazards displayed` of racecheck.
pub(super) fn verdict(report: &str) -> Verdict {
    let count = report.lines().find_map(|line| {
        let (_, tail) = line.split_once("SUMMARY: ")?;
        let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    // A device that the tool does not know is an error that says nothing of the kernels.
    let unable = [
        "not supported",
        "Unable to",
        "Failed to initialize",
        "Target application terminated before first instrumented",
    ];
    if unable.iter().any(|words| report.contains(words)) {
        return Verdict::Nothing;
    }
    count.map_or(Verdict::Nothing, Verdict::Errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        assert_eq!(verdict("x\n========= ERROR SUMMARY: 0 errors\n"), Verdict::Errors(0));
        assert_eq!(verdict("========= ERROR SUMMARY: 12 errors"), Verdict::Errors(12));
        let races = "========= RACECHECK SUMMARY: 3 hazards displayed (3 errors, 0 warnings)";
        assert_eq!(verdict(races), Verdict::Errors(3));
        assert_eq!(
            verdict("========= Error: Device not supported\n========= ERROR SUMMARY: 1 error"),
            Verdict::Nothing
        );
        assert_eq!(verdict("Segmentation fault"), Verdict::Nothing);
    }
}
