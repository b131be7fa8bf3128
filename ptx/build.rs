//! Compresses the modules, and writes `modules.rs` with each by the name of its target.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=modules");
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut list = String::from("static COMPRESSED: &[(&str, &[u8])] = &[\n");
    let mut paths = Vec::new();
    for entry in Path::new("modules").read_dir()? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "ptx")) {
        println!("cargo:rerun-if-changed={}", path.display());
        let target = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a module without a name")?;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&std::fs::read(path)?)?;
        std::fs::write(folder.join(target), encoder.finish()?)?;
        writeln!(list, "    (\"{target}\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{target}\"))),")?;
    }
    list.push_str("];\n");
    std::fs::write(folder.join("modules.rs"), list)?;
    Ok(())
}
