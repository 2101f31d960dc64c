//! `pick-load`: the cost of `/pick` over HTTP, in memory and on disk, beside a bare hyper server in the same run.
//!
//! This process is the client (and the simulated upstream, which only serves the account list),
//! each server is a child process, so that its CPU time can be read separately. The
//! servers take turns, window by window, so that anything that slows the machine down slows both.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to its user"
)]

mod client;
mod load;
mod machine;
mod report;
mod server;
mod starts;
mod watch;

use std::{
    error::Error,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use kling_sim::{Sim, SimBuilder};
use tokio::{runtime, task::LocalSet};

use client::Connection;
use load::{Load, Work};
use report::{Report, Row, Target};
use server::{Canned, Kind, Server};
use tikv_jemallocator::Jemalloc;
use watch::{Watch, Watchers};

/// The one of `kling-balancer`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Why a run ends early.
type Fault = Box<dyn Error + Send + Sync>;

/// Slots of each account: the most that a list may give.
const MAX_JOBS: u32 = 1000;
/// Picks without releases are measured only if a window has at least this many slots.
const SLOTS_FOR_PICKS_ALONE: u32 = 1_000_000;

/// Measures `/pick` of the sidecar, in memory and on disk, beside a bare hyper server.
#[derive(Debug, Parser)]
#[command(name = "pick-load", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    server: Option<Child>,
}

/// What to measure.
#[derive(Debug, clap::Args)]
struct Plan {
    /// How many accounts the sidecar has, one table each
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    accounts: Vec<u32>,
    /// Windows of each server
    #[arg(long, default_value = "5")]
    rounds: NonZeroU32,
    /// Length of a window
    #[arg(long, default_value = "3")]
    seconds: NonZeroU64,
    /// Keep-alive connections, each with one call under way at a time
    #[arg(long, default_value = "32")]
    connections: NonZeroUsize,
    /// Worker threads of each server. One leaves a core of a small machine to the client
    #[arg(long, default_value = "1")]
    workers: NonZeroUsize,
    /// How often the sidecar fetches its list. As good as never, or a window now and then has one
    #[arg(long, default_value = "1h")]
    refresh: String,
    /// A `pick-load` of another commit, whose sidecar takes turns with the others, in memory
    #[arg(long)]
    before: Option<PathBuf>,
    /// Leases that a sidecar finds on disk when it starts. 0: no starts are measured
    #[arg(long, default_value = "100000")]
    leases: u32,
    #[command(flatten)]
    watchers: Watchers,
}

/// The servers, each in a process of its own.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    ServeBare(server::Bare),
    #[command(hide = true)]
    ServeSidecar(server::Upstream),
    #[command(hide = true)]
    Watch(Watch),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.server {
        Some(Child::ServeBare(bare)) => server::serve_bare(bare),
        Some(Child::ServeSidecar(upstream)) => server::serve_sidecar(upstream),
        Some(Child::Watch(args)) => watch::watch(args),
        None => measure(&args.plan),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pick-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<(), Fault> {
    println!("{}", machine::describe());
    println!(
        "{} rounds of {} s, {} connections, {} worker(s) a server\n",
        plan.rounds, plan.seconds, plan.connections, plan.workers,
    );
    if cfg!(debug_assertions) {
        println!("This is a debug build: its numbers mean nothing.\n");
    }
    // One thread: the client must leave the cores to the servers.
    let client = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("{}", Report::HEAD);
    for &accounts_count in &plan.accounts {
        LocalSet::new().block_on(&client, compare(plan, accounts_count))?;
    }
    if plan.leases > 0 {
        LocalSet::new().block_on(&client, starts::measure(plan))?;
    }
    Ok(())
}

/// Measures the servers in turn, with `accounts_count` accounts in the sidecars.
async fn compare(plan: &Plan, accounts_count: u32) -> Result<(), Fault> {
    let sim = sim(accounts_count).start().await?;
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("book.db");
    let base_url = sim.base_url();
    let kind = plan.kind(&base_url, sim.token());
    let memory = Server::sidecar(kind)?;
    let (pick, release) = sample(&memory).await?;
    let mut servers = vec![
        (Target::Bare, Server::bare(&pick, &release, plan.workers)?),
        (Target::Memory, memory),
    ];
    let on_disk = Kind {
        state: Some(&state),
        ..kind
    };
    servers.push((Target::Disk, Server::sidecar(on_disk)?));
    if plan.watchers.are_some() {
        servers.push((Target::Watched, Server::sidecar(kind)?));
    }
    if let Some(program) = &plan.before {
        let program = Some(program.as_path());
        let before = Server::sidecar(Kind { program, ..kind })?;
        servers.insert(1, (Target::Before, before));
    }
    for (_, server) in &servers {
        sample(server).await?;
    }
    let load = Load {
        connections: plan.connections.get(),
        warm_up: Duration::from_millis(500),
        window: Duration::from_secs(plan.seconds.get()),
    };
    let has_room = accounts_count.saturating_mul(MAX_JOBS) >= SLOTS_FOR_PICKS_ALONE;
    let picks_alone = has_room.then_some(Work::Picks);
    for work in [Work::PicksAndReleases].into_iter().chain(picks_alone) {
        let mut report = Report::default();
        for _ in 0..plan.rounds.get() {
            for (target, server) in &servers {
                let is_watched = *target == Target::Watched;
                let watching = is_watched.then(|| plan.watchers.watch(server.addr()));
                let watching = watching.transpose()?;
                report.add(*target, load.run(server, work).await?);
                if let Some(watching) = watching {
                    watching.stop()?;
                }
            }
        }
        let row = Row {
            accounts_count,
            work,
        };
        println!("{}", report.table(&row)?);
    }
    for (_, server) in servers {
        server.stop()?;
    }
    sim.shutdown().await;
    Ok(())
}

impl Plan {
    /// A sidecar of this run, in memory.
    fn kind<'a>(&'a self, base_url: &'a str, token: &'a str) -> Kind<'a> {
        Kind {
            base_url,
            token,
            workers: self.workers,
            refresh: &self.refresh,
            state: None,
            program: None,
        }
    }
}

/// An upstream with so many accounts.
fn sim(accounts_count: u32) -> SimBuilder {
    let emails = (0..accounts_count).map(|idx| format!("account-{idx:06}@example.com"));
    emails.fold(Sim::builder(), |sim, email| sim.account(email, MAX_JOBS))
}

/// One pick and its release, once the server is ready: the answers for the other one to copy.
async fn sample(server: &Server) -> Result<(Canned, Canned), Fault> {
    const TRIES_MAX: u32 = 10_000;
    let mut connection = Connection::open(server.addr()).await?;
    for _ in 0..TRIES_MAX {
        let answer = connection.pick().await?;
        if answer.status == 200 {
            let pick = Canned::new(answer.raw)?;
            let id = answer.lease_id()?;
            let release = Canned::new(connection.release(&id).await?.raw)?;
            return Ok((pick, release));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err("the server grants no pick".into())
}
