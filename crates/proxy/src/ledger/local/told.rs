//! What is told of the accounts, of jobs, and of marks.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{
    events::{AccountFacts, Events, Fact},
    ledger::{Calendar, results::JobResults},
    pool::{AccountNames, JobChange, LossDecided, MarksChange, MarksKnown, Pool, StateChange},
};

/// How many operations may wait to be told of before their threads wait for that, too: a burst of some milliseconds.
const WAITING_MAX: usize = 1024;

/// What is to be told, in the order in which it happened.
///
/// It is noted under the ledger's lock, and told without it. One thread tells at a time, and no other waits for it
/// unless it falls behind.
#[derive(Debug, Default)]
pub(super) struct Telling {
    waiting: Mutex<VecDeque<Told>>,
    /// Held by the one that tells.
    turn: Mutex<()>,
}

impl Telling {
    /// Notes what an operation leaves to be told, and returns whether that is anything. Called under the ledger's lock.
    pub(super) fn note(&self, pool: &mut Pool) -> bool {
        // Most operations leave nothing.
        if !pool.has_news() {
            return false;
        }
        let told = Told::take(pool);
        let is_some = !told.is_empty();
        if is_some {
            self.waiting.lock().push_back(told);
        }
        is_some
    }

    /// Tells what was noted, unless another thread is about to. Called by those that noted something.
    pub(super) fn tell(
        &self,
        events: &Events,
        results: &JobResults,
        calendar: impl Fn() -> Calendar,
    ) {
        loop {
            // The lock is free again before a turn is waited for: the one whose turn it is takes it.
            let waiting_count = self.waiting.lock().len();
            let _turn = match waiting_count {
                0 => return,
                1..=WAITING_MAX => match self.turn.try_lock() {
                    Some(turn) => turn,
                    // It looks again after its turn.
                    None => return,
                },
                _ => self.turn.lock(),
            };
            while let Some(told) = self.next() {
                told.tell(events, results, &calendar);
            }
        }
    }

    fn next(&self) -> Option<Told> {
        self.waiting.lock().pop_front()
    }
}

/// What is to be told of an operation.
#[derive(Debug)]
struct Told {
    state_changes: Vec<StateChange>,
    job_changes: Vec<JobChange>,
    decided_losses: Vec<LossDecided>,
    drained: Vec<AccountNames>,
    marks_changes: Vec<MarksChange>,
}

impl Told {
    /// Takes it from the pool.
    fn take(pool: &mut Pool) -> Self {
        Self {
            state_changes: pool.take_state_changes(),
            job_changes: pool.take_job_changes(),
            decided_losses: pool.take_decided_losses(),
            drained: pool.take_drained(),
            marks_changes: pool.take_marks_changes(),
        }
    }

    fn is_empty(&self) -> bool {
        self.state_changes.is_empty()
            && self.job_changes.is_empty()
            && self.decided_losses.is_empty()
            && self.drained.is_empty()
            && self.marks_changes.is_empty()
    }

    fn tell(self, events: &Events, results: &JobResults, calendar: impl FnOnce() -> Calendar) {
        if !self.state_changes.is_empty() {
            let calendar = calendar();
            for change in self.state_changes {
                tell_state_change(events, &calendar, change);
            }
        }
        for change in self.job_changes {
            if let JobChange::Ended { job, end, .. } = &change
                && let Some(result) = end.result()
            {
                results.push(job.task_id.clone(), result);
            }
            events.publish(&match change {
                JobChange::Started(job) => Fact::JobStarted(job.into()),
                JobChange::Ended { job, end, took } => Fact::JobEnded {
                    job: job.into(),
                    result: end,
                    duration: took,
                },
            });
        }
        for decided in self.decided_losses {
            events.publish(&decided.into());
        }
        for account in self.drained {
            events.publish(&Fact::AccountDrained(account.into()));
        }
        for change in &self.marks_changes {
            log_marks_change(change);
        }
    }
}

fn tell_state_change(events: &Events, calendar: &Calendar, change: StateChange) {
    events.publish(&Fact::AccountState {
        account: AccountFacts {
            email: change.email,
            alias: change.alias,
        },
        from: change.from,
        to: change.to,
        until: change.until.map(|until| calendar.at(until)),
        reason: change.reason,
    });
}

fn log_marks_change(change: &MarksChange) {
    let operation = &*change.operation;
    match change.to {
        MarksKnown::Proven => tracing::info!(
            operation,
            "marks are kept: the upstream lists a job with the replyRef that was put in, so lost submissions \
             are found by it"
        ),
        MarksKnown::Doubted => tracing::warn!(
            operation,
            "a job is listed without its mark; one submission at a time is marked until one is listed with it"
        ),
        MarksKnown::Dropped => tracing::warn!(
            operation,
            "marks are off: the upstream lists jobs without the replyRef that was put in"
        ),
        MarksKnown::Refused => tracing::warn!(
            operation,
            "marks are off: the upstream refuses the replyRef that was put in, and takes the same call without it"
        ),
        MarksKnown::Suspended => tracing::warn!(
            operation,
            "marks are off until the next start: submissions with a mark failed; forward.mark=off is for good"
        ),
    }
}
