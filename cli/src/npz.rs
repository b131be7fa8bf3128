//! NPZ files: ZIP archives of NPY arrays, compressed or not.

use crate::npy::{self, ArrayError};
use recurve::{Tensor, TensorView};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("cannot read `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write `{}`", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` is one NPY array, not an NPZ file of arrays with names", path.display())]
    Single { path: PathBuf },
    #[error("`{}` is no readable NPZ archive", path.display())]
    Archive {
        path: PathBuf,
        #[source]
        source: ZipError,
    },
    #[error("`{}`: array `{name}`", path.display())]
    Member {
        path: PathBuf,
        name: String,
        #[source]
        source: Box<ArrayError>,
    },
    #[error("output `{name}` cannot be written to an NPZ file")]
    Output {
        name: String,
        #[source]
        source: Box<ArrayError>,
    },
    #[error("`{}`: `{name}` is in it twice, or is no `.npy`", path.display())]
    Name { path: PathBuf, name: String },
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: ZipError,
    },
}

impl ArchiveError {
    /// Whether an archive that could be opened could not be written: no fault of the arguments.
    pub(crate) fn is_a_failed_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// Reads all arrays of an archive.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, ArchiveError> {
    let here = || path.to_owned();
    let failed = |source| ArchiveError::Open { path: here(), source };
    let mut file = File::open(path).map_err(failed)?;
    if npy::begins(&mut file).and_then(|one| file.rewind().map(|()| one)).map_err(failed)? {
        return Err(ArchiveError::Single { path: here() });
    }
    let broken = |source| ArchiveError::Archive { path: here(), source };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let mut arrays: Vec<(String, Tensor)> = Vec::with_capacity(archive.len());
    let mut seen = HashSet::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(broken)?;
        let member_name = member.name().map_err(broken)?.into_owned();
        let name = member_name.strip_suffix(".npy").filter(|name| seen.insert((*name).to_owned()));
        let Some(name) = name.map(str::to_owned) else {
            return Err(ArchiveError::Name { path: here(), name: member_name });
        };
        match npy::read(member) {
            Ok(tensor) => arrays.push((name, tensor)),
            Err(source) => return Err(ArchiveError::Member { path: here(), name, source: source.into() }),
        }
    }
    Ok(arrays)
}

/// Writes an archive as `numpy.savez` does, without compression.
pub(crate) fn write<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
) -> Result<(), ArchiveError> {
    let file = File::create(path).map_err(|source| ArchiveError::Create { path: path.to_owned(), source })?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    let written = write_members(path, &mut archive, arrays);
    if written.is_err() {
        // Dropped, it would try to finish and print that it cannot.
        std::mem::forget(archive);
        return written;
    }
    let mut buffer =
        archive.finish().map_err(|source| ArchiveError::Write { path: path.to_owned(), source })?;
    buffer.flush().map_err(|e| ArchiveError::Write { path: path.to_owned(), source: e.into() })
}

fn write_members<'a>(
    path: &Path,
    archive: &mut ZipWriter<BufWriter<File>>,
    arrays: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
) -> Result<(), ArchiveError> {
    /// Members from this size on need the archive's 64-bit form.
    const LARGE: usize = 1 << 31;
    let failed = |source| ArchiveError::Write { path: path.to_owned(), source };
    for (name, tensor) in arrays {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(tensor.bytes().len() >= LARGE);
        archive.start_file(format!("{name}.npy"), options).map_err(failed)?;
        npy::write(&mut *archive, tensor).map_err(|source| match source {
            ArrayError::Io(error) => failed(error.into()),
            source => {
                ArchiveError::Member { path: path.to_owned(), name: name.to_owned(), source: source.into() }
            }
        })?;
    }
    Ok(())
}
