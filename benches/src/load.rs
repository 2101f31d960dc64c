//! One window of load on one server: closed loop, every connection calls again once it is answered.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    Fault,
    client::{Connection, LeaseId},
    server::Server,
};

/// The calls of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A pick, then its release, and again: as many slots are held as there are connections.
    PicksAndReleases,
    /// Picks only. Their leases are released after the window.
    Picks,
}

/// How hard and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// The results of one window.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Calls answered in the window, of either kind.
    pub(crate) calls_count: u64,
    /// How long the window really was.
    pub(crate) elapsed: Duration,
    /// User and system time of the server in the window.
    pub(crate) server_cpu: Duration,
    /// Nanoseconds from the first byte written of a pick to the last byte read.
    pub(crate) pick_latency: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Window,
    Over,
}

/// The state that the connections of a window share. They run on one thread.
#[derive(Debug)]
struct Board {
    phase: Cell<Phase>,
    calls_count: Cell<u64>,
    pick_latency: RefCell<Histogram<u64>>,
}

impl Board {
    fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    fn count_call(&self) {
        if self.phase.get() == Phase::Window {
            self.calls_count.set(self.calls_count.get() + 1);
        }
    }

    fn count_pick(&self, started: Instant) {
        self.count_call();
        if self.phase.get() == Phase::Window {
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.pick_latency.borrow_mut().saturating_record(nanos);
        }
    }
}

impl Load {
    /// Runs `work` against `server` on the current `LocalSet`.
    pub(crate) async fn run(&self, server: &Server, work: Work) -> Result<Tally, Fault> {
        const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
        const DIGITS: u8 = 3;
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, DIGITS)?;
        let board = Rc::new(Board {
            phase: Cell::new(Phase::WarmUp),
            calls_count: Cell::new(0),
            pick_latency: RefCell::new(histogram),
        });
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            let connection = Connection::open(server.addr()).await?;
            connections.spawn_local(drive(connection, work, Rc::clone(&board)));
        }
        time::sleep(self.warm_up).await;
        let (started, cpu_before) = (Instant::now(), server.cpu()?);
        board.phase.set(Phase::Window);
        time::sleep(self.window).await;
        board.phase.set(Phase::Over);
        let (elapsed, cpu_after) = (started.elapsed(), server.cpu()?);
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        Ok(Tally {
            calls_count: board.calls_count.get(),
            elapsed,
            server_cpu: cpu_after - cpu_before,
            pick_latency: board.pick_latency.borrow().clone(),
        })
    }
}

async fn drive(mut connection: Connection, work: Work, board: Rc<Board>) -> io::Result<()> {
    let mut held: Vec<LeaseId> = Vec::new();
    while !board.is_over() {
        let started = Instant::now();
        let id = connection.pick().await?.check()?.lease_id()?;
        board.count_pick(started);
        match work {
            Work::PicksAndReleases => {
                connection.release(&id).await?.check()?;
                board.count_call();
            }
            Work::Picks => held.push(id),
        }
    }
    for id in held {
        connection.release(&id).await?.check()?;
    }
    Ok(())
}
