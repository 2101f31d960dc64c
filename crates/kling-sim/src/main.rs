//! `kling-sim`: the simulator as a program, for demos, compose files and black-box tests.
//!
//! It prints its URL and, at the end, its audit to stdout, and logs to stderr.

use std::{
    error::Error,
    io::{self, IsTerminal},
    net::SocketAddr,
    ops::RangeInclusive,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use jiff::SignedDuration;
use kling_sim::{DEFAULT_TOKEN, JobDuration, MAX_JOBS, SAMPLE_IDS, Sim};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A range from the shortest to the longest time.
type Span = RangeInclusive<Duration>;

/// What `--help` says behind the flags.
const CONTROL: &str = r#"A job whose prompt contains `forbidden` is refused, and one with `doomed` fails.
The results of all others can be downloaded from the simulator.

Calls to the simulator itself, below http://IP:PORT/_sim, without a token:
  GET    /audit              What each account ran, and who tried to exceed its cap
  POST   /accounts/{email}   {"hung": true}: no call that names the account is answered until it is
                             {"hung": false}; {"error": "expired"}: its session is broken, until the
                             error is ""; {"hasCredit": false}
  POST   /faults             {"effect": EFFECT, "on": "GET /tasks/{task_id}", "account": "a@x",
                             "times": 1}: all but the effect may be left out; "on" may be "jobStarts"
  DELETE /faults             Ends all faults
  POST   /reply-refs         {"replyRefs": TREATMENT, "on": "POST /videos/text2video"}: what becomes
                             of the replyRef of job starts; without "on", of all of them

EFFECT: {"status": 503}, {"delayMs": 500}, {"slowMs": 1500}, {"dripMs": 10}, "stallBefore",
  "stallAfter", "resetBefore", "resetAfter", "truncateAfter", {"encode": "gzip"},
  {"encode": "utf8"} or {"encode": "empty"}; before and after the operation happens, which with
  slowMs is at a random moment of that time. An encoded answer is encoded whatever the request
  accepts.

TREATMENT: "kept" (as at the start), "dropped", "keptWithUrl"; if it comes without a replyUrl,
  "alone400" or "alone422": it is refused in words that name it, "alone500" or "alone500Started":
  it is answered with 500, without or with a job; "quoted": every job start is refused with 400 for
  something else, in words that quote it."#;

/// A faithful simulator of the Kling API v1 of useapi.net.
#[derive(Debug, Parser)]
#[command(name = "kling-sim", version, after_help = CONTROL)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9090", value_parser = listen)]
    listen: SocketAddr,
    /// Where clients reach it, for the URLs of results; by default the address it listens on
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,
    /// The accounts, in the order of the list
    #[arg(
        long,
        value_name = "EMAIL=MAX_JOBS,…",
        required = true,
        value_delimiter = ',',
        value_parser = account
    )]
    accounts: Vec<(String, u32)>,
    /// How long jobs take
    #[arg(long, value_name = "MIN..MAX", default_value = "5..20", value_parser = job_seconds)]
    job_seconds: JobDuration,
    /// How long after a job's end its slot returns, as the upstream's tracker is late
    #[arg(long, value_name = "TIME or MIN..MAX", default_value = "2s", value_parser = release_lag)]
    release_lag: Span,
    /// Task ids of 18 digits, beyond what a double holds
    #[arg(long)]
    long_ids: bool,
    /// Job starts may name these ids of elements, avatars, works and tasks though no account has
    /// them; without a value: those of the vendor's sample scripts
    #[arg(
        long,
        value_name = "ID,…",
        num_args = 0..,
        require_equals = true,
        value_delimiter = ',',
        default_missing_values = SAMPLE_IDS
    )]
    accept_ids: Vec<String>,
    /// Never compress an answer, not even for clients that accept it
    #[arg(long)]
    no_compression: bool,
    /// Seed of task ids, job durations and release lags
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Token every call must carry
    #[arg(long, default_value = DEFAULT_TOKEN)]
    token: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "simulator did not start");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    // The handlers come before the first line of output: a signal sent right after that line must
    // not kill the process.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut builder = Sim::builder()
        .token(args.token)
        .seed(args.seed)
        .job_duration(args.job_seconds)
        .release_lag(args.release_lag)
        .ids_of_18_digits(args.long_ids)
        .accept_ids(args.accept_ids)
        .compression(!args.no_compression)
        .listen(args.listen);
    if let Some(url) = args.public_url {
        builder = builder.public_url(url);
    }
    for (email, max_jobs) in args.accounts {
        builder = builder.account(email, max_jobs);
    }
    let sim = builder.start().await?;
    say(&format!(
        "{url}\n\ntry: curl -H 'Authorization: Bearer {token}' {url}/accounts\n",
        url = sim.base_url(),
        token = sim.token()
    ));

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say(&sim.audit().to_string());
    sim.shutdown().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the program's answer to its user")]
