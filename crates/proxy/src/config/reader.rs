//! Builds a [`Config`] from the layers, and collects their errors.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgMatches;
use secrecy::SecretString;

use super::{
    AccountLabel, Accounts, Auth, ClientEmail, Config, ConfigErrors, Forward, Leases, LogFormat,
    Purpose, Reconcile, Selection, TTL_MIN, Upstream,
    doubts::doubts,
    roots,
    source::{Layers, Origin, Text},
    tokens::{self, ClientToken, ClientTokens, TokenFile},
    value::{self, duration},
};

/// The shortest interval or deadline a setting may name.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long a job start waits if no setting says: less than the 30 s after which many clients give up.
const FORWARD_WAIT: Duration = Duration::from_secs(25);
/// The most waiters a setting may allow: each holds a connection and some kilobytes.
const WAITERS_CEILING: usize = 1_000_000;
/// The most worker threads.
const WORKERS_CEILING: usize = 1024;
/// The smallest limit of a body: no job start fits into less, and `16` is a forgotten unit.
const BODY_MAX_MIN: usize = 512;

/// What is said of a token that is not given.
pub(super) const TOKEN_MISSING: &str =
    "missing; set KLB_UPSTREAM__TOKEN, or upstream.token_file to a file that holds it";

/// Reads values and collects their errors.
pub(super) struct ConfigReader {
    pub(super) layers: Layers,
    pub(super) errors: ConfigErrors,
    /// There is neither a token nor a list of accounts in a file.
    pub(super) is_token_missing: bool,
}

