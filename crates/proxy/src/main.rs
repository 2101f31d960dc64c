//! `kling-balancer`: settings, logs, parts, run, drain, exit code.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to its user"
)]

use std::{error::Error, iter, path::PathBuf, process::ExitCode};

use proxy::{
    cli::{self, Task},
    config::{self, Config},
    health,
    shutdown::Signals,
    sidecar::Sidecar,
    telemetry,
};
use tokio::{runtime, time};
use tokio_util::sync::CancellationToken;

/// The settings are wrong, and something is not to be had: `EX_CONFIG`, `EX_UNAVAILABLE`.
const EXIT_CONFIG: u8 = 78;
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _printed = error.print(); // Nothing can be done if it cannot be.
            return ExitCode::from(if error.use_stderr() { EXIT_CONFIG } else { 0 });
        }
    };
    let (task, flags) = cli::task(&matches);
    let file = flags.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let config = match Config::load(flags, config::environment(), file) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let outcome = match task {
        Task::CheckConfig => {
            println!("the settings are valid");
            return ExitCode::SUCCESS;
        }
        Task::Healthcheck => on_runtime(&config, health::check(&config)),
        Task::Serve => on_runtime(&config, serve(&config)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = iter::successors(error.source(), |cause| (*cause).source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            eprintln!("kling-balancer: {error}{causes}");
            let is_check = task == Task::Healthcheck;
            ExitCode::from(if is_check { 1 } else { EXIT_UNAVAILABLE })
        }
    }
}

fn on_runtime(
    config: &Config,
    task: impl Future<Output = Result<(), Box<dyn Error>>>,
) -> Result<(), Box<dyn Error>> {
    let mut builder = runtime::Builder::new_multi_thread();
    if let Some(workers) = config.workers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build()?;
    let outcome = runtime.block_on(task);
    // A name look-up or a file that hangs must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    telemetry::start(config);
    let mut signals = Signals::listen()?;
    let shutdown = CancellationToken::new();
    let sidecar = Sidecar::start(config, shutdown.clone()).await?;
    if let Some(addr) = sidecar.metrics_addr() {
        tracing::info!(%addr, "serving metrics");
    }
    tracing::info!(addr = %sidecar.addr()?, upstream = %config.upstream.base_url, "serving");
    let mut running = tokio::spawn(sidecar.run());
    let signal = tokio::select! {
        signal = signals.next() => signal,
        ended = &mut running => return Ok(ended??),
    };
    tracing::info!(signal, "draining");
    shutdown.cancel();
    tokio::select! {
        ended = time::timeout(config.shutdown_grace, running) => match ended {
            Ok(ended) => { ended??; tracing::info!("drained") }
            Err(_) => tracing::warn!("calls were cut off at the end of shutdown.grace"),
        },
        signal = signals.next() => tracing::warn!(signal, "calls were cut off by a second signal"),
    }
    Ok(())
}
