//! The lock that makes a file one sidecar's.
//!
//! It is a file of its own: the locks that SQLite takes on its file are shared between its connections, and a lock of
//! ours on the same file would be lost when SQLite closes it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
    time::Duration,
};

use tokio::{
    task,
    time::{self, Instant},
};

use super::{error::OpenError, place::Place};

/// How long another sidecar may take to give the file back. It ends within `shutdown.grace`, 25 s unless set
/// otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often the lock is tried meanwhile: a hand-over that takes a tenth of a second longer is not noticed.
const PAUSE: Duration = Duration::from_millis(100);
/// More digits than a process id has.
const PID_BYTES_MAX: u64 = 32;

/// The lock. Dropping it gives the file back.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Checks `place` and locks it. Calls `on_wait` once if it has to wait.
    ///
    /// Cancel-safe: a lock whose caller has gone is given back.
    pub(super) async fn acquire(
        place: Place,
        on_wait: impl FnOnce(),
    ) -> Result<(Self, Place), OpenError> {
        let asked = place.path.clone();
        let opened = task::spawn_blocking(move || {
            let place = place.resolved()?;
            let file = open(&place)?;
            Ok::<_, OpenError>((file, place))
        });
        let lost = |error| OpenError::unavailable(&asked, &io::Error::other(error));
        let (mut file, place) = opened.await.map_err(lost)??;
        let deadline = Instant::now() + PATIENCE;
        let mut on_wait = Some(on_wait);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(OpenError::Unusable {
                        path: place.path,
                        what: format!(
                            "is on a file system without locks ({error}); set state.path to a file on \
                             a disk of this machine"
                        ),
                    });
                }
            }
            if let Some(on_wait) = on_wait.take() {
                on_wait();
            }
            if Instant::now() >= deadline {
                let pid = pid_in(&mut file);
                return Err(OpenError::Busy {
                    path: place.path,
                    pid,
                });
            }
            time::sleep(PAUSE).await;
        }
        // It serves a message only: a full disk is told later, by what matters.
        _ = write_pid(&mut file);
        Ok((Self { _file: file }, place))
    }
}

fn open(place: &Place) -> Result<File, OpenError> {
    let path = place.beside(".lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.mode(0o600).open(&path);
    opened.map_err(|error| of_open(&path, &error))
}

fn of_open(path: &Path, error: &io::Error) -> OpenError {
    let is_forbidden = matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory
    );
    if !is_forbidden {
        return OpenError::unavailable(path, error);
    }
    OpenError::Unusable {
        path: path.to_owned(),
        what: format!(
            "cannot be opened ({error}); make it and its directory writable for the user of the sidecar"
        ),
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
