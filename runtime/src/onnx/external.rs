//! Tensor data in other files: inside the model's directory only, whatever the model says.

use super::proto::TensorProto;
use crate::error::Error;
use crate::memory::MappedFile;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// Files beside the model, each mapped once.
#[derive(Debug)]
pub(super) struct ExternalFiles {
    /// The model's directory; `None` for a model given as bytes, which cannot have any.
    directory: Option<PathBuf>,
    open: RefCell<HashMap<PathBuf, MappedFile>>,
}

impl ExternalFiles {
    /// Files in `directory`.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, open: RefCell::default() }
    }

    /// All files that were opened.
    pub(super) fn into_files(self) -> Vec<MappedFile> {
        self.open.into_inner().into_values().collect()
    }

    /// The bytes that `tensor` refers to, of which there must be `expected`.
    pub(super) fn bytes(&self, tensor: &TensorProto, expected: usize) -> Result<Bytes, Error> {
        let refuse = |what: String| Error::model(format!("external data of tensor `{}` {what}", tensor.name));
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| {
            entry(key)
                .map(|v| v.parse::<usize>().map_err(|_| refuse(format!("has {key} `{v}`, which is no size"))))
                .transpose()
        };
        let location = entry("location").ok_or_else(|| refuse("names no location".into()))?;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(expected);
        if length != expected {
            return Err(refuse(format!("has {length} bytes where its shape needs {expected}")));
        }
        let file = self.file(location, &refuse).map_err(|error| match error {
            Error::Io { path, source } => Error::ExternalData { tensor: tensor.name.clone(), path, source },
            error => error,
        })?;
        let file = file.bytes();
        let end = offset.checked_add(length).filter(|&end| end <= file.len());
        match end {
            Some(end) => Ok(file.slice(offset..end)),
            None => Err(refuse(format!(
                "ends {length} bytes after {offset}, but `{location}` has {} bytes",
                file.len()
            ))),
        }
    }

    fn file(&self, location: &str, refuse: &dyn Fn(String) -> Error) -> Result<MappedFile, Error> {
        let Some(directory) = &self.directory else {
            return Err(refuse(format!("lies in `{location}`, but a model given as bytes has no directory")));
        };
        // Lexically inside first, so that nothing outside is even looked at; then with links resolved.
        let relative = Path::new(location);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() {
            return Err(refuse("names no location".to_owned()));
        }
        if location.contains('\0') {
            return Err(refuse(format!("lies in {location:?}, which is no path")));
        }
        if relative.is_absolute() {
            return Err(refuse(format!(
                "lies in `{location}`; paths are told from the model's directory, and lie inside it"
            )));
        }
        if !inside {
            return Err(refuse(format!("lies in `{location}`, which is outside the model's directory")));
        }
        let path = directory.join(relative);
        let io = |source| Error::Io { path: path.clone(), source };
        let resolved = path.canonicalize().map_err(io)?;
        if !resolved.starts_with(directory.canonicalize().map_err(io)?) {
            return Err(refuse(format!("lies in `{location}`, a link to outside the model's directory")));
        }
        if let Some(file) = self.open.borrow().get(&resolved) {
            return Ok(file.clone());
        }
        let file = MappedFile::open(&resolved)?;
        self.open.borrow_mut().insert(resolved, file.clone());
        Ok(file)
    }
}
