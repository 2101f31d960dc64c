//! Where the file is, and whether it may be there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::OpenError;
use crate::config::SyncMode;

/// A file, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) sync: SyncMode,
    pub(super) pool_id: String,
}

impl Place {
    pub(super) fn new(path: &Path, sync: SyncMode, pool_id: &str) -> Self {
        Self {
            path: path.to_owned(),
            sync,
            pool_id: pool_id.to_owned(),
        }
    }

    /// Follows links, so that all names of a file have one lock, and checks its directory. It blocks.
    pub(super) fn resolved(self) -> Result<Self, OpenError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        let resolved = fs::canonicalize(directory);
        let directory = resolved.map_err(|error| of_directory(directory, &error))?;
        let mut path = directory.join(self.path.file_name().unwrap_or_default());
        if path.is_symlink() {
            let target = fs::canonicalize(&path);
            path = target.map_err(|error| OpenError::Unusable {
                path: path.clone(),
                what: format!("is a link that leads nowhere ({error}); set state.path to a file"),
            })?;
        }
        if path.is_dir() {
            let what = "is a directory; set state.path to a file in it, such as book.db".to_owned();
            return Err(OpenError::Unusable { path, what });
        }
        let place = Self { path, ..self };
        match remote_kind(file_system(place.directory())) {
            Some(kind) => Err(OpenError::Remote {
                path: place.path,
                kind,
            }),
            None => Ok(place),
        }
    }

    /// The directory of a resolved place.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The file beside it whose name ends so.
    pub(super) fn beside(&self, end: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(end);
        path.into()
    }
}

fn of_directory(directory: &Path, error: &io::Error) -> OpenError {
    let what = if error.kind() == io::ErrorKind::NotFound {
        "is the directory of state.path and does not exist; create it, for the user of the sidecar"
            .to_owned()
    } else {
        format!("is the directory of state.path and cannot be entered ({error})")
    };
    let path = directory.to_owned();
    OpenError::Unusable { path, what }
}

/// The magic number of the file system that holds `directory`. 0 where the system does not tell.
#[cfg(target_os = "linux")]
fn file_system(directory: &Path) -> u32 {
    // Its type differs between architectures, and its sign means nothing.
    let magic = rustix::fs::statfs(directory).map(|found| i128::from(found.f_type));
    u32::try_from(magic.unwrap_or_default() & 0xffff_ffff).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn file_system(_directory: &Path) -> u32 {
    0
}

/// The name of a file system that other machines may write to at the same time, by its magic number in `statfs(2)`.
///
/// There a lock may not reach the other machines, and memory mapped by two of them is not the same: two sidecars
/// would both grant, and the file would break. FUSE may be anything, most often something remote (sshfs, s3fs, rclone, GlusterFS);
/// 9p and the shared folders of virtual machines are files of a host that may have other guests.
pub(super) fn remote_kind(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x00c3_6400 => "CephFS",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x786f_4256 | 0xbacb_acbc => "a shared folder",
        _ => return None,
    })
}