fn say(text: &str) {
    println!("{text}");
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or(Err("expected IP:PORT, as in 127.0.0.1:9090".to_owned()))
}

fn public_url(text: &str) -> Result<String, String> {
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        let host = text.strip_prefix(scheme);
        host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
    });
    is_url
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a URL, as in http://127.0.0.1:9090".to_owned())
}

fn account(text: &str) -> Result<(String, u32), String> {
    let parsed = text.rsplit_once('=').and_then(|(email, max_jobs)| {
        let max_jobs = max_jobs
            .parse()
            .ok()
            .filter(|max_jobs| MAX_JOBS.contains(max_jobs))?;
        (!email.is_empty()).then(|| (email.to_owned(), max_jobs))
    });
    parsed.ok_or_else(|| {
        "expected EMAIL=MAX_JOBS with 1 to 50 jobs, as in a@example.com=8".to_owned()
    })
}

fn job_seconds(text: &str) -> Result<JobDuration, String> {
    let seconds = |text: &str| {
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    let parsed = text.split_once("..").and_then(|(min, max)| {
        let (min, max) = (seconds(min)?, seconds(max)?);
        (min <= max).then(|| JobDuration::between(min, max))
    });
    parsed.ok_or_else(|| "expected MIN..MAX in seconds with MIN <= MAX, as in 5..20".to_owned())
}

fn release_lag(text: &str) -> Result<Span, String> {
    let time = |text: &str| {
        let time: SignedDuration = text.parse().ok()?;
        Duration::try_from(time).ok()
    };
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let parsed = time(min).zip(time(max)).map(|(min, max)| min..=max);
    let parsed = parsed.filter(|span| !span.is_empty());
    parsed
        .ok_or_else(|| "expected TIME or MIN..MAX with MIN <= MAX, as in 2s or 0s..30s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["kling-sim"].iter().chain(flags))
    }

    #[test]
    fn accounts_keep_their_order_and_may_contain_an_equals_sign() {
        let args = parse(&["--accounts", "b@x=3,a=b@x=50"]).unwrap();
        assert_eq!(
            args.accounts,
            [("b@x".to_owned(), 3), ("a=b@x".to_owned(), 50)]
        );
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let args = parse(&["--accounts", "a@x=8"]).unwrap();
        assert_eq!(args.listen.to_string(), "127.0.0.1:9090");
        assert_eq!(args.job_seconds, JobDuration::default());
        assert_eq!(args.token, "user:1-sim");
        assert_eq!(
            args.release_lag,
            Duration::from_secs(2)..=Duration::from_secs(2)
        );
        assert!(!args.long_ids && !args.no_compression);
    }

    #[test]
    fn a_release_lag_is_a_time_or_a_range() {
        let (low, high) = (Duration::ZERO, Duration::from_secs(30));
        for (text, expected) in [("0s..30s", low..=high), ("30s", high..=high)] {
            let args = parse(&["--accounts=a@x=8", "--release-lag", text]).unwrap();
            assert_eq!(args.release_lag, expected);
        }
    }

    #[test]
    fn ids_are_accepted_as_listed_or_those_of_the_samples() {
        for (flags, expected) in [
            (&["--accounts=a@x=1"][..], &[][..]),
            (&["--accept-ids", "--accounts=a@x=1"], &SAMPLE_IDS),
            (&["--accept-ids=u_1,7", "--accounts=a@x=1"], &["u_1", "7"]),
        ] {
            assert_eq!(parse(flags).unwrap().accept_ids, expected, "{flags:?}");
        }
    }

    #[test]
    fn a_bad_flag_is_told_what_was_expected() {
        let cases = [
            ("--listen", "localhost", "expected IP:PORT"),
            ("--public-url", "sim:8081", "expected a URL"),
            ("--public-url", "http://", "expected a URL"),
            ("--accounts", "a@x", "expected EMAIL=MAX_JOBS"),
            ("--accounts", "=3", "expected EMAIL=MAX_JOBS"),
            ("--accounts", "a@x=0", "1 to 50 jobs"),
            ("--accounts", "a@x=51", "1 to 50 jobs"),
            ("--job-seconds", "5", "expected MIN..MAX"),
            ("--job-seconds", "20..5", "MIN <= MAX"),
            ("--job-seconds", "-1..5", "expected MIN..MAX"),
            ("--release-lag", "2", "expected TIME or MIN..MAX"),
            ("--release-lag", "-2s", "expected TIME or MIN..MAX"),
            ("--release-lag", "30s..0s", "MIN <= MAX"),
            ("--seed", "x", "invalid digit"),
        ];
        for (flag, value, expected) in cases {
            let flag_and_value = format!("{flag}={value}");
            let error = parse(&["--accounts=b@x=1", &flag_and_value]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{flag_and_value}");
            let text = error.to_string();
            assert!(
                text.contains(expected) && text.contains(flag),
                "{flag_and_value}: {text}"
            );
        }
    }
}
