//! Exit codes.

use crate::failure::{InvalidFile, UsageError};
use crate::npz::ArchiveError;
use recurve::{Error, ErrorKind};
use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied};
use std::process::ExitCode;

/// How the command ended. The numbers are stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// What no other code names: a memory limit, a full disk, a bug.
    Unexpected = 1,
    /// The arguments do not fit the command or the model: a file that they name cannot be opened, its arrays are not
    /// those of the model.
    Usage = 2,
    /// The model is malformed, or holds something that the engine does not run; or a plan, profile or measurement is not
    /// one, or is for something else.
    Model = 3,
    /// A device or its driver failed.
    Device = 4,
    /// Outputs differ from what was expected (`check`).
    OutputsDiffer = 5,
    /// Slower than the baseline allows (`bench`).
    Slower = 6,
    /// No schedule meets what is asked (`schedule`), or the model cannot be planned (`plan`).
    Infeasible = 7,
    /// The deadline passed.
    Timeout = 124,
}

impl Exit {
    /// The code for a class of error.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidInput | ErrorKind::Io => Self::Usage,
            ErrorKind::InvalidModel | ErrorKind::Unsupported | ErrorKind::InvalidPlan => Self::Model,
            ErrorKind::Unplannable => Self::Infeasible,
            ErrorKind::Device => Self::Device,
            ErrorKind::Deadline => Self::Timeout,
            // `MemoryLimit`, `Cancelled`, `Internal`, and classes that do not exist yet.
            _ => Self::Unexpected,
        }
    }

    fn of_schedule(kind: recurve_scheduler::ErrorKind) -> Self {
        match kind {
            recurve_scheduler::ErrorKind::Document => Self::Model,
            recurve_scheduler::ErrorKind::Infeasible => Self::Infeasible,
            recurve_scheduler::ErrorKind::Usage | recurve_scheduler::ErrorKind::Io => Self::Usage,
            _ => Self::Unexpected,
        }
    }

    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(error) = cause.downcast_ref::<Error>() {
                return Self::of(error.kind());
            }
            if let Some(error) = cause.downcast_ref::<ArchiveError>() {
                return if error.is_a_failed_write() { Self::Unexpected } else { Self::Usage };
            }
            if let Some(error) = cause.downcast_ref::<recurve_scheduler::Error>() {
                return Self::of_schedule(error.kind());
            }
            if cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == InvalidData) {
                return Self::Model;
            }
            let absent = [NotFound, PermissionDenied, NotADirectory, IsADirectory];
            if cause.downcast_ref::<std::io::Error>().is_some_and(|e| absent.contains(&e.kind())) {
                return Self::Usage;
            }
            if cause.is::<InvalidFile>() {
                return Self::Model;
            }
            if cause.is::<UsageError>() {
                return Self::Usage;
            }
        }
        Self::Unexpected
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
