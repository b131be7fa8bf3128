//! Writes the RNN-shaped instances of the comparison with CP-SAT into a folder.
use std::path::PathBuf;

use recurve_scheduler::generate::recurrent;

#[path = "../tests/cases/mod.rs"]
mod cases;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: recurrent FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for (name, spec) in cases::recurrent_cases() {
        std::fs::write(folder.join(format!("{name}.json")), recurrent(spec).to_json()?)?;
    }
    Ok(())
}
