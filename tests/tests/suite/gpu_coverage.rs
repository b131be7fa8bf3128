//! The table of what a GPU computes of each operator.

use recurve_tests::gpu_coverage::page;
use std::path::Path;

#[test]
fn the_table_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gpu.md");
    let committed = std::fs::read_to_string(path).expect("docs/gpu.md");
    let page = page().expect("every operator has cases");
    let differs = page.lines().zip(committed.lines()).find(|(new, old)| new != old);
    let command = "cargo run --release -p recurve-tests --bin gpu-coverage -- --update";
    assert!(page == committed, "docs/gpu.md is stale, first at {differs:?}: run `{command}`");
}
