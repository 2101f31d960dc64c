//! Every setting there is: its key, its default, its meaning. Data, so that the command line, the
//! environment, the file and the documentation cannot disagree about what exists.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name: `section.key` in the file, `--section.key` as a flag, `KLB_SECTION__KEY` in the
    /// environment.
    pub key: &'static str,
    /// Its value if it is not set, as one would write it. Empty: none.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Never on a command line, where every user of the machine could read it.
    pub is_secret: bool,
}

impl Setting {
    /// The name of its environment variable.
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.replace('.', "__").to_uppercase())
    }
}

/// The prefix of our environment variables.
pub const ENV_PREFIX: &str = "KLB_";

const fn setting(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        key,
        default,
        help,
        is_secret: false,
    }
}

const fn secret(key: &'static str, help: &'static str) -> Setting {
    Setting {
        key,
        default: "",
        help,
        is_secret: true,
    }
}

/// The table of settings.
pub const SETTINGS: &[Setting] = &[
    setting("listen", "127.0.0.1:8080", "address of the API"),
    setting(
        "metrics.listen",
        "",
        "address of a second listener: /metrics, /livez, /readyz",
    ),
    setting(
        "metrics.account_label",
        "alias",
        "account label of the metrics: alias, email or none",
    ),
    setting(
        "upstream.base_url",
        "https://api.useapi.net/v1/kling",
        "the Kling API",
    ),
    secret("upstream.token", "API token of the upstream"),
    setting("upstream.token_file", "", "file that holds the token"),
    setting("upstream.connect_timeout", "5s", "to open a connection"),
    setting(
        "upstream.request_timeout",
        "5m",
        "from the last request byte to the response head",
    ),
    setting(
        "upstream.idle_timeout",
        "60s",
        "between two pieces of a body",
    ),
    setting(
        "accounts.refresh_interval",
        "30s",
        "between two fetches of the account list",
    ),
    setting("accounts.timeout", "10s", "one whole fetch"),
    setting(
        "accounts.backoff_max",
        "60s",
        "longest pause after failed fetches",
    ),
    setting(
        "accounts.file",
        "",
        "read the account list from this file, not over HTTP",
    ),
    setting(
        "selection.strategy",
        "random",
        "how an account is chosen: random",
    ),
    setting(
        "selection.wait",
        "0s",
        "how long a pick waits for a slot if it does not say",
    ),
    setting(
        "selection.wait_max",
        "10m",
        "longest wait; what asks for more gets this",
    ),
    setting(
        "selection.waiters_max",
        "10000",
        "most calls that wait at once",
    ),
    setting(
        "leases.ttl",
        "60s",
        "how long a picked slot is held if the pick does not say",
    ),
    setting("leases.ttl_max", "1h", "longest ttl a client may ask for"),
    setting(
        "leases.job_ttl",
        "65m",
        "how long a slot is held for a job of which nothing more is heard",
    ),
    setting(
        "reconcile.interval",
        "10s",
        "between two rounds with the upstream's list of running jobs; 0 is off",
    ),
    setting(
        "reconcile.settle",
        "120s",
        "how long a lost submission may still turn up as a job",
    ),
    setting(
        "reconcile.tie_picks",
        "true",
        "match a job that belongs to no submission to a pick without a job",
    ),
    setting(
        "forward.body_max",
        "16MiB",
        "largest body of a job start, which is read whole",
    ),
    setting("forward.buffer_total", "256MiB", "all such bodies together"),
    setting(
        "forward.extra_jobs",
        "[]",
        "further paths below the base URL that start jobs",
    ),
    setting(
        "forward.retry_statuses",
        "[429, 412, 596]",
        "statuses of a refusal after which another account is tried",
    ),
    setting(
        "forward.refusal_patterns",
        r#"["CM_EXT", "community guidelines"]"#,
        "texts of a 500 that say the input was refused",
    ),
    setting(
        "forward.wait",
        "",
        "how long a job start waits if it does not say, and a call whose task is searched; if not given, 25s or selection.wait, whichever is longer",
    ),
    setting(
        "forward.redeliver",
        "10m",
        "how long an answer to a job start that nobody got waits for the same call to come again",
    ),
    setting(
        "forward.client_email",
        "respect",
        "what an email of a client means: respect (the call goes there) or ignore (the sidecar chooses)",
    ),
    setting("state.kind", "memory", "where leases are kept: memory"),
    setting("state.path", "", "file of the leases. No effect yet"),
    secret("state.url", "server of the leases. No effect yet"),
    setting(
        "shutdown.grace",
        "25s",
        "how long running calls may finish after SIGTERM",
    ),
    secret("auth.tokens", "tokens a client must show one of"),
    setting(
        "auth.tokens_file",
        "",
        "file with a client token a line, or a name and a token",
    ),
    setting(
        "auth.read_tokens_file",
        "",
        "the same for tokens that may only look: GET of all but /pick and /v1/kling",
    ),
    setting(
        "auth.allowed_hosts",
        "[]",
        "Host names served without a client token, and by the metrics listener",
    ),
    setting("auth.allowed_origins", "[]", "web origins that may call"),
    setting(
        "auth.allow_unauthenticated",
        "false",
        "listen beyond this machine without client tokens",
    ),
    setting(
        "runtime.workers",
        "",
        "worker threads; one per core if not given",
    ),
    setting("log.format", "text", "text or json"),
    setting("log.filter", "info", "what is logged, as in RUST_LOG"),
];
