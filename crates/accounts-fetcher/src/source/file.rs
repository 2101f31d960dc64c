//! The list in a file: checked often, read only when it changed.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::task::spawn_blocking;

use crate::{error::FetchError, judge::Answer, limits::DECODED_BYTES_MAX, list::List};

/// A list file, and the version that was read last.
#[derive(Debug)]
pub(crate) struct FileWatch {
    path: Arc<Path>,
    version: Option<Version>,
}

/// The result of one check of the file.
#[derive(Debug)]
pub(crate) enum Look {
    Unchanged,
    Read(Result<Answer, FetchError>),
}

/// A file that was replaced, rewritten or appended to differs in at least one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    len: u64,
    inode: u64,
}

impl FileWatch {
    pub(crate) fn new(path: PathBuf) -> FileWatch {
        FileWatch {
            path: path.into(),
            version: None,
        }
    }

    /// Reads the file, unless its last content `is_settled` and it has not changed since.
    pub(crate) async fn look(&mut self, is_settled: bool) -> Look {
        let path = Arc::clone(&self.path);
        let known = self.version.filter(|_| is_settled);
        let (version, look) = spawn_blocking(move || look(&path, known))
            .await
            .expect("parsing does not panic");
        self.version = version;
        look
    }
}

fn look(path: &Path, known: Option<Version>) -> (Option<Version>, Look) {
    let version = match Version::of(path) {
        Ok(version) => version,
        Err(error) => return (None, Look::Read(Err(FetchError::File(error)))),
    };
    // The version is taken before reading: the next check sees a change in between.
    let look = if known == Some(version) {
        Look::Unchanged
    } else {
        Look::Read(read(path))
    };
    (Some(version), look)
}

fn read(path: &Path) -> Result<Answer, FetchError> {
    let limit = DECODED_BYTES_MAX;
    let mut text = Vec::new();
    let file = File::open(path).map_err(FetchError::File)?;
    file.take(limit as u64 + 1)
        .read_to_end(&mut text)
        .map_err(FetchError::File)?;
    if text.len() > limit {
        return Err(FetchError::TooLarge {
            limit,
            unit: "bytes of file",
        });
    }
    // Some editors begin a file with a byte order mark; an upstream does not.
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
    List::parse(text).map(Answer::Listed)
}

impl Version {
    fn of(path: &Path) -> io::Result<Version> {
        let metadata: Metadata = path.metadata()?;
        // Opening a pipe would wait for its other end.
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Version {
            modified: metadata.modified()?,
            len: metadata.len(),
            inode: metadata.ino(),
        })
    }
}