impl ConfigReader {
    pub(super) fn gather(
        flags: &ArgMatches,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Self {
        let mut errors = ConfigErrors::default();
        let layers = Layers::gather(flags, env, file, &mut errors);
        Self {
            layers,
            errors,
            is_token_missing: false,
        }
    }

    /// Every value is read before the first `?`, so that no error hides another one.
    pub(super) fn config(&mut self) -> Option<Config> {
        let listen = self.one("listen", value::socket_addr);
        let metrics_listen = self.one("metrics.listen", value::socket_addr);
        let account_label = self.one(
            "metrics.account_label",
            value::one_of(&[
                ("alias", AccountLabel::Alias),
                ("email", AccountLabel::Email),
                ("none", AccountLabel::None),
            ]),
        );
        let token = self.upstream_token();
        let accounts = self.accounts();
        let upstream = self.upstream(token);
        let selection = self.selection();
        let leases = self.leases();
        let reconcile = self.reconcile();
        let forward = self.forward(selection.as_ref());
        let auth = self.auth(listen);
        let state = self.state();
        let shutdown_grace = self.one("shutdown.grace", duration);
        let workers = self.one("runtime.workers", value::number(1, WORKERS_CEILING));
        let log_format = self.one(
            "log.format",
            value::one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        );
        let log_filter = self.one("log.filter", value::log_filter);
        let logs_jobs = self.one("log.jobs", value::flag);
        if listen.is_some() && listen == metrics_listen && listen.is_some_and(|at| at.port() != 0) {
            self.reject(
                "metrics.listen",
                "expected another address than that of listen",
            );
        }
        let mut config = Config {
            listen: listen?,
            metrics_listen,
            account_label: account_label?,
            upstream: upstream?,
            accounts: accounts?,
            selection: selection?,
            leases: leases?,
            reconcile: reconcile?,
            forward: forward?,
            auth: auth?,
            state: state?,
            shutdown_grace: shutdown_grace?,
            workers,
            log_format: log_format?,
            log_filter: log_filter?,
            logs_jobs: logs_jobs?,
            doubts: Vec::new(),
        };
        config.doubts = doubts(&config, &self.layers);
        Some(config)
    }

    /// Where a sidecar with these settings is asked.
    pub(super) fn address(&mut self, purpose: Purpose) -> Option<SocketAddr> {
        let monitoring = match purpose {
            Purpose::Probe => self.one("metrics.listen", value::socket_addr),
            Purpose::Api => None,
        };
        monitoring.or_else(|| self.one("listen", value::socket_addr))
    }

    /// The first of the tokens that a sidecar with these settings asks for.
    pub(super) fn first_client_token(&mut self) -> Option<SecretString> {
        let tokens = self.client_tokens()?;
        first_token(&tokens)
    }

    fn upstream(&mut self, token: Option<SecretString>) -> Option<Upstream> {
        const CA_FILE_KEY: &str = "upstream.ca_file";
        let base_url = self.one("upstream.base_url", value::base_url);
        let token_file = self.file("upstream.token_file");
        let extra_roots = match self.file(CA_FILE_KEY) {
            Some(path) => self.checked_given(CA_FILE_KEY, roots::certificates(&path)),
            None if self.is_given(CA_FILE_KEY) => None,
            None => Some(Vec::new()),
        };
        let connect_timeout = self.interval("upstream.connect_timeout");
        let request_timeout = self.interval("upstream.request_timeout");
        let idle_timeout = self.interval("upstream.idle_timeout");
        Some(Upstream {
            base_url: base_url?,
            token,
            token_file,
            extra_roots: extra_roots?,
            connect_timeout: connect_timeout?,
            request_timeout: request_timeout?,
            idle_timeout: idle_timeout?,
        })
    }

    fn accounts(&mut self) -> Option<Accounts> {
        let file = self.file("accounts.file");
        let has_token = self.is_given("upstream.token") || self.is_given("upstream.token_file");
        self.is_token_missing =
            !self.is_given("accounts.file") && !has_token && !self.layers.is_partial;
        let refresh_interval = self.interval("accounts.refresh_interval");
        let timeout = self.interval("accounts.timeout");
        let backoff_max = self.interval("accounts.backoff_max");
        Some(Accounts {
            file,
            refresh_interval: refresh_interval?,
            timeout: timeout?,
            backoff_max: backoff_max?,
        })
    }

    /// The token as it is given, or from the file that holds it.
    fn upstream_token(&mut self) -> Option<SecretString> {
        const FILE_KEY: &str = "upstream.token_file";
        if self.is_given("upstream.token") && self.is_given(FILE_KEY) {
            self.reject(
                FILE_KEY,
                "expected only one of upstream.token and upstream.token_file",
            );
            return None;
        }
        match self.file(FILE_KEY) {
            Some(path) => {
                let token = tokens::upstream_token(&path);
                self.checked_given(FILE_KEY, token)
            }
            None => self.one("upstream.token", value::token),
        }
    }

    fn selection(&mut self) -> Option<Selection> {
        let strategy = self.one("selection.strategy", |text| match text {
            "random" => Ok(()),
            _ => Err("expected random, the only strategy there is".to_owned()),
        });
        let wait = self.one("selection.wait", duration);
        let wait_max = self.one("selection.wait_max", duration);
        let waiters_max = self.one("selection.waiters_max", value::number(0, WAITERS_CEILING));
        if let (Some(wait), Some(max)) = (wait, wait_max)
            && wait > max
        {
            self.reject("selection.wait", "expected at most selection.wait_max");
        }
        strategy?;
        Some(Selection {
            wait: wait?,
            wait_max: wait_max?,
            waiters_max: waiters_max?,
        })
    }

    fn leases(&mut self) -> Option<Leases> {
        let ttl = self.one("leases.ttl", value::duration_from(TTL_MIN));
        let ttl_max = self.one("leases.ttl_max", value::duration_from(TTL_MIN));
        let job_ttl = self.one("leases.job_ttl", value::duration_from(TTL_MIN));
        if let (Some(ttl), Some(max)) = (ttl, ttl_max)
            && ttl > max
        {
            self.reject("leases.ttl", "expected at most leases.ttl_max");
        }
        Some(Leases {
            ttl: ttl?,
            ttl_max: ttl_max?,
            job_ttl: job_ttl?,
        })
    }

    fn reconcile(&mut self) -> Option<Reconcile> {
        let interval = self.one("reconcile.interval", |text| match duration(text)? {
            Duration::ZERO => Ok(None),
            interval if interval < INTERVAL_MIN => Err(format!(
                "expected 0 or at least {}",
                value::in_words(INTERVAL_MIN)
            )),
            interval => Ok(Some(interval)),
        });
        let settle = self.one("reconcile.settle", duration);
        let ties_picks = self.one("reconcile.tie_picks", value::flag);
        Some(Reconcile {
            interval: interval?,
            settle: settle?,
            ties_picks: ties_picks?,
        })
    }

    fn forward(&mut self, selection: Option<&Selection>) -> Option<Forward> {
        let body_max = self.one("forward.body_max", value::size_from(BODY_MAX_MIN));
        let buffer_total = self.one("forward.buffer_total", value::size_from(BODY_MAX_MIN));
        let extra_jobs = self.many("forward.extra_jobs", value::path);
        let retry_statuses = self.many("forward.retry_statuses", value::status);
        let refusal_patterns = self.many("forward.refusal_patterns", value::word);
        let wait = self.one("forward.wait", duration);
        let redeliver = self.one("forward.redeliver", duration);
        let client_email = self.one("forward.client_email", value::one_of(&ClientEmail::WORDS));
        let marks = self.one("forward.mark", value::one_of(&Forward::MARK_WORDS));
        if let (Some(body_max), Some(total)) = (body_max, buffer_total)
            && body_max > total
        {
            self.reject("forward.body_max", "expected at most forward.buffer_total");
        }
        Some(Forward {
            body_max: body_max?,
            buffer_total: buffer_total?,
            extra_jobs: extra_jobs?,
            retry_statuses: retry_statuses?,
            refusal_patterns: refusal_patterns?,
            wait: wait
                .unwrap_or(selection?.wait.max(FORWARD_WAIT))
                .min(selection?.wait_max),
            redeliver: redeliver?,
            client_email: client_email?,
            marks: marks?,
        })
    }

    fn auth(&mut self, listen: Option<SocketAddr>) -> Option<Auth> {
        let tokens = self.client_tokens();
        let allowed_hosts = self.many("auth.allowed_hosts", value::host);
        let allowed_origins = self.many("auth.allowed_origins", value::origin);
        let allow_unauthenticated = self.one("auth.allow_unauthenticated", value::flag);
        let auth = Auth {
            tokens: tokens?,
            allowed_hosts: allowed_hosts?.into_iter().collect(),
            allowed_origins: allowed_origins?.into_iter().collect(),
            allows_unauthenticated: allow_unauthenticated?,
        };
        if let Some(listen) = listen
            && !auth.admits(listen)
            && !self.layers.is_partial
        {
            let loopback = match listen.ip() {
                IpAddr::V4(_) => "127.0.0.1",
                IpAddr::V6(_) => "[::1]",
            };
            self.reject(
                "listen",
                &format!(
                    "beyond this machine anyone could spend your credits; set \
                     KLB_AUTH__TOKENS_FILE, or listen on {loopback}:{}, or say \
                     auth.allow_unauthenticated = true",
                    listen.port()
                ),
            );
        }
        Some(auth)
    }

    /// `None` if one of the places that may name tokens is wrong.
    fn client_tokens(&mut self) -> Option<ClientTokens> {
        const READ_FILE_KEY: &str = "auth.read_tokens_file";
        let inline = self.many("auth.tokens", ClientToken::unnamed);
        let file = self.token_file("auth.tokens_file");
        let read_file = self.token_file(READ_FILE_KEY);
        let tokens = ClientTokens {
            inline: inline?,
            file: file?,
            read_file: read_file?,
        };
        if tokens.read_file.is_some() {
            self.checked_given(READ_FILE_KEY, tokens.check())?;
        }
        Some(tokens)
    }

    /// The file of tokens that a setting names, if it names one. `None` if it is wrong.
    fn token_file(&mut self, key: &'static str) -> Option<Option<TokenFile>> {
        if !self.is_given(key) {
            return Some(None);
        }
        let read = TokenFile::read(self.file(key)?);
        self.checked_given(key, read).map(Some)
    }

    /// The path of the file that a setting names.
    fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        self.one(key, value::word).map(PathBuf::from)
    }

