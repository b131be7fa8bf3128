//! The commands that the README shows.

use recurve_cli::Exit;
use std::path::Path;

#[test]
fn every_command_of_the_readme_succeeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let shown: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("$ recurve ")).collect();
    assert!(shown.len() >= 7, "{shown:?}");
    for line in shown {
        let command = line.split("  #").next().unwrap_or(line);
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let ended = crate::recurve_in(&root, &arguments).with(Exit::Success);
        assert!(!ended.out.is_empty(), "{line}");
    }
}
