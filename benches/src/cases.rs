//! What can be measured, each on its own.

mod carried;
mod instructions;
mod memory;
mod metrics;
mod picks;
mod starts;
mod waiter;

use crate::{Fault, bench::Bench, calls::Work};

/// A thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// A pick and its release, closed loop
    Pick,
    /// Picks alone, closed loop
    PickAlone,
    /// Reads of a task, 1 KiB, closed loop
    Read,
    /// Job starts of 400 bytes and the ends of their tracking in turn, closed loop
    Job,
    /// Job starts alone, closed loop
    JobAlone,
    /// A call that is in no table, closed loop
    Pass,
    /// Latency of picks, open loop
    OpenPick,
    /// Latency of reads, open loop
    OpenRead,
    /// From a release to the answer of the one who waits for the slot
    Waiter,
    /// Picks on disk, beside those in memory
    Disk,
    /// A scrape of /metrics, and picks meanwhile
    Metrics,
    /// Picks while pages and readers of events watch
    Watched,
    /// Resident memory, idle and per thing
    Memory,
    /// From the start of the process to its first grant
    Starts,
    /// User instructions and system calls a call (benches/instructions)
    Instructions,
}

impl Case {
    /// In the order of a run.
    pub(crate) const ALL: [Self; 15] = [
        Self::Pick,
        Self::PickAlone,
        Self::Read,
        Self::Job,
        Self::JobAlone,
        Self::Pass,
        Self::OpenPick,
        Self::OpenRead,
        Self::Waiter,
        Self::Disk,
        Self::Metrics,
        Self::Watched,
        Self::Memory,
        Self::Starts,
        Self::Instructions,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pick => "pick",
            Self::PickAlone => "pick-alone",
            Self::Read => "read",
            Self::Job => "job",
            Self::JobAlone => "job-alone",
            Self::Pass => "pass",
            Self::OpenPick => "open-pick",
            Self::OpenRead => "open-read",
            Self::Waiter => "waiter",
            Self::Disk => "disk",
            Self::Metrics => "metrics",
            Self::Watched => "watched",
            Self::Memory => "memory",
            Self::Starts => "starts",
            Self::Instructions => "instructions",
        }
    }

    pub(crate) fn run(self, bench: &Bench) -> Result<(), Fault> {
        match self {
            Self::Pick => picks::closed(bench, Work::PicksAndReleases),
            Self::PickAlone => picks::closed(bench, Work::Picks),
            Self::Read => carried::closed(bench, Work::Reads),
            Self::Job => carried::closed(bench, Work::StartsAndUntracks),
            Self::JobAlone => carried::closed(bench, Work::Starts),
            Self::Pass => carried::closed(bench, Work::Passes),
            Self::OpenPick => picks::open(bench),
            Self::OpenRead => carried::open(bench),
            Self::Waiter => waiter::measure(bench),
            Self::Disk => picks::disk(bench),
            Self::Metrics => metrics::measure(bench),
            Self::Watched => picks::watched(bench),
            Self::Memory => memory::measure(bench),
            Self::Starts => starts::measure(bench),
            Self::Instructions => instructions::measure(bench),
        }
    }
}

/// A case's name and what it does, above its table.
fn heading(case: Case, text: &str) -> String {
    format!("\n== {}: {text}", case.as_str())
}
