//! One window of load on one server, from one thread: a closed loop, where every connection calls again once it is
//! answered, or an open one, where calls are due at a fixed rate whatever becomes of the others.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    process,
    time::{Duration, Instant},
};

use hdrhistogram::{CreationError, Histogram};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::{
    Fault,
    calls::{Calls, Kind},
    client::Connection,
    machine,
    pacer::Pacer,
};

/// The longest latency that is told apart.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;
/// How long the last answers may take after a window.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(30);

/// When calls are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each connection calls again once it is answered.
    Closed,
    /// So many calls a second are due, at equal distances. Latencies count from then.
    Open(f64),
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
    /// The same of this process: a client that runs all the time is what limits the calls.
    pub(crate) client_cpu: Duration,
    /// Nanoseconds of the calls that give the work its name, to the last byte read: from the first byte written, or from
    /// when they were due.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds from when a call was due and had a connection until it was written: how late the client itself was.
    /// Empty in a closed loop.
    pub(crate) lateness: Histogram<u64>,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    kind: Kind,
    since: Instant,
}

/// The connections and what they wait for.
struct Driver<'a> {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    under_way: Vec<Option<UnderWay>>,
    idle: Vec<usize>,
    /// Since when some are idle.
    idle_since: Instant,
    ready: Vec<epoll::Event>,
    out: Vec<u8>,
    calls: &'a mut Calls,
}

impl Load {
    /// Runs `calls` against the server at `addr`. `cpu` reads the time that the server has used.
    pub(crate) fn run(
        &self,
        addr: SocketAddr,
        cpu: impl Fn() -> io::Result<Duration>,
        calls: &mut Calls,
        pace: Pace,
    ) -> Result<Tally, Fault> {
        let mut driver = Driver::open(addr, self.connections, calls)?;
        let mut tally = Tally::new()?;
        let start = Instant::now();
        let begin = start + self.warm_up;
        let end = begin + self.window;
        let mut pacer = Pacer::new(pace, start);
        let read_cpu = || io::Result::Ok([cpu()?, machine::cpu_time(process::id())?]);
        let (mut counted_from, mut cpu_before) = (None, [Duration::ZERO; 2]);
        let mut now = Instant::now();
        while now < end {
            if counted_from.is_none() && now >= begin {
                (counted_from, cpu_before) = (Some(now), read_cpu()?);
            }
            driver.send_due(&mut pacer, now, counted_from.is_some(), &mut tally)?;
            let has_idle = !driver.idle.is_empty();
            let wake_at = pacer.next_due().filter(|_| has_idle).unwrap_or(end);
            driver.wait(wake_at.min(end).saturating_duration_since(Instant::now()))?;
            let is_closed = matches!(pace, Pace::Closed);
            let is_counted = counted_from.is_some();
            let counts = |call: &UnderWay| is_counted && (is_closed || call.since >= begin);
            let answered = driver.read(&mut tally.latency, counts)?;
            if is_counted {
                tally.calls_count += answered;
            }
            now = Instant::now();
        }
        tally.elapsed = now - counted_from.ok_or("the window was over before it began")?;
        let cpu_after = read_cpu()?;
        tally.server_cpu = cpu_after[0] - cpu_before[0];
        tally.client_cpu = cpu_after[1] - cpu_before[1];
        driver.finish(&mut pacer, begin..end, &mut tally)?;
        driver.give_back()?;
        Ok(tally)
    }
}

impl Tally {
    fn new() -> Result<Self, CreationError> {
        Ok(Self {
            calls_count: 0,
            elapsed: Duration::ZERO,
            server_cpu: Duration::ZERO,
            client_cpu: Duration::ZERO,
            latency: latencies()?,
            lateness: latencies()?,
        })
    }
}

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, DIGITS)
}

impl<'a> Driver<'a> {
    fn open(addr: SocketAddr, count: usize, calls: &'a mut Calls) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for idx in 0..count {
            let connection = Connection::open(addr)?;
            let data = epoll::EventData::new_u64(idx as u64);
            epoll::add(&epoll, &connection, data, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        Ok(Self {
            epoll,
            connections,
            under_way: vec![None; count],
            idle: (0..count).collect(),
            idle_since: Instant::now(),
            ready: Vec::with_capacity(count),
            out: Vec::new(),
            calls,
        })
    }

    /// Sends what is due by `now`, as far as connections are idle.
    fn send_due(
        &mut self,
        pacer: &mut Pacer,
        now: Instant,
        is_counted: bool,
        tally: &mut Tally,
    ) -> io::Result<()> {
        while let Some(&idx) = self.idle.last()
            && let Some(since) = pacer.take(now)
        {
            self.idle.pop();
            let kind = self.calls.next(&mut self.out);
            self.under_way[idx] = Some(UnderWay { kind, since });
            self.connections[idx].send(&self.out)?;
            if is_counted && pacer.is_open() {
                let could_be_sent_at = since.max(self.idle_since);
                let lateness = could_be_sent_at.elapsed();
                tally.lateness.saturating_record(nanos(lateness));
            }
        }
        Ok(())
    }

    /// Waits until a connection can be read, `time_max` at most.
    fn wait(&mut self, time_max: Duration) -> io::Result<()> {
        self.ready.clear();
        let timeout = Timespec::try_from(time_max).map_err(io::Error::other)?;
        epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout))?;
        Ok(())
    }

    /// Reads what is ready, and records the latency of what `counts`. Returns the number of calls that were answered.
    fn read(
        &mut self,
        latency: &mut Histogram<u64>,
        counts: impl Fn(&UnderWay) -> bool,
    ) -> io::Result<u64> {
        let mut count = 0;
        for event_idx in 0..self.ready.len() {
            let data = self.ready[event_idx].data;
            let idx = usize::try_from(data.u64()).map_err(io::Error::other)?;
            let connection = &mut self.connections[idx];
            if !connection.advance()? {
                continue;
            }
            let call = self.under_way[idx].take();
            let call = call.ok_or_else(|| io::Error::other("an answer that nothing asked for"))?;
            if call.kind == Kind::Main && counts(&call) {
                latency.saturating_record(nanos(call.since.elapsed()));
            }
            self.calls.answered(call.kind, &connection.answer()?)?;
            if self.idle.is_empty() {
                self.idle_since = Instant::now();
            }
            self.idle.push(idx);
            count += 1;
        }
        Ok(count)
    }

    /// Sends what was due in an open window and waits for the last answers: calls that were late count like the others.
    fn finish(
        &mut self,
        pacer: &mut Pacer,
        window: Range<Instant>,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let until = Instant::now() + LAST_ANSWERS_MAX;
        let is_open = pacer.is_open();
        let counts = |call: &UnderWay| is_open && window.contains(&call.since);
        loop {
            let is_due = pacer.next_due().is_some_and(|due| due < window.end);
            if is_due {
                self.send_due(pacer, window.end, true, tally)?;
            } else if self.idle.len() == self.connections.len() {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.wait(left)?;
            self.read(&mut tally.latency, counts)?;
        }
    }

    /// Gives back what is held, on all connections at once.
    fn give_back(&mut self) -> io::Result<()> {
        loop {
            let mut sent = 0;
            for connection in &mut self.connections {
                if !self.calls.write_back(&mut self.out) {
                    break;
                }
                connection.send(&self.out)?;
                sent += 1;
            }
            for connection in &mut self.connections[..sent] {
                connection.wait()?.check()?;
            }
            if sent < self.connections.len() {
                return Ok(());
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
