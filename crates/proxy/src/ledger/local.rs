//! The ledger in this process: a [`Pool`] behind one short lock.
//!
//! Invariant: a waiter is told of its grant under the lock that granted it. So a waiter that leaves
//! is either still in the queue or has its grant.

mod told;
mod waiting;

use std::{
    collections::HashMap,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Clock, Dated, Operation, PickError, PickRequest, Settle, Unavailable,
    commits::{Commits, Version},
    operations,
    results::JobResults,
    returns::Returns,
    shown::Shown,
};
use told::Telling;
use waiting::Seat;
#[doc(hidden)]
pub use waiting::{Entry, Waiting};

use crate::{
    events::Events,
    pool::{
        Admission, Changed, LeaseId, LeaseView, Limits, List, Pool, PoolRecord, RecordName,
        Settlement, WaiterId,
    },
    sync::{Mutex, MutexGuard},
};

/// The ledger of one process.
#[derive(Debug)]
pub struct Local {
    clock: Clock,
    state: Mutex<LedgerState>,
    /// See [`Ledger::shown_version`](super::Ledger::shown_version).
    shown: Shown,
    results: JobResults,
    returns: Returns,
    alarm_moved: Notify,
    round_due: Notify,
    history_due: Notify,
    learnt: CancellationToken,
    /// `None`: nothing is written.
    commits: Option<Commits>,
    events: Events,
    telling: Telling,
    /// See [`Ledger::offers_marks`](super::Ledger::offers_marks).
    offers_marks: AtomicBool,
}

#[derive(Debug)]
struct LedgerState {
    pool: Pool,
    /// The generator that draws accounts.
    rng: StdRng,
    waiting: HashMap<WaiterId, Seat, RandomState>,
    /// The seats that were told of their grants but have not read them yet.
    told: HashMap<LeaseId, u64, RandomState>,
    seated_count: u64,
    is_learnt: bool,
    /// How many operations have left changes of records.
    version: Version,
    /// Something that is shown to people may have changed since the lock was taken.
    has_moved: bool,
    /// When [`Local::keep_time`] wakes next.
    alarm: Duration,
}

impl Local {
    /// An empty state, which is lost when the process ends.
    pub fn new(limits: Limits) -> Self {
        Self::in_memory(limits, Events::default())
    }

    /// The same. It tells `events` what happens.
    pub(super) fn in_memory(limits: Limits, events: Events) -> Self {
        Self::with(Pool::new(limits), Clock::start(), None, events)
    }

    /// A state that goes on, and that is written.
    pub(super) fn journaled(pool: Pool, clock: Clock, events: Events) -> Self {
        Self::with(pool, clock, Some(Commits::default()), events)
    }

    fn with(pool: Pool, clock: Clock, commits: Option<Commits>, events: Events) -> Self {
        Self {
            offers_marks: AtomicBool::new(pool.offers_marks()),
            clock,
            commits,
            events,
            telling: Telling::default(),
            state: Mutex::new(LedgerState {
                pool,
                rng: StdRng::from_rng(&mut rand::rng()),
                waiting: HashMap::default(),
                told: HashMap::default(),
                seated_count: 0,
                is_learnt: false,
                version: 0,
                has_moved: false,
                alarm: Duration::MAX,
            }),
            shown: Shown::default(),
            results: JobResults::default(),
            returns: Returns::default(),
            alarm_moved: Notify::new(),
            round_due: Notify::new(),
            history_due: Notify::new(),
            learnt: CancellationToken::new(),
        }
    }

    /// Does one operation.
    pub fn call<O: Operation>(&self, operation: O) -> O::Reply {
        self.apply(operation).0
    }

    /// Does one operation. Returns the version of what it changed, too.
    pub(super) fn apply<O: Operation>(&self, operation: O) -> (O::Reply, Version) {
        self.change_versioned(|state, now| {
            state.has_moved |= !O::IS_READ;
            operation.apply(operations::Context {
                pool: &mut state.pool,
                now,
                clock: &self.clock,
                rng: &mut state.rng,
            })
        })
    }

