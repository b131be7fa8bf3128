//! Compresses the modules into one stream, each entry's text once, and writes `modules.rs` with the pieces of each module.
//!
//! Processors of different capability get the same text for most entries, so that the stream is hardly longer than one
//! module.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;

const ENTRY: &str = ".visible .entry ";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=modules");
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut list = String::from(
        "#[allow(clippy::unreadable_literal, reason = \"offsets, written by the build\")]\nstatic PIECES: &[(&str, &[(usize, usize)])] = &[\n",
    );
    let mut paths = Vec::new();
    for entry in Path::new("modules").read_dir()? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut stream = String::new();
    let mut known: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "ptx")) {
        println!("cargo:rerun-if-changed={}", path.display());
        let target = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a module without a name")?;
        write!(list, "    (\"{target}\", &[")?;
        let text = std::fs::read_to_string(path)?;
        for piece in pieces(&text) {
            let range = known.entry(piece.to_owned()).or_insert_with(|| {
                stream.push_str(piece);
                stream.len() - piece.len()..stream.len()
            });
            write!(list, "({}, {}), ", range.start, range.end)?;
        }
        list.push_str("]),\n");
    }
    list.push_str("];\n");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(stream.as_bytes())?;
    std::fs::write(folder.join("modules.zlib"), encoder.finish()?)?;
    list.push_str("static STREAM: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/modules.zlib\"));\n");
    std::fs::write(folder.join("modules.rs"), list)?;
    Ok(())
}

/// The text before the first entry, and each entry.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = rest[1..].find(ENTRY).map_or(rest.len(), |at| at + 1);
        let (piece, after) = rest.split_at(next);
        rest = after;
        Some(piece)
    })
}