    fn interval(&mut self, key: &'static str) -> Option<Duration> {
        self.one(key, value::duration_from(INTERVAL_MIN))
    }

    pub(super) fn one<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self.layers.get(key)?;
        let parsed = match &text {
            Text::One(text) => parse(text),
            Text::Many(_) => Err("expected one value, not a list".to_owned()),
        };
        self.checked(key, &origin, parsed)
    }

    /// One word counts as a list of one.
    fn many<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some((text, origin)) = self.layers.get(key) else {
            return Some(Vec::new());
        };
        let words = match text {
            Text::One(word) => vec![word],
            Text::Many(words) => words,
        };
        let parsed = words.iter().map(|word| parse(word)).collect();
        self.checked(key, &origin, parsed)
    }

    fn checked<T>(
        &mut self,
        key: &'static str,
        origin: &Origin,
        parsed: Result<T, String>,
    ) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(problem) => {
                self.errors.add(key, origin.naming(key), problem);
                None
            }
        }
    }

    fn checked_given<T>(&mut self, key: &'static str, parsed: Result<T, String>) -> Option<T> {
        let (_, origin) = self.layers.get(key)?;
        self.checked(key, &origin, parsed)
    }

    pub(super) fn is_given(&self, key: &'static str) -> bool {
        self.layers.get(key).is_some()
    }

    pub(super) fn reject(&mut self, key: &'static str, problem: &str) {
        self.errors.add(key, self.layers.naming(key), problem);
    }
}

/// The token that a client of the sidecar shows: one that may do everything, if there is one.
fn first_token(tokens: &ClientTokens) -> Option<SecretString> {
    let first = tokens.full().chain(tokens.read_only()).next()?;
    Some(first.token.clone())
}
