//! What to measure, as the flags say.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use crate::{cases::Case, load::Load, watch::Watchers};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// Only these cases
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Case>,
    /// A minute for all but the instructions: shows that the rig works, its figures mean little
    #[arg(long)]
    quick: bool,
    /// Windows of each server
    #[arg(long, default_value = "7")]
    rounds: NonZeroU32,
    /// Length of a window, in seconds. In open loops it is twice as long
    #[arg(long, default_value = "1")]
    seconds: f64,
    /// Keep-alive connections, each with one call under way at a time. Open loops and disks have twice as many
    #[arg(long, default_value = "32")]
    connections: NonZeroU32,
    /// How many accounts the sidecar has
    #[arg(long, default_value = "1000")]
    pub(crate) accounts: NonZeroU32,
    /// Worker threads of each server of ours. One leaves a core of a small machine to the client
    #[arg(long, default_value = "1")]
    pub(crate) workers: NonZeroU32,
    /// The sidecar. If not given, it is built
    #[arg(long)]
    pub(crate) program: Option<PathBuf>,
    /// The sidecar of another commit, which takes turns with the others
    #[arg(long)]
    pub(crate) before: Option<PathBuf>,
    /// Leases that memory is measured with, and that a start finds on disk
    #[arg(long, default_value = "100000")]
    leases: u32,
    #[command(flatten)]
    pub(crate) watchers: Watchers,
    /// Where results go, into a directory of the day
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/runs"))]
    pub(crate) runs: PathBuf,
}

/// What `--quick` leaves.
const QUICK_ROUNDS: u32 = 2;
const QUICK_WINDOW: Duration = Duration::from_millis(300);
const QUICK_LEASES: u32 = 10_000;
/// Counts are so many times smaller.
const QUICK_PART: u32 = 10;

impl Plan {
    pub(crate) fn cases(&self) -> Vec<Case> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let all = Case::ALL.into_iter();
        all.filter(|case| !(self.quick && *case == Case::Instructions))
            .collect()
    }

    pub(crate) fn rounds(&self) -> u32 {
        if self.quick {
            self.rounds.get().min(QUICK_ROUNDS)
        } else {
            self.rounds.get()
        }
    }

    pub(crate) fn leases(&self) -> u32 {
        if self.quick {
            self.leases.min(QUICK_LEASES)
        } else {
            self.leases
        }
    }

    /// `count`, or less of it if it has to be quick.
    pub(crate) fn count(&self, count: u32) -> u32 {
        if self.quick {
            count / QUICK_PART
        } else {
            count
        }
    }

    /// The windows of a closed loop.
    pub(crate) fn load(&self) -> Load {
        let window = Duration::from_secs_f64(self.seconds);
        Load {
            connections: self.connections.get() as usize,
            warm_up: Duration::from_millis(300),
            window: if self.quick {
                window.min(QUICK_WINDOW)
            } else {
                window
            },
        }
    }

    /// The windows of an open loop: a call that is due finds a free connection, and the high percentiles have calls
    /// enough.
    pub(crate) fn open_load(&self) -> Load {
        let load = self.load();
        Load {
            connections: 2 * load.connections,
            window: 2 * load.window,
            ..load
        }
    }
}
