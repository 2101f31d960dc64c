//! Where the book is kept, and whose it is.

use std::path::{self, Path, PathBuf};

use http::uri::Scheme;
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret;

use super::{Config, reader::ConfigReader, value};

/// The name of the file in the directory that systemd makes for a service.
const FILE_NAME: &str = "book.db";
/// How many bytes of a hash name a pool: two pools do not meet by chance.
const POOL_ID_BYTES: usize = 16;

/// Where leases, keys and what is known of accounts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// In memory. They end with the process.
    Memory,
    /// In a file, which belongs to one sidecar at a time.
    Disk {
        /// The file.
        path: PathBuf,
        /// What it survives.
        sync: SyncMode,
    },
}

/// What a change that was acknowledged survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// The end of the process in any way, `kill -9` among them.
    Process,
    /// The loss of power, too: each batch of changes waits for the disk.
    Power,
}

impl SyncMode {
    /// Every value by its word.
    const WORDS: [(&'static str, Self); 2] = [("process", Self::Process), ("power", Self::Power)];
}

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    Disk,
}

impl State {
    /// A setting of this section as it is in force, where no source gives it: its value, and what says so.
    pub(super) fn derived(&self, key: &str) -> Option<(String, &'static str)> {
        const DEFAULT: &str = "default";
        match (key, self) {
            ("state.kind", Self::Memory) => Some(("memory".to_owned(), DEFAULT)),
            ("state.kind", Self::Disk { .. }) => Some(("disk".to_owned(), "state.path")),
            ("state.path", Self::Disk { path, .. }) => {
                Some((path.display().to_string(), "STATE_DIRECTORY"))
            }
            ("state.sync", Self::Disk { .. }) => Some(("process".to_owned(), DEFAULT)),
            _ => None,
        }
    }
}

impl ConfigReader {
    pub(super) fn state(&mut self) -> Option<State> {
        let kind = self.one("state.kind", |text| match text {
            "memory" => Ok(Kind::Memory),
            "disk" => Ok(Kind::Disk),
            "redis" => Err("expected memory or disk; redis is not built yet".to_owned()),
            _ => Err("expected memory or disk".to_owned()),
        });
        let path = self.one("state.path", file_path);
        let sync = self.one("state.sync", value::one_of(&SyncMode::WORDS));
        self.one("state.url", value::word);
        let kind = match kind {
            None if self.is_given("state.kind") => return None,
            None if self.is_given("state.path") => Kind::Disk,
            None => Kind::Memory,
            Some(kind) => kind,
        };
        match kind {
            Kind::Memory => {
                self.reject_beside_memory("state.path");
                self.reject_beside_memory("state.sync");
                Some(State::Memory)
            }
            Kind::Disk => {
                let is_wrong = self.is_given("state.path") && path.is_none();
                let path =
                    path.or_else(|| self.layers.state_directory.as_deref().map(in_directory));
                if path.is_none() && !is_wrong {
                    self.reject(
                        "state.kind",
                        "expected state.path beside disk; set KLB_STATE__PATH to a file such as \
                         /var/lib/kling-balancer/book.db, or StateDirectory= in the unit of systemd",
                    );
                }
                let is_sync_wrong = self.is_given("state.sync") && sync.is_none();
                let path = path.filter(|_| !is_wrong && !is_sync_wrong)?;
                let sync = sync.unwrap_or(SyncMode::Process);
                Some(State::Disk { path, sync })
            }
        }
    }

    fn reject_beside_memory(&mut self, key: &'static str) {
        if self.is_given(key) {
            self.reject(
                key,
                "has no effect without a file; set state.kind = disk and state.path, or leave it out",
            );
        }
    }
}

fn file_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_file = !text.trim().is_empty() && !text.ends_with('/') && path.file_name().is_some();
    if is_file {
        Ok(path.to_owned())
    } else {
        Err("expected a file such as /var/lib/kling-balancer/book.db".to_owned())
    }
}

/// systemd lists the directories of a service with colons between them, ours first.
fn in_directory(directories: &str) -> PathBuf {
    let first = directories.split(':').next().unwrap_or_default();
    Path::new(first).join(FILE_NAME)
}

impl Config {
    /// Names the accounts that these settings are about: 32 hex digits, the same after the token of a user was
    /// rotated.
    ///
    /// It is stored and told, so nothing secret goes into it: of the token only the user, `user:<n>`. Of a token that
    /// does not look so nothing does.
    pub fn pool_id(&self) -> String {
        let base_url = &self.upstream.base_url;
        let token = self.upstream.token.as_ref();
        let of = match (token, &self.accounts.file) {
            (None, Some(file)) => {
                let file = path::absolute(file).unwrap_or_else(|_| file.clone());
                format!("file\n{}", file.display())
            }
            (None, None) => format!("url\n{}", address(base_url)),
            (Some(token), _) => {
                let user = user_of(token.expose_secret()).unwrap_or_default();
                format!("user\n{user}\n{}", address(base_url))
            }
        };
        let hash = digest(&SHA256, of.as_bytes());
        let digits = hash.as_ref().iter().take(POOL_ID_BYTES);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The `user:<n>` of a token `user:<n>-<secret>`.
fn user_of(token: &str) -> Option<&str> {
    let (user, _) = token.split_once('-')?;
    let number = user.strip_prefix("user:")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(user)
}

/// An address in one spelling.
fn address(url: &http::Uri) -> String {
    let scheme = url.scheme().unwrap_or(&Scheme::HTTPS);
    let port = if *scheme == Scheme::HTTP { 80 } else { 443 };
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(port);
    format!("{scheme}://{host}:{port}{}", url.path())
}
