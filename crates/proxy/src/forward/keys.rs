//! Idempotency keys of job starts: the upstream has none, and a second job costs money.
//!
//! Invariant: once the first byte of a submission may have left, its key leads to no other
//! submission, unless the upstream refused this one or no job of it turned up. A full table refuses
//! new keys; it forgets none before its time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;
use http::HeaderMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::outcome::Outcome;
use crate::{
    error::Error,
    idempotency::Key,
    ledger::Memo,
    pool::{Fate, TaskId},
};

/// The most keys remembered at once: more than a job a minute on each of 50 accounts, for a day.
const KEYS_MAX: usize = 100_000;
/// How long a job is remembered by its key.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The memory for answers, which take 1 to 4 KiB each. What does not fit is read again from the
/// upstream when somebody asks.
const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory is given out in pieces of this size.
const PIECE_BYTES: usize = 256;
/// How long a full table is left alone: a look at all of it stops every job start for a moment.
const SWEEP_REST: Duration = Duration::from_secs(1);

/// The table of keys.
#[derive(Debug)]
pub(super) struct Keys {
    table: DashMap<Key, Remembered, RandomState>,
    keys_max: usize,
    answers: Arc<Semaphore>,
    swept_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Remembered {
    fingerprint: u64,
    since: Instant,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing was sent, or it was refused: the call goes on.
    Claimed,
    /// A submission was sent, and no answer has told what became of it.
    Sent(Arc<Sent>),
    /// There is a job.
    Accepted(Arc<Accepted>),
}

#[derive(Debug)]
struct Sent {
    email: Option<Arc<str>>,
    /// `None` for an account that we do not know: nobody counts its jobs.
    memo: Option<Memo>,
}

/// A job that a submission started.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) email: Option<Arc<str>>,
    pub(super) task_id: TaskId,
    /// `None` if only its job is known.
    pub(super) answer: Option<Kept>,
}

/// The upstream's answer, with the memory it takes.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    _memory: OwnedSemaphorePermit,
}

/// What a key stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// A job.
    Accepted(Arc<Accepted>),
    /// Nothing yet: the call may go on under this claim.
    Claimed(Claim),
}

/// A key whose call is being answered. Dropped before anything was sent, the key is free again.
#[derive(Debug)]
pub(super) struct Claim {
    keys: Arc<Keys>,
    key: Key,
    email: Option<Arc<str>>,
    is_sent: bool,
}

impl Keys {
    pub(super) fn new() -> Arc<Self> {
        Self::with_limits(KEYS_MAX, ANSWERS_BYTES_MAX)
    }

