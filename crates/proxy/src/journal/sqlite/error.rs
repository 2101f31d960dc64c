//! What can be wrong with the file, in words that say what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;
use thiserror::Error;

use super::{super::JournalError, place::Place};

/// Why a journal was not opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// Another process has it, and did not give it back in time.
    #[error(
        "{} is in use by {}; each sidecar needs a file of its own: stop that one, or set another state.path",
        path.display(), holder(*pid)
    )]
    Busy { path: PathBuf, pid: Option<u32> },
    /// It is on a file system that other machines may write to.
    #[error(
        "{} is on {kind}, where other machines could write to it, too; set state.path to a file on a disk of \
         this machine, with Docker in a named volume",
        path.display()
    )]
    Remote { path: PathBuf, kind: &'static str },
    /// It is about other accounts.
    #[error(
        "{} is about the accounts of another token or upstream (pool {found}, not {expected}); set another \
         state.path, or move the file away to begin a new one",
        path.display()
    )]
    OtherPool {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// A newer version wrote it.
    #[error(
        "{} was written by a newer kling-balancer (format {found}, this one knows {known}); start {} or newer, or \
         set another state.path",
        path.display(), version.as_deref().unwrap_or("that version")
    )]
    NewerSchema {
        path: PathBuf,
        found: i64,
        known: i64,
        version: Option<String>,
    },
    /// Another program wrote it.
    #[error("{} is a database of another program; set another state.path", path.display())]
    NotOurs { path: PathBuf },
    /// The setting names what can hold no file.
    #[error("{} {what}", path.display())]
    Unusable { path: PathBuf, what: String },
    /// It cannot be opened now.
    #[error(transparent)]
    Unavailable(#[from] JournalError),
}

impl OpenError {
    /// Whether only a person can change it. If not, it is opened again later.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Unavailable(_) => false,
            Self::Busy { .. }
            | Self::Remote { .. }
            | Self::OtherPool { .. }
            | Self::NewerSchema { .. }
            | Self::NotOurs { .. }
            | Self::Unusable { .. } => true,
        }
    }

    pub(super) fn unavailable(path: &Path, error: &io::Error) -> Self {
        told_of_io(path, error).into()
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

const FULL: &str = "free space on its disk, or in its quota";
const READ_ONLY: &str =
    "make it, its directory and their file system writable for the user of the sidecar";
const DISK: &str = "look for free space, a quota, and faults of its disk";

/// What an error of SQLite means for one who runs the sidecar.
pub(super) fn told(place: &Place, error: &rusqlite::Error) -> JournalError {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => FULL,
        Some(ErrorCode::ReadOnly) => READ_ONLY,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "make it and its directory accessible for the user of the sidecar"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program writes to it: close that one"
        }
        _ if is_damage(error) => {
            "restart the sidecar: the file is moved aside then, and a new one begun"
        }
        Some(_) | None => DISK,
    };
    // The text of an error can hold what was to be written; its code does not.
    let code = error
        .sqlite_error()
        .map_or_else(|| "it is not readable".to_owned(), ToString::to_string);
    let path = place.path.display();
    JournalError(format!("{path} cannot be used ({code}); {what}"))
}

/// What an error of the system means for one who runs the sidecar.
pub(super) fn told_of_io(path: &Path, error: &io::Error) -> JournalError {
    let what = if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        READ_ONLY
    } else {
        DISK
    };
    let path = path.display();
    JournalError(format!("{path} cannot be opened ({error}); {what}"))
}

/// Whether the file itself is wrong, not what is around it.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    // Without a code: a value of another type than was ever written.
    error.sqlite_error_code().is_none_or(|code| {
        matches!(
            code,
            // A table that is missing is of an unknown kind.
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        )
    })
}
