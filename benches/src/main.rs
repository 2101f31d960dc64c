//! `rig`: what the sidecar costs over HTTP, beside its floors in the same run.
//!
//! This process is the client. Each server is a child process, so that its CPU time can be read separately: the upstream,
//! the floors, nginx and `HAProxy` if they are installed, and the sidecar. The servers take turns, window by window, so that
//! anything that slows the machine down slows all of them.
#![expect(clippy::print_stderr, reason = "the program talks to its user")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the client is a thread without a runtime, whose clock no test pauses"
)]

mod bench;
mod calls;
mod cases;
mod child;
mod client;
mod floors;
mod load;
mod machine;
mod output;
mod pacer;
mod plan;
mod proxies;
mod report;
mod sidecar;
mod stats;
mod upstream;
mod watch;
mod wire;

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

use child::Hold;
use floors::{bare, proxy};
use plan::Plan;
use watch::Watch;

/// The one of `kling-balancer`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Why a run ends early.
type Fault = Box<dyn Error + Send + Sync>;

/// Measures the sidecar over HTTP, beside its floors in the same run. Results go to benches/runs, too.
#[derive(Debug, Parser)]
#[command(name = "rig", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    child: Option<Child>,
}

/// The children, each in a process of its own.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    ServeBare(bare::Bare),
    #[command(hide = true)]
    ServeProxy(proxy::Proxy),
    #[command(hide = true)]
    ServeUpstream(upstream::Upstream),
    #[command(hide = true)]
    Hold(Hold),
    #[command(hide = true)]
    Watch(Watch),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.child {
        Some(Child::ServeBare(bare)) => bare::run(bare),
        Some(Child::ServeProxy(proxy)) => proxy::run(proxy),
        Some(Child::ServeUpstream(upstream)) => upstream::run(upstream),
        Some(Child::Hold(hold)) => child::hold(hold),
        Some(Child::Watch(args)) => watch::watch(args),
        None => bench::measure(args.plan),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}