    fn with_limits(keys_max: usize, answers_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            table: DashMap::with_hasher(RandomState::default()),
            keys_max,
            answers: Arc::new(Semaphore::new(answers_bytes_max / PIECE_BYTES)),
            swept_at: Mutex::new(None),
        })
    }

    /// What fingerprints of requests are made with.
    pub(super) fn hasher(&self) -> &RandomState {
        self.table.hasher()
    }

    /// Whether a call with this key would start no job.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.table.contains_key(key)
    }

    /// Looks a key up, or claims it for the request with this fingerprint.
    ///
    /// # Errors
    /// [`Error::KeyInUse`] as long as nobody knows what becomes of it, [`Error::KeyReused`] for
    /// another request, [`Error::KeysFull`] for a new key.
    pub(super) async fn claim(
        self: &Arc<Self>,
        key: Key,
        fingerprint: u64,
    ) -> Result<Found, Error> {
        loop {
            let Some((state, is_same)) = self.known(&key, fingerprint)? else {
                return Ok(Found::Claimed(Claim {
                    keys: Arc::clone(self),
                    key,
                    email: None,
                    is_sent: false,
                }));
            };
            let fate = match &state {
                State::Sent(sent) => sent.fate().await,
                State::Claimed | State::Accepted(_) => Fate::Open,
            };
            match (state, fate) {
                (State::Sent(sent), Fate::NoJob) => self.free(&key, &sent),
                _ if !is_same => return Err(Error::KeyReused),
                (State::Accepted(accepted), _) => return Ok(Found::Accepted(accepted)),
                (State::Sent(sent), Fate::Job(task_id)) => {
                    return Ok(Found::Accepted(Arc::new(Accepted {
                        email: sent.email.clone(),
                        task_id,
                        answer: None,
                    })));
                }
                (State::Claimed | State::Sent(_), _) => return Err(Error::KeyInUse),
            }
        }
    }

    /// What is remembered of a key, and whether it is of the same request. Claims a new key.
    fn known(&self, key: &Key, fingerprint: u64) -> Result<Option<(State, bool)>, Error> {
        let is_full = self.is_full();
        let claimed = Remembered {
            fingerprint,
            since: Instant::now(),
            state: State::Claimed,
        };
        match self.table.entry(key.clone()) {
            Entry::Occupied(mut entry) if entry.get().is_over() => {
                entry.insert(claimed);
                Ok(None)
            }
            Entry::Occupied(entry) => {
                let remembered = entry.get();
                let is_same = remembered.fingerprint == fingerprint;
                Ok(Some((remembered.state.clone(), is_same)))
            }
            Entry::Vacant(_) if is_full => Err(Error::KeysFull),
            Entry::Vacant(entry) => {
                entry.insert(claimed);
                Ok(None)
            }
        }
    }

    /// Frees the key of a submission that no job came of.
    fn free(&self, key: &Key, lost: &Arc<Sent>) {
        self.table.remove_if(key, |_, remembered| {
            matches!(&remembered.state, State::Sent(sent) if Arc::ptr_eq(sent, lost))
        });
    }

    /// Whether there is no room for a new key, also after those whose time is over were forgotten.
    fn is_full(&self) -> bool {
        if self.table.len() < self.keys_max {
            return false;
        }
        {
            let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
            if swept_at.is_some_and(|at| at.elapsed() < SWEEP_REST) {
                return true;
            }
            *swept_at = Some(Instant::now());
        }
        self.table.retain(|_, remembered| !remembered.is_over());
        self.table.len() >= self.keys_max
    }

    /// A copy of an answer, if there is memory for it.
    fn keep(&self, headers: &HeaderMap, body: &[u8]) -> Option<Kept> {
        let lines = headers.iter();
        let head_bytes: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let pieces = (head_bytes + body.len()).div_ceil(PIECE_BYTES);
        let pieces = u32::try_from(pieces).ok()?;
        let memory = Arc::clone(&self.answers)
            .try_acquire_many_owned(pieces)
            .ok()?;
        Some(Kept {
            headers: headers.clone(),
            body: Bytes::copy_from_slice(body),
            _memory: memory,
        })
    }
}

impl Sent {
    async fn fate(&self) -> Fate {
        match &self.memo {
            Some(memo) => memo.fate().await,
            None => Fate::Open,
        }
    }
}

impl Remembered {
    fn is_over(&self) -> bool {
        let is_claimed = matches!(self.state, State::Claimed);
        !is_claimed && self.since.elapsed() >= REMEMBERED_FOR
    }
}

impl Claim {
    /// A submission is sent now, on the account `email`. `memo` will know what became of it.
    pub(super) fn sent(&mut self, email: Option<&str>, memo: Option<Memo>) {
        self.email = email.map(Arc::from);
        let email = self.email.clone();
        self.is_sent = true;
        self.set(State::Sent(Arc::new(Sent { email, memo })));
    }

    /// It was refused, or never left.
    pub(super) fn refused(&mut self) {
        self.is_sent = false;
        self.set(State::Claimed);
    }

    /// Learns what the answer to it says. `answer` is there if it came whole.
    pub(super) fn judged(&mut self, outcome: &Outcome, answer: Option<(&HeaderMap, &[u8])>) {
        if let Outcome::Accepted(task_id) = outcome {
            self.accepted(task_id.clone(), answer);
        } else if outcome.blame(None).is_some() {
            self.refused();
        }
    }

    /// It became a job. `answer` says so, if it came whole.
    fn accepted(&mut self, task_id: TaskId, answer: Option<(&HeaderMap, &[u8])>) {
        let answer = answer.and_then(|(headers, body)| self.keys.keep(headers, body));
        let email = self.email.clone();
        self.set(State::Accepted(Arc::new(Accepted {
            email,
            task_id,
            answer,
        })));
    }

    fn set(&self, state: State) {
        if let Some(mut remembered) = self.keys.table.get_mut(&self.key) {
            remembered.state = state;
            remembered.since = Instant::now();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_sent {
            self.keys.table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
