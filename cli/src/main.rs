//! The `recurve` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    recurve_cli::main().into()
}
