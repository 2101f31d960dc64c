//! What happens, told in one place: in the log, and as events for programs and people.
//!
//! A [`Fact`] is told once. Its log line and its event are both made of it here, so that they agree. The newest
//! events are kept in a ring; each reader has a place in it, and no buffer of its own.
//!
//! Invariants: telling waits for no reader, and costs a push however many there are (one task wakes them, see
//! [`Events::run`]); ids grow by one, and from one process to the next; a reader gets every event in order, or is cut.

mod durations;
mod fact;
mod line;
mod ring;
mod subscription;
mod words;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at},
};

pub use fact::{AccountFacts, CapChange, Fact, Found, JobFacts, LIST_NAMES_MAX, ListFacts, Listed};
pub use ring::{EVENTS_BYTES_MAX, EVENTS_MAX, Event};
pub use subscription::{Subscription, TooSlow};

use crate::pool::JobEnd;
use durations::JobDurations;
use ring::Ring;

/// How often a reader gets a comment, so that it and whatever lies between sees that the stream lives. Proxies close
/// connections that are silent for 60 s, many for 30 s.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// What happens. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Readers are to be woken.
    is_due: Notify,
    /// Something else happened than to a job.
    has_changed: Notify,
    /// Readers that were cut off since they were too slow.
    cut_count: AtomicU64,
    /// How long jobs took whose ends were seen.
    durations: JobDurations,
    /// Whether each finished job has a line in the log.
    logs_jobs: bool,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// The readers, and who is to be woken for those that wait.
    seats: SlotMap<DefaultKey, Option<Waker>>,
    /// How many heartbeats there were.
    beats: u64,
    /// Readers have come to their end.
    is_ended: bool,
}

impl Default for Events {
    /// Without a line for each finished job.
    fn default() -> Self {
        Self::new(false)
    }
}

impl Events {
    /// No events yet. `logs_jobs`: whether each finished job has a line in the log.
    pub fn new(logs_jobs: bool) -> Self {
        // Longer than any process has run at an event a microsecond; below 2^53 until the year 2255.
        let first = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(1);
        Self::beginning_at(first, logs_jobs)
    }

    fn beginning_at(first: u64, logs_jobs: bool) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                ring: Ring::new(first),
                seats: SlotMap::new(),
                beats: 0,
                is_ended: false,
            }),
            is_due: Notify::new(),
            has_changed: Notify::new(),
            cut_count: AtomicU64::new(0),
            durations: JobDurations::new(),
            logs_jobs,
        }))
    }

    /// Tells what happened. It waits for no reader, and may be called under a lock.
    pub fn publish(&self, fact: &Fact) {
        let at = Timestamp::now();
        line::log(fact, self.0.logs_jobs);
        if let Fact::JobEnded {
            job,
            result: JobEnd::Succeeded | JobEnd::Failed,
            duration,
        } = fact
        {
            self.0.durations.note(job.operation.as_deref(), *duration);
        }
        let mut state = self.0.state.lock();
        state.ring.push(at, fact);
        let has_readers = !state.seats.is_empty();
        drop(state);
        if has_readers {
            self.0.is_due.notify_one();
        }
        if fact.job().is_none() {
            self.0.has_changed.notify_one();
        }
    }

    /// Waits until something else happens than to a job: such as may change whether jobs can be started. For one
    /// caller; cancel-safe.
    pub(crate) async fn changed(&self) {
        self.0.has_changed.notified().await;
    }

    /// The newest events, `count` at most, oldest first.
    pub fn recent(&self, count: usize) -> Vec<Event> {
        self.0.state.lock().ring.recent(count)
    }

    /// The id of the newest event. Before the first one, an id that none has.
    pub fn newest_id(&self) -> u64 {
        self.0.state.lock().ring.newest_id()
    }

    /// Reads the events from now on, or all that are kept with an id larger than `after`. An id that was not given
    /// yet is one of an earlier process whose clock was ahead: all that are kept follow.
    ///
    /// `None` if there are `readers_max` readers already.
    pub fn subscribe(&self, after: Option<u64>, readers_max: usize) -> Option<Subscription> {
        let mut state = self.0.state.lock();
        if state.seats.len() >= readers_max {
            return None;
        }
        let next = state.ring.place_after(after);
        let beats = state.beats;
        let seat = state.seats.insert(None);
        drop(state);
        Some(Subscription::new(self.clone(), seat, next, beats))
    }

    /// How many readers there are.
    pub fn readers_count(&self) -> usize {
        self.0.state.lock().seats.len()
    }

    /// How many readers were cut off since they were too slow.
    pub fn cut_count(&self) -> u64 {
        self.0.cut_count.load(Ordering::Relaxed)
    }

    /// How long the jobs took whose ends were seen.
    pub(crate) fn job_durations(&self) -> &JobDurations {
        &self.0.durations
    }

    /// Lets every reader, and those to come, end after the events so far.
    pub fn end(&self) {
        self.0.state.lock().is_ended = true;
        self.wake();
    }

    /// Wakes readers when something happened, and for heartbeats. One timer serves all. Runs until dropped;
    /// cancel-safe.
    pub async fn run(&self) {
        let first = Instant::now() + HEARTBEAT_INTERVAL;
        let mut heartbeat = interval_at(first, HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.is_due.notified() => {}
                _ = heartbeat.tick() => self.0.state.lock().beats += 1,
            }
            self.wake();
        }
    }

    fn wake(&self) {
        let mut state = self.0.state.lock();
        let waiting: Vec<_> = state.seats.values_mut().filter_map(mem::take).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
