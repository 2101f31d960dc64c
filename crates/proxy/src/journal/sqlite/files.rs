//! The files on the disk: readable by their owner alone, moved aside, and still those that were opened.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::place::Place;

/// What SQLite puts beside its file: the log of changes, and the index of that.
pub(super) const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// Leases name accounts and clients.
const MODE: u32 = 0o600;

/// The files as they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    main: Identity,
    beside: [Option<Identity>; 2],
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What became of the files since they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Some were deleted. They live as long as they are open.
    Deleted,
    /// There is another file in place of ours.
    Replaced,
}

impl Files {
    /// The files that are there.
    pub(super) fn of(place: &Place) -> io::Result<Self> {
        let (main, _) = identity(&place.path)?;
        let beside = BESIDE.map(|end| identity(&place.beside(end)).ok().map(|(it, _)| it));
        Ok(Self { main, beside })
    }

    /// Compares them with what is there now, and tells its size in bytes. A file that cannot be looked at counts as
    /// deleted.
    pub(super) fn now(&self, place: &Place) -> (Change, u64) {
        let Ok((main, mut bytes)) = identity(&place.path) else {
            return (Change::Deleted, 0);
        };
        if main != self.main {
            return (Change::Replaced, bytes);
        }
        for (end, opened) in BESIDE.iter().zip(self.beside) {
            match identity(&place.beside(end)) {
                Ok((found, size)) if Some(found) == opened => {
                    // The index is memory, as it were.
                    bytes += if *end == "-wal" { size } else { 0 };
                }
                Ok(_) | Err(_) => return (Change::Deleted, bytes),
            }
        }
        (Change::None, bytes)
    }
}

fn identity(path: &Path) -> io::Result<(Identity, u64)> {
    let found = fs::metadata(path)?;
    let (device, inode) = (found.dev(), found.ino());
    Ok((Identity { device, inode }, found.len()))
}

/// Makes a file that only our user can read, unless there is one.
///
/// It must not be called while the file is open: closing it takes the locks of SQLite away.
pub(super) fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes from other users what a copy or a restore has given them. What its owner may do stays, and what is beside the
/// file gets its mode: SQLite makes that so, also while the file is read-only.
pub(super) fn close_to_others(place: &Place) -> io::Result<()> {
    let mode = fs::metadata(&place.path)?.permissions().mode() & MODE;
    for path in [&place.path]
        .into_iter()
        .chain(&BESIDE.map(|end| place.beside(end)))
    {
        match fs::set_permissions(path, Permissions::from_mode(mode)) {
            // Its owner, another user, has given us access to it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Gives the files another name, and tells that of the main one.
///
/// The main one goes first: without it the others mean nothing.
pub(super) fn move_aside(place: &Place) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut to = place.beside(&format!(".corrupt-{stamp}"));
    let mut again = 1;
    while to.exists() {
        again += 1;
        to = place.beside(&format!(".corrupt-{stamp}-{again}"));
    }
    fs::rename(&place.path, &to)?;
    for end in BESIDE {
        let mut target = to.clone().into_os_string();
        target.push(OsStr::new(end));
        match fs::rename(place.beside(end), target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(to)
}

/// Puts the file `new` in the place of the main one, and takes away what belonged to that.
pub(super) fn put_in_place(place: &Place, new: &Path) -> io::Result<()> {
    fs::File::open(new)?.sync_all()?;
    // A log beside another file would be played into it.
    for end in BESIDE {
        remove(&place.beside(end))?;
    }
    fs::rename(new, &place.path)?;
    fs::File::open(place.directory())?.sync_all()
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
