//! The ledger in this process: a [`Pool`] behind one short lock.
//!
//! Invariant: whoever was handed a slot is told under the lock that granted it. So a waiter that
//! leaves finds either itself in the queue or its grant in its hands, never neither.

use std::{collections::HashMap, process, time::Duration};

use accounts_fetcher::Snapshot;
use tokio::{
    sync::{Notify, oneshot},
    time,
};

use super::{Clock, Figures, PickError, PickRequest, Survey};
use crate::{
    pool::{
        AccountView, Admission, Ask, Blame, Cause, Constraint, Fate, Findings, LeaseError, LeaseId,
        LeaseView, Limits, Pool, Refusal, Round, State, TaskId, Turn, UnknownAccount, Update,
        WaiterId,
    },
    sync::{Mutex, MutexGuard},
};

/// The book of one process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    book: Mutex<Book>,
    alarm_moved: Notify,
    round_due: Notify,
}

#[derive(Debug)]
struct Book {
    pool: Pool,
    waiting: HashMap<WaiterId, oneshot::Sender<LeaseView>>,
    /// When [`Memory::keep_time`] will look again.
    alarm: Duration,
}

/// The answer to a caller who is ready to wait.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A slot was free.
    Granted(LeaseView),
    /// None was.
    Waiting(Waiting<'a>),
}

/// A place in the queue. Dropped, it is left, and a slot handed over meanwhile goes back.
#[derive(Debug)]
pub struct Waiting<'a> {
    memory: &'a Memory,
    id: WaiterId,
    granted: oneshot::Receiver<LeaseView>,
}

impl Waiting<'_> {
    /// Waits for the slot. Cancel-safe. `None` never comes while the ledger lives.
    pub async fn granted(&mut self) -> Option<LeaseView> {
        (&mut self.granted).await.ok()
    }

    /// Stops waiting. A slot handed over in the last instant is the caller's.
    ///
    /// # Errors
    /// [`Refusal::Saturated`], with the place it had in the queue.
    pub fn give_up(mut self) -> Result<LeaseView, Refusal> {
        let prospect = self
            .memory
            .change(|book, now| book.pool.prospect(self.id, now));
        let none = Refusal::Saturated {
            free_in: None,
            position: 1,
        };
        self.leave().ok_or(prospect.unwrap_or(none))
    }

    fn leave(&mut self) -> Option<LeaseView> {
        let was_waiting = {
            let mut book = self.memory.lock();
            book.waiting.remove(&self.id);
            book.pool.leave(self.id)
        };
        if was_waiting {
            None
        } else {
            self.granted.try_recv().ok()
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.leave() {
            self.memory.end(lease.id, Cause::Undelivered);
        }
    }
}

impl Memory {
    /// An empty book.
    pub fn new(limits: Limits) -> Self {
        Self {
            clock: Clock::start(),
            book: Mutex::new(Book {
                pool: Pool::new(limits),
                waiting: HashMap::new(),
                alarm: Duration::MAX,
            }),
            alarm_moved: Notify::new(),
            round_due: Notify::new(),
        }
    }

