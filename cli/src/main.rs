//! The `recurve` command.
fn main() {}
