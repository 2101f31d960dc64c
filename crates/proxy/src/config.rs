//! Settings: raw text from flags, environment and file becomes one valid [`Config`], or a list of
//! all errors. Nothing is bound or started before that.

mod check;
mod client;
mod doubts;
mod errors;
mod hints;
mod reader;
mod roots;
mod settings;
mod source;
mod state;
pub mod tokens;
mod value;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgMatches;
use http::Uri;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;

pub use check::Checked;
pub use client::{ClientConfig, Purpose, SidecarUrl};
pub use errors::ConfigErrors;
pub(crate) use hints::nearest;
pub use settings::{ENV_PREFIX, SETTINGS, Setting};
pub use source::{environment, unused_proxy_variable};
pub use state::{State, SyncMode};
pub use value::{duration, in_words};

use reader::{ConfigReader, TOKEN_MISSING};
use tokens::ClientTokens;

/// The shortest ttl of a lease: below it a client could not renew in time.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// Every setting in force.
#[derive(Debug)]
pub struct Config {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the metrics listener.
    pub metrics_listen: Option<SocketAddr>,
    /// How metrics name an account.
    pub account_label: AccountLabel,
    /// Where the list and the jobs go.
    pub upstream: Upstream,
    /// Where the list comes from.
    pub accounts: Accounts,
    /// How picks choose and wait.
    pub selection: Selection,
    /// How long slots are held.
    pub leases: Leases,
    /// How the pool is kept in line with the upstream's list of jobs.
    pub reconcile: Reconcile,
    /// How calls are carried to the upstream.
    pub forward: Forward,
    /// Who may call.
    pub auth: Auth,
    /// Where the book is kept.
    pub state: State,
    /// How long running calls may finish after SIGTERM.
    pub shutdown_grace: Duration,
    /// Worker threads; one per core if `None`.
    pub workers: Option<usize>,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// Whether each finished job has a line in the log.
    pub logs_jobs: bool,
    /// What is valid, and probably not meant: a sentence each.
    pub doubts: Vec<String>,
}

/// How metrics name an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountLabel {
    /// By its alias.
    Alias,
    /// By its e-mail.
    Email,
    /// Not at all: all accounts together.
    None,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The Kling API and its timeouts.
#[derive(Debug)]
pub struct Upstream {
    /// Its address, without a trailing slash.
    pub base_url: Uri,
    /// Shown with every request. Without one the accounts come from a file, nothing is asked of
    /// the upstream and nothing carried there.
    pub token: Option<SecretString>,
    /// The file that holds it.
    pub token_file: Option<PathBuf>,
    /// Trusted as roots of its certificate, besides those of the machine.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// From the last piece of a request to the head of its answer.
    pub request_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
}

/// The account list.
#[derive(Debug)]
pub struct Accounts {
    /// The file that the list is read from. `None`: it is fetched from the upstream, with its token.
    pub file: Option<PathBuf>,
    /// Between two fetches.
    pub refresh_interval: Duration,
    /// One whole fetch.
    pub timeout: Duration,
    /// Longest pause after failed fetches.
    pub backoff_max: Duration,
}

/// How picks wait.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// For picks that name no wait.
    pub wait: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// The most waiters.
    pub waiters_max: usize,
}

/// How long slots are held.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// For picks that name no ttl.
    pub ttl: Duration,
    /// The longest ttl.
    pub ttl_max: Duration,
    /// For a bound job that is not heard of again.
    pub job_ttl: Duration,
}

/// How the pool is kept in line with the upstream's list of running jobs.
#[derive(Clone, Copy, Debug)]
pub struct Reconcile {
    /// Between two rounds. `None`: there are none.
    pub interval: Option<Duration>,
    /// How long a lost submission may still turn up as a job.
    pub settle: Duration,
    /// Whether an unclaimed job is bound to a pick that has no job.
    pub ties_picks: bool,
}

/// How calls are carried to the upstream.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The largest body, in bytes, that is read whole before an account is chosen.
    pub body_max: usize,
    /// All such bodies together, in bytes.
    pub buffer_total: usize,
    /// Paths below the base URL that start jobs, beside those we know.
    pub extra_jobs: Vec<String>,
    /// Statuses of a refusal after which another account is tried. Only 429, 412 and 596 prove a
    /// refusal. Other statuses in this list have no effect.
    pub retry_statuses: Vec<u16>,
    /// Texts by which a 500 says that the input was refused.
    pub refusal_patterns: Vec<String>,
    /// How long a job start waits if it does not say. At most [`Selection::wait_max`].
    pub wait: Duration,
    /// How long an answer that its client missed waits for the same call to come again.
    pub redeliver: Duration,
    /// What an `email` of the client means, unless the call says otherwise.
    pub client_email: ClientEmail,
    /// Whether job starts get marks.
    pub marks: bool,
}

impl Forward {
    /// The words of `forward.mark`.
    pub(crate) const MARK_WORDS: [(&'static str, bool); 2] = [("auto", true), ("off", false)];
}

/// What an `email` of a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEmail {
    /// The call goes to that account.
    Respect,
    /// On job starts, calls about tasks and downloads it counts as absent. Uploads and creating calls keep
    /// it if it names a healthy account.
    Ignore,
}

impl ClientEmail {
    /// Every value by its word.
    pub(crate) const WORDS: [(&'static str, Self); 2] =
        [("respect", Self::Respect), ("ignore", Self::Ignore)];
}

/// Who may call.
#[derive(Debug)]
pub struct Auth {
    /// One of these, or the token of the upstream, must be shown, unless there are none.
    pub tokens: ClientTokens,
    /// Further `Host` names served without a token. Lower case.
    pub allowed_hosts: HashSet<String>,
    /// Web origins that may call.
    pub allowed_origins: HashSet<String>,
    /// Whether anyone who reaches the sidecar may call it.
    pub allows_unauthenticated: bool,
}

impl Auth {
    /// Whether it is safe to listen at `addr`: without client tokens anyone who reaches it could spend
    /// credits.
    pub fn admits(&self, addr: SocketAddr) -> bool {
        let is_local = addr.ip().to_canonical().is_loopback();
        is_local || !self.tokens.is_empty() || self.allows_unauthenticated
    }
}

impl Config {
    /// Builds the configuration from `flags`, `env` and `file`, in this precedence.
    ///
    /// # Errors
    /// All [`ConfigErrors`] of all sources together.
    pub fn load(
        flags: &ArgMatches,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = ConfigReader::gather(flags, env, file);
        let config = reader.config();
        if reader.is_token_missing {
            reader.reject("upstream.token", TOKEN_MISSING);
        }
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            Some(_) | None => Err(reader.errors),
        }
    }
}
