//! A Python virtual environment under `target/`, made from a committed list of pinned packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process;

/// Makes the environment at `venv` from the file `requirements` and returns its interpreter.
///
/// An environment made from the same list is used again as it is; any other is replaced.
pub(crate) fn interpreter(python: &str, venv: &Path, requirements: &Path) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let interpreter = venv.join("bin").join("python");
    // Written last, so that an interrupted installation does not count.
    let installed = venv.join("installed-requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) && starts(&interpreter) {
        return Ok(interpreter);
    }
    process::run(Command::new(python).args(["-m", "venv", "--clear"]).arg(venv)).with_context(|| {
        format!(
            "cannot make a virtual environment: `{python}` must be Python 3.11 or newer with venv and pip \
             (on Debian: apt-get install python3-venv); `--python PROGRAM` names another"
        )
    })?;
    process::run(
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(requirements),
    )?;
    std::fs::write(&installed, wanted)?;
    Ok(interpreter)
}

/// Whether the interpreter still runs: the Python that it links to may be gone.
fn starts(interpreter: &Path) -> bool {
    let status = Command::new(interpreter).args(["-c", ""]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
