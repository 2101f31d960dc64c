//! `kling-balancer`: settings, logs, parts, run, drain, exit code.
#![expect(clippy::print_stderr, reason = "the program talks to its user")]

use std::{
    error::Error,
    io::{self, Write},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::ArgMatches;
use proxy::{
    cli::{self, Task},
    client,
    config::{self, Checked, ClientConfig, Config, SidecarUrl},
    exit::{EXIT_CONFIG, Failure},
    service_manager::{Notice, tell},
    shutdown::{Signal, Signals},
    sidecar::Sidecar,
    sockets::PassedSockets,
    telemetry,
};
use tikv_jemallocator::Jemalloc;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

/// It gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long a thread for work that blocks is kept without any. It keeps blocks of memory that were freed on it, too: after
/// a list of 10,000 accounts was read, 0.25 MB.
const BLOCKING_THREAD_KEPT_FOR: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let error = cli::with_hint(error);
            let _printed = error.print(); // If it cannot be printed, nothing else can be done.
            return ExitCode::from(if error.use_stderr() { EXIT_CONFIG } else { 0 });
        }
    };
    let (task, flags) = cli::task(&matches);
    match run(task, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code;
            telemetry::within_a_moment(move || eprintln!("{failure}"));
            ExitCode::from(code)
        }
    }
}

fn run(task: Task, flags: &ArgMatches) -> Result<(), Failure> {
    let file = flags.get_one::<PathBuf>("config").map(PathBuf::as_path);
    match task {
        Task::CheckConfig { prints } => check_config(flags, file, prints)?,
        Task::Serve => {
            let config = Config::load(flags, config::environment(), file)?;
            let served = on_runtime(config.workers, serve(&config));
            served.map_err(|error| Failure::of_serving(&*error))?;
        }
        Task::Ask { ask, is_json } => {
            let purpose = ask.purpose();
            let config = ClientConfig::load(flags, config::environment(), file, purpose)?;
            let asking = async {
                let (mut out, mut err) = (io::stdout(), io::stderr());
                Ok(client::ask(&config, &ask, is_json, &mut out, &mut err).await)
            };
            match on_runtime(Some(1), asking).map_err(|error| Failure::of_system(&*error))? {
                Err(error) if !error.is_broken_pipe() => {
                    return Err(Failure::of_asking(&error, purpose));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Task::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command(), "kling-balancer", &mut script);
            say(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(())
}

fn check_config(flags: &ArgMatches, file: Option<&Path>, prints: bool) -> Result<(), Failure> {
    let checked = Checked::new(flags, config::environment(), file);
    if prints {
        say(&checked.in_force)?;
    }
    for doubt in &checked.doubts {
        eprintln!("warning: {doubt}");
    }
    if let Some(errors) = checked.errors {
        return Err(errors.into());
    }
    if !prints {
        say("the settings are valid\n")?;
    }
    Ok(())
}

/// Writes to standard output. A reader that has gone, such as `head`, has read enough.
fn say(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let said = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::of_output(&error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn on_runtime<T>(
    workers: Option<usize>,
    task: impl Future<Output = Result<T, Box<dyn Error>>>,
) -> Result<T, Box<dyn Error>> {
    let per_core = || thread::available_parallelism().map_or(1, NonZero::get);
    let workers = workers.unwrap_or_else(per_core);
    // A single worker needs no queues that others take from: a call takes 900 instructions less.
    let mut builder = match workers {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(workers)
        .thread_keep_alive(BLOCKING_THREAD_KEPT_FOR)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(task);
    // A name look-up or a file that hangs must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    let _log = telemetry::start(config);
    if let Some(name) = config::unused_proxy_variable() {
        tracing::info!(
            name,
            "variables that name a proxy are not used: the upstream is called directly"
        );
    }
    for doubt in &config.doubts {
        tracing::warn!("{doubt}");
    }
    let mut signals = Signals::listen()?;
    let end = CancellationToken::new();
    let starting = Sidecar::start(config, PassedSockets::take()?, end.clone());
    let sidecar = tokio::select! {
        started = starting => started?,
        // It has answered no call yet.
        _ = signals.next_ending() => return Ok(()),
    };
    if let Some(addr) = sidecar.metrics_addr() {
        tracing::info!(%addr, "serving metrics");
    }
    let addr = sidecar.addr()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %addr,
        upstream = %config.upstream.base_url,
        base_url_of_clients = %SidecarUrl::of_listener(addr).base_url(),
        "serving"
    );
    let reload = sidecar.reload();
    let status =
        format!("Listening on {addr}. The account list and the running jobs are asked for");
    tell(Notice::Started(status)).await;
    let mut running = tokio::spawn(sidecar.run());
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reload.ask(),
                Signal::End(signal) => {
                    tracing::info!(signal = signal.name, "shutting down: nothing new is started");
                    end.cancel();
                    tell(Notice::Stopping).await;
                    return signals.drained(signal, running, config.shutdown_grace).await;
                }
            },
            ended = &mut running => return Ok(ended??),
        }
    }
}