    /// Leases a slot, or takes a place in the queue for one.
    ///
    /// # Errors
    /// [`PickError`] where waiting would not help, or nobody more may wait.
    pub fn enter(&self, request: &PickRequest) -> Result<Entry<'_>, PickError> {
        let lease_id = LeaseId::random(&mut rand::rng());
        self.change(|book, now| {
            let constraint = book.constraint(request)?;
            let ask = Ask {
                lease_id,
                ttl: request.ttl,
                constraint,
                operation: request.operation.clone(),
                max_jobs: request.max_jobs,
            };
            if request.wait.is_zero() {
                return Ok(Entry::Granted(book.pool.pick(
                    &ask,
                    now,
                    &mut rand::rng(),
                )?));
            }
            match book.pool.pick_or_wait(ask, now, &mut rand::rng())? {
                Admission::Granted(lease) => Ok(Entry::Granted(lease)),
                Admission::Queued(id) => {
                    let (tell, granted) = oneshot::channel();
                    book.waiting.insert(id, tell);
                    Ok(Entry::Waiting(Waiting {
                        memory: self,
                        id,
                        granted,
                    }))
                }
            }
        })
    }

    /// Ends a lease. False if it is not held.
    pub fn end(&self, id: LeaseId, cause: Cause) -> bool {
        self.change(|book, now| book.pool.end(id, cause, now))
    }

    /// Makes `snapshot` the account list.
    pub fn apply(&self, snapshot: &Snapshot) {
        self.change(|book, now| book.pool.apply(snapshot, now, &mut rand::rng()));
    }

    /// Every account, in list order.
    pub fn accounts(&self) -> Vec<AccountView> {
        self.change(|book, _| book.pool.accounts().collect())
    }

    pub(super) async fn pick(&self, request: &PickRequest) -> Result<LeaseView, PickError> {
        let mut waiting = match self.enter(request)? {
            Entry::Granted(lease) => return Ok(lease),
            Entry::Waiting(waiting) => waiting,
        };
        match time::timeout(request.wait, waiting.granted()).await {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) | Err(_) => Ok(waiting.give_up()?),
        }
    }

    pub(super) fn survey(&self, request: &PickRequest) -> Result<Survey, PickError> {
        self.change(|book, _| {
            let constraint = book.constraint(request)?;
            Ok(Survey {
                accounts: book.pool.accounts().collect(),
                eligible: book
                    .pool
                    .eligible(&constraint)
                    .map(|account| account.email)
                    .collect(),
            })
        })
    }

    pub(super) fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.change(|book, _| book.pool.lease(id))
    }

    pub(super) fn leases(&self) -> Vec<LeaseView> {
        self.change(|book, _| book.pool.leases())
    }

    pub(super) fn update(&self, id: LeaseId, update: Update) -> Result<LeaseView, LeaseError> {
        self.change(|book, now| book.pool.update(id, update, now))
    }

    pub(super) fn release(&self, id: LeaseId) -> bool {
        self.change(|book, now| book.pool.release(id, now))
    }

    pub(super) fn refuse(&self, id: LeaseId, blame: Blame) {
        self.change(|book, now| book.pool.refuse(id, blame, now));
    }

    pub(super) fn doubt(&self, id: LeaseId, sent_at: Duration) {
        self.change(|book, now| book.pool.doubt(id, sent_at, now));
    }

    pub(super) fn remember(&self, id: LeaseId) {
        self.change(|book, _| book.pool.remember_fate(id));
    }

    pub(super) fn fate(&self, id: LeaseId) -> Fate {
        self.change(|book, _| book.pool.fate(id))
    }

    pub(super) fn forget(&self, id: LeaseId) {
        self.change(|book, _| book.pool.forget_fate(id));
    }

    pub(super) fn reconcile(&self, round: &Round) -> Findings {
        self.change(|book, now| book.pool.reconcile(round, now, &mut rand::rng()))
    }

    /// The answer to a submission names its job.
    pub(super) fn accept(&self, id: LeaseId, email: &str, task_id: TaskId) {
        self.change(|book, now| match book.pool.bind(id, task_id.clone(), now) {
            Ok(()) => {}
            // Somebody gave the lease back by hand. The job runs all the same.
            Err(LeaseError::Unknown | LeaseError::TaskTaken) => {
                book.pool.job_started(task_id, email, now);
            }
        });
    }

    pub(super) fn job_started(&self, task_id: TaskId, email: &str) {
        self.change(|book, now| book.pool.job_started(task_id, email, now));
    }

    pub(super) fn job_over(&self, task_id: &TaskId) -> bool {
        self.change(|book, now| book.pool.job_over(task_id, now))
    }

    pub(super) fn job_untracked(&self, task_id: &TaskId) {
        self.change(|book, now| book.pool.job_untracked(task_id, now));
    }

    pub(super) fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        self.change(|book, _| book.pool.account(email))
    }

    pub(super) fn set_draining(
        &self,
        email: &str,
        is_draining: bool,
    ) -> Result<AccountView, UnknownAccount> {
        self.change(|book, now| book.pool.set_draining(email, is_draining, now))
    }

    pub(super) fn outage(&self) -> Option<Refusal> {
        self.change(|book, _| book.pool.outage())
    }

    pub(super) fn obstacle(&self) -> Option<Refusal> {
        self.change(|book, now| book.pool.obstacle(now))
    }

    pub(super) fn figures(&self) -> Figures {
        self.change(|book, _| Figures {
            accounts: book.pool.accounts().collect(),
            waiters_count: book.pool.waiters_count(),
            ended_counts: book.pool.ended_counts(),
        })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Every call ends what is overdue; this one makes sure that there is a call in time.
    pub(super) async fn keep_time(&self) {
        loop {
            let alarm = self.change(|book, _| {
                book.alarm = book.pool.next_deadline().unwrap_or(Duration::MAX);
                book.alarm
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

    /// Every use of the book goes through here: what is overdue ends first, and whoever was
    /// handed a slot is told before the lock is let go.
    fn change<T>(&self, change: impl FnOnce(&mut Book, Duration) -> T) -> T {
        let mut book = self.lock();
        let now = self.clock.now();
        book.pool.expire(now, &mut rand::rng());
        let answer = change(&mut book, now);
        book.tell_waiters(now);
        if book.pool.take_round_due() {
            self.round_due.notify_one();
        }
        if let Some(next) = book.pool.next_deadline()
            && next < book.alarm
        {
            book.alarm = next;
            self.alarm_moved.notify_one();
        }
        let turned = book.pool.take_turned();
        // Whoever reads the log may be slow.
        drop(book);
        for turn in &turned {
            log_turn(turn);
        }
        answer
    }

    /// A panic under the lock may have left half a change. Going on could overrun an account, so
    /// the process ends instead.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|_| process::abort())
    }
}

fn log_turn(turn: &Turn) {
    let (account, from) = (&turn.alias, turn.from.as_str());
    match turn.to {
        State::Quarantined => tracing::error!(
            %account,
            from,
            "account is quarantined: its session is broken. Add it again with POST /accounts at the \
             upstream, then it is tried again"
        ),
        State::Parked => tracing::warn!(%account, from, "account is parked: it has no credit"),
        State::Error => tracing::warn!(%account, from, "account is in error at the upstream"),
        State::Cooling => {
            tracing::info!(%account, from, "account is left alone: the upstream pushed back");
        }
        State::Draining => tracing::info!(%account, from, "account is drained by the operator"),
        State::Removed => tracing::info!(%account, from, "account left the list"),
        State::Available | State::Full => tracing::info!(%account, from, "account is in use again"),
    }
}

impl Book {
    fn constraint(&self, request: &PickRequest) -> Result<Constraint, PickError> {
        let constraint = self
            .pool
            .constraint(request.email.as_deref(), &request.exclude);
        // Nothing can be known of an account before there is a list.
        constraint.map_err(|unknown| {
            self.pool
                .outage()
                .map_or(unknown.into(), PickError::Refused)
        })
    }

    fn tell_waiters(&mut self, now: Duration) {
        while let Some(handover) = self.pool.next_handover() {
            let tell = self.waiting.remove(&handover.waiter);
            let told = tell.map(|tell| tell.send(handover.lease));
            if let Some(Err(lease)) = told {
                self.pool.end(lease.id, Cause::Undelivered, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::ledger::{
        Ledger,
        tests::{any_account, ledger_of},
    };

    /// Lines of a log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn what_becomes_of_an_account_is_logged_once() {
        let lines = Lines::default();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(lines.clone());
        tracing::subscriber::with_default(log.finish(), || {
            let ledger = ledger_of(2);
            let Ledger::Memory(memory) = &*ledger;
            let leases = [(); 2].map(|()| match memory.enter(&any_account()).unwrap() {
                Entry::Granted(lease) => lease.id,
                Entry::Waiting(_) => panic!("it is full"),
            });
            for lease in leases {
                memory.refuse(lease, Blame::SessionBroken);
            }
            memory.set_draining("a@x", false).unwrap();
        });
        let text = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for (line, words) in text.lines().zip([
            ["ERROR", "account is quarantined", "POST /accounts"],
            ["INFO", "account is in use again", "from=\"quarantined\""],
        ]) {
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
            assert!(!line.contains("a@x"), "accounts have aliases: {line}");
        }
    }
}
