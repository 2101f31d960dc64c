//! The list of Kling accounts: what an account is, where the list comes from, and how the last good
//! one is kept.
//!
//! ```text
//! Source ──bytes──▶ list ──entries──▶ Judge ──believed snapshot──▶ watch channel of Listing
//!  (HTTP, file)     (parse)           (empty, shrunk, partial)
//! ```
//!
//! A [`Fetcher`] owns one [`Source`] and reads it for ever. The receivers of its [`Listing`] always
//! see the last list that was believed, and how the newest fetch ended.
//!
//! Invariants: an unusable answer never replaces a usable list; any answer costs a bounded amount
//! of memory, time and stack; the token goes to the configured host only; no token, body or e-mail
//! reaches a log.
//!
//! Deliberately absent: choosing accounts, counting slots, and metrics. The counters are part of
//! the [`Listing`], so that readers who skip updates lose none.

mod account;
mod alias;
mod credentials;
mod email;
mod error;
mod fetch_result;
mod fetcher;
mod journal;
mod judge;
pub mod limits;
mod list;
mod listing;
mod pace;
mod source;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub use list::check::account_list;

/// What our own requests to the upstream say that they are. Gateways refuse requests that say nothing.
pub const USER_AGENT: &str = concat!("kling-balancer/", env!("CARGO_PKG_VERSION"));

pub use account::{Account, Snapshot};
pub use alias::{Alias, AliasText};
pub use credentials::{Credentials, UnsendableToken};
pub use email::{Identity, alike};
pub use error::Chain;
pub use fetch_result::{CERTIFICATE_ADVICE, FetchCounts, FetchResult};
pub use fetcher::{Fetcher, Timing, Waker};
pub use listing::Listing;
pub use source::{
    HttpSource, Source, TlsError, certificate_problem, decoded, read_heads_leniently, retry_after,
    says_not_configured, tls_client_config,
};
