//! Where the list comes from. A source only brings an [`Answer`](crate::judge::Answer) or says why
//! it could not; believing is the judge's, and when to ask again the fetcher's.

mod encoding;
mod file;
mod http;
mod retry_after;
mod tls;

use std::path::PathBuf;

pub use self::encoding::decoded;
pub use self::http::{HttpSource, says_not_configured};
pub use self::retry_after::of as retry_after;
pub use self::tls::{TlsError, tls_client_config};

pub(crate) use self::file::{FileWatch, Look};

/// Where the account list comes from.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one or two of these"
)]
pub enum Source {
    /// `GET {base_url}/accounts`.
    Http(HttpSource),
    /// A file with the same JSON.
    File(PathBuf),
}
