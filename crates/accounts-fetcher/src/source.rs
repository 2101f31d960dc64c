//! The sources of the list. A source only returns an [`Answer`](crate::judge::Answer) or an error;
//! the judge decides whether to believe it, and the fetcher when to ask again.

mod encoding;
mod file;
mod head;
mod http;
mod retry_after;
mod tls;

use std::path::PathBuf;

pub use self::encoding::decoded;
pub use self::head::read_heads_leniently;
pub use self::http::{HttpSource, says_not_configured};
pub use self::retry_after::of as retry_after;
pub use self::tls::{TlsError, certificate_problem, tls_client_config};

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