    /// Leases a slot, or takes a place in the queue for one.
    ///
    /// # Errors
    /// [`PickError`] if waiting would not help, or the queue is full.
    #[doc(hidden)]
    pub fn enter(&self, lease: LeaseId, request: &PickRequest) -> Result<Entry<'_>, PickError> {
        Ok(self.enter_versioned(lease, request)?.0)
    }

    /// The same. Returns the version of what changed, and the time at which it did, too.
    fn enter_versioned(
        &self,
        lease: LeaseId,
        request: &PickRequest,
    ) -> Result<(Entry<'_>, Version, Duration), PickError> {
        let mut entered_at = Duration::ZERO;
        let (entered, version) = self.change_versioned(|state, now| -> Result<_, PickError> {
            entered_at = now;
            let admission = request.admit(lease, &mut state.pool, now, &mut state.rng)?;
            state.has_moved = true;
            match admission {
                Admission::Granted(lease) => {
                    if !state.told.is_empty() {
                        state.told.remove(&lease.id);
                    }
                    Ok(Entry::Granted(Box::new(lease)))
                }
                Admission::Queued(id) => {
                    let (tell, granted) = oneshot::channel();
                    let seat = state.seated_count;
                    state.seated_count += 1;
                    state.waiting.insert(id, Seat { number: seat, tell });
                    Ok(Entry::Waiting(Waiting {
                        local: self,
                        id,
                        lease,
                        seat,
                        granted,
                    }))
                }
            }
        });
        Ok((entered?, version, entered_at))
    }

    pub(super) async fn pick(
        &self,
        lease: LeaseId,
        request: &PickRequest,
    ) -> Result<(Dated<Box<LeaseView>>, Version), PickError> {
        let (entry, version, now) = self.enter_versioned(lease, request)?;
        // Boxed, as the future of a pick that waits for nothing would have room for it.
        let waiting = match entry {
            Entry::Granted(lease) => return Ok((self.dated(lease, now), version)),
            Entry::Waiting(waiting) => Box::pin(self.wait_for(waiting, request.wait)),
        };
        waiting.await
    }

    async fn wait_for(
        &self,
        mut waiting: Waiting<'_>,
        wait: Duration,
    ) -> Result<(Dated<Box<LeaseView>>, Version), PickError> {
        let lease = match time::timeout(wait, waiting.granted()).await {
            Ok(Some(lease)) => lease,
            Ok(None) | Err(_) => waiting.give_up()?,
        };
        // It was granted before now.
        let version = self.lock().version;
        Ok((self.dated(Box::new(lease), self.clock.now()), version))
    }

    /// Waits until what was changed before `version` is durable; see [`Commits::committed`].
    ///
    /// # Errors
    /// [`Unavailable`] if nothing is written at `deadline`.
    pub(super) async fn committed(
        &self,
        version: Version,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        match &self.commits {
            // Boxed, as what every operation of a ledger without a journal waits with would have room for it.
            Some(commits) => Box::pin(commits.committed(version, deadline)).await,
            None => Ok(()),
        }
    }

    /// Waits until changes can be written; see [`Commits::writable`].
    ///
    /// # Errors
    /// [`Unavailable`] if they cannot at `deadline`.
    pub(super) async fn writable(&self, deadline: Instant) -> Result<(), Unavailable> {
        match &self.commits {
            Some(commits) => commits.writable(deadline).await,
            None => Ok(()),
        }
    }

    /// Whether changes cannot be written at present.
    pub(super) fn is_failing(&self) -> bool {
        self.commits.as_ref().is_some_and(Commits::is_failing)
    }

    /// For the loop that writes.
    pub(super) fn commits(&self) -> Option<&Commits> {
        self.commits.as_ref()
    }

    /// What changed since the last call, with the list if that is another one, and the version that is committed with it.
    pub(super) fn take_changed(&self) -> (Changed, Option<Arc<List>>, Version) {
        let mut state = self.lock();
        let changed = state.pool.take_changed();
        let list = changed.is_list.then(|| state.pool.list()).flatten();
        (changed, list, state.version)
    }

    /// The newest states of some records. `None` for those that are gone.
    pub(super) fn records(&self, names: &[RecordName]) -> Vec<Option<PoolRecord>> {
        let mut state = self.lock();
        names.iter().map(|name| state.pool.record(name)).collect()
    }

    /// Something changed that is written with the changes of the ledger, and that the ledger does not know of. Returns
    /// the version that is committed with it.
    pub(super) fn note_change_elsewhere(&self) -> Version {
        let mut state = self.lock();
        if let Some(commits) = &self.commits {
            state.version += 1;
            commits.note_change();
        }
        state.version
    }

    pub(super) fn offers_marks(&self) -> bool {
        self.offers_marks.load(Ordering::Relaxed)
    }

    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    pub(super) fn results(&self) -> &JobResults {
        &self.results
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn version(&self) -> Version {
        self.lock().version
    }

    pub(super) fn give_back(&self, settle: Settle) {
        self.returns.push(settle);
        self.alarm_moved.notify_one();
    }

    /// Every call ends overdue leases and takes back returned slots; this loop makes sure that
    /// there is a call on time.
    pub(super) async fn keep_time(&self) {
        loop {
            let alarm = self.change(|state, _| {
                state.alarm = state.pool.next_deadline().unwrap_or(Duration::MAX);
                state.alarm
            });
            match self.clock.instant(alarm) {
                Some(instant) => tokio::select! {
                    () = time::sleep_until(instant) => {}
                    () = self.alarm_moved.notified() => {}
                },
                None => self.alarm_moved.notified().await,
            }
        }
    }

    pub(super) async fn round_due(&self) {
        self.round_due.notified().await;
    }

    pub(super) async fn history_due(&self) {
        self.history_due.notified().await;
    }

    pub(super) async fn learnt(&self) {
        self.learnt.cancelled().await;
    }

    fn dated(&self, view: Box<LeaseView>, now: Duration) -> Dated<Box<LeaseView>> {
        let calendar = self.clock.calendar_at(now);
        Dated { view, calendar }
    }

    /// Every access to the state goes through here.
    fn change<T>(&self, change: impl FnOnce(&mut LedgerState, Duration) -> T) -> T {
        self.change_versioned(change).0
    }

    fn change_versioned<T>(
        &self,
        change: impl FnOnce(&mut LedgerState, Duration) -> T,
    ) -> (T, Version) {
        let (mut state, now) = self.begin();
        let answer = change(&mut state, now);
        let version = self.finish(state, now);
        (answer, version)
    }

    /// Locks the state. Ends overdue leases, then takes back returned slots.
    fn begin(&self) -> (MutexGuard<'_, LedgerState>, Duration) {
        let returned = self.returns.take();
        let mut state = self.lock();
        let now = self.clock.now();
        let LedgerState { pool, rng, .. } = &mut *state;
        let is_due = pool.expire(now, rng);
        state.has_moved = is_due || !returned.is_empty();
        for settle in returned {
            settle.settle(&mut state.pool, now);
        }
        (state, now)
    }

    /// Unlocks the state. Waiters are told of their grants before.
    fn finish(&self, mut state: MutexGuard<'_, LedgerState>, now: Duration) -> Version {
        state.tell_waiters(now);
        if state.pool.take_round_due() {
            self.round_due.notify_one();
        }
        if !state.is_learnt && !state.pool.is_learning() {
            state.is_learnt = true;
            self.learnt.cancel();
        }
        if state.pool.take_history_due() {
            self.history_due.notify_one();
        }
        if let Some(next) = state.pool.next_deadline()
            && next < state.alarm
        {
            state.alarm = next;
            self.alarm_moved.notify_one();
        }
        if let Some(commits) = &self.commits
            && state.pool.has_changed()
        {
            state.version += 1;
            commits.note_change();
        }
        if state.has_moved {
            self.shown.note();
        }
        let offers_marks = state.pool.offers_marks();
        self.offers_marks.store(offers_marks, Ordering::Relaxed);
        let version = state.version;
        let has_news = self.telling.note(&mut state.pool);
        // Told after unlocking: writing it must not extend the critical section.
        drop(state);
        if has_news {
            self.telling
                .tell(&self.events, &self.results, || self.clock.calendar());
        }
        version
    }

    /// A panic under the lock may have left half a change. Going on could overrun an account, so
    /// the process ends.
    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(|_| {
            tracing::error!(
                "a panic under the ledger's lock may have left it half changed; the process ends. Restart \
                 it, and report this bug"
            );
            process::abort()
        })
    }
}

impl LedgerState {
    fn tell_waiters(&mut self, now: Duration) {
        while let Some(handover) = self.pool.next_handover() {
            let Some(seat) = self.waiting.remove(&handover.waiter) else {
                continue;
            };
            let lease = handover.lease.id;
            match seat.tell.send(handover.lease) {
                Ok(()) => {
                    self.told.insert(lease, seat.number);
                }
                Err(lease) => self.give_back(lease.id, now),
            }
        }
    }

    /// The client never learned of a grant: its slot goes back, and its key is free.
    fn give_back(&mut self, lease: LeaseId, now: Duration) {
        self.pool
            .settle(lease, None, None, Settlement::Undelivered, now);
    }
}

#[cfg(test)]
mod tests;
