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
    /// What it does: a sentence that needs no section to be understood, without its full stop.
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
    setting(
        "listen",
        "127.0.0.1:8080",
        "Listens on this address for calls of the API",
    ),
    setting(
        "metrics.listen",
        "",
        "Listens on this second address for /metrics, /livez and /readyz, without a token",
    ),
    setting(
        "metrics.account_label",
        "alias",
        "Names accounts in metrics by alias, by email, or not at all (none)",
    ),
    setting(
        "upstream.base_url",
        "https://api.useapi.net/v1/kling",
        "Calls the Kling API at this address",
    ),
    secret(
        "upstream.token",
        "Shows this API token to the upstream with every call",
    ),
    setting(
        "upstream.token_file",
        "",
        "Reads the token of the upstream from this file",
    ),
    setting(
        "upstream.ca_file",
        "",
        "Trusts the root certificates in this PEM file, besides those of the machine, when it calls the upstream",
    ),
    setting(
        "upstream.connect_timeout",
        "5s",
        "Limits the time to open a connection to the upstream",
    ),
    setting(
        "upstream.request_timeout",
        "5m",
        "Limits the time from the last byte of a request to the head of the upstream's answer",
    ),
    setting(
        "upstream.idle_timeout",
        "60s",
        "Limits the pause between two pieces of a body, to or from the upstream",
    ),
    setting(
        "accounts.refresh_interval",
        "30s",
        "Sets the time between two fetches of the account list",
    ),
    setting(
        "accounts.timeout",
        "10s",
        "Limits the time that one whole fetch of the account list takes",
    ),
    setting(
        "accounts.backoff_max",
        "60s",
        "Limits the growing pause between failed fetches of the account list",
    ),
    setting(
        "accounts.file",
        "",
        "Reads the account list from this file, not from the upstream",
    ),
    setting(
        "selection.strategy",
        "random",
        "Chooses the account of a job in this way; random is the only one",
    ),
    setting(
        "selection.wait",
        "0s",
        "Sets how long a pick waits for a slot if it does not say",
    ),
    setting(
        "selection.wait_max",
        "10m",
        "Limits how long any call waits for a slot; one that asks for more waits this long",
    ),
    setting(
        "selection.waiters_max",
        "10000",
        "Limits how many calls wait for a slot at once",
    ),
    setting(
        "leases.ttl",
        "60s",
        "Sets how long a picked slot is held if the pick does not say",
    ),
    setting(
        "leases.ttl_max",
        "1h",
        "Limits how long a pick may ask to hold its slot",
    ),
    setting(
        "leases.job_ttl",
        "65m",
        "Sets how long a slot is held for a job of which nothing more is heard",
    ),
    setting(
        "reconcile.interval",
        "10s",
        "Sets the time between two questions which jobs run at the upstream; 0 switches them off",
    ),
    setting(
        "reconcile.settle",
        "120s",
        "Sets how long a submission whose answer was lost may still turn up as a job",
    ),
    setting(
        "reconcile.tie_picks",
        "true",
        "Matches a running job that belongs to no submission to a pick that has no job yet",
    ),
    setting(
        "forward.body_max",
        "16MiB",
        "Limits the body of a job start, which is read whole before an account is chosen",
    ),
    setting(
        "forward.buffer_total",
        "256MiB",
        "Limits the memory for the bodies of all job starts together",
    ),
    setting(
        "forward.extra_jobs",
        "[]",
        "Treats these paths below the base URL as job starts, too",
    ),
    setting(
        "forward.retry_statuses",
        "[429, 412, 596]",
        "Tries another account when a job start is refused with one of these statuses",
    ),
    setting(
        "forward.refusal_patterns",
        r#"["CM_EXT", "community guidelines"]"#,
        "Takes a 500 that holds one of these texts as a refusal of the job's input",
    ),
    setting(
        "forward.wait",
        "",
        "Sets how long a job start waits for a slot if it does not say, and how long a call waits whose task is searched; if not set, 25s or selection.wait, whichever is longer",
    ),
    setting(
        "forward.redeliver",
        "10m",
        "Sets how long the answer to a job start whose client was gone is kept for the same call to come again",
    ),
    setting(
        "forward.client_email",
        "respect",
        "Follows an email that a client sends (respect), or chooses the account all the same (ignore)",
    ),
    setting(
        "forward.mark",
        "auto",
        "Puts a replyRef into job starts that have neither replyRef nor replyUrl, to find lost ones (auto), or none (off)",
    ),
    setting(
        "state.kind",
        "",
        "Keeps leases, keys and what is known of accounts in memory, or on disk, where they survive a restart; if not set, disk where state.path is, else memory",
    ),
    setting(
        "state.path",
        "",
        "Keeps them in this file; under systemd it may be left out where state.kind is disk: $STATE_DIRECTORY/book.db",
    ),
    setting(
        "state.sync",
        "",
        "Makes sure that they survive the end of the process (process), or the loss of power, too (power), at the price of a disk sync for each batch of changes; if not set, process",
    ),
    secret(
        "state.url",
        "Keeps leases on this server; it has no effect yet",
    ),
    setting(
        "shutdown.grace",
        "25s",
        "Limits how long running calls may take to end after SIGTERM",
    ),
    secret("auth.tokens", "Asks every client for one of these tokens"),
    setting(
        "auth.tokens_file",
        "",
        "Asks every client for one of the tokens in this file; a line is a token, or a name and a token",
    ),
    setting(
        "auth.read_tokens_file",
        "",
        "Lets the tokens in this file only look: GET of all but /pick and /v1/kling",
    ),
    setting(
        "auth.allowed_hosts",
        "[]",
        "Serves these Host names without a client token, and on the metrics listener",
    ),
    setting(
        "auth.allowed_origins",
        "[]",
        "Lets web pages of these origins call",
    ),
    setting(
        "auth.allow_unauthenticated",
        "false",
        "Allows listening beyond this machine without client tokens",
    ),
    setting(
        "runtime.workers",
        "",
        "Sets the number of worker threads; one per core if not set",
    ),
    setting("log.format", "text", "Writes log lines as text or json"),
    setting(
        "log.filter",
        "info",
        "Writes log lines of this level and above; single targets may differ: info,proxy=debug",
    ),
    setting(
        "log.jobs",
        "true",
        "Writes a line for each finished job: account, task, operation, outcome, duration, client, request id",
    ),
];
