//! Places: how many requests of each kind are under way at once.
//!
//! Each kind has its own, so that slow calls of one kind keep no other from the upstream. Where other calls of
//! clients than job starts have none left, an answer that its client does not read gives its place away.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use super::answer::Held;

/// An answer may give its place away once its client has taken nothing of it for so long: less than what calls
/// wait for a place.
pub const GIVES_WAY_AFTER: Duration = Duration::from_secs(3);
/// How often a call that waits for a place looks for such an answer.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// The question which jobs run: one at a time.
    Round,
    /// Other questions of our own.
    Question,
    /// A job start.
    JobStart,
    /// Any other call of a client.
    Other,
}

/// The places of each kind.
#[derive(Debug)]
pub(super) struct Places {
    rounds: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    job_starts: Arc<Semaphore>,
    others: Arc<Semaphore>,
    yielding: Arc<Yielding>,
}

/// A place that is taken. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Where its answer is listed, if that may give the place away.
    yielding: Option<Arc<Yielding>>,
}

/// The answers that may give their places away.
#[derive(Debug, Default)]
struct Yielding(Mutex<SlotMap<DefaultKey, Weak<Held>>>);

/// An answer in the list. It leaves the list when this is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    yielding: Arc<Yielding>,
    key: DefaultKey,
}

impl Places {
    /// `max` places in all, and at least one of each kind: half of them for calls that start no job, a quarter for
    /// questions: with 1024 in all that is as many as searches, checks and histories ask at once.
    pub(super) fn new(max: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        let (others, questions) = (max / 2, max / 4);
        Self {
            rounds: places(1),
            questions: places(questions),
            job_starts: places(max.saturating_sub(1 + others + questions)),
            others: places(others),
            yielding: Arc::default(),
        }
    }

    /// Waits for a place, at most for `patience`. Cancel-safe.
    pub(super) async fn take(&self, traffic: Traffic, patience: Duration) -> Option<Place> {
        let (places, may_yield) = match traffic {
            Traffic::Round => (&self.rounds, false),
            Traffic::Question => (&self.questions, false),
            Traffic::JobStart => (&self.job_starts, false),
            Traffic::Other => (&self.others, true),
        };
        let place = |permit| Place {
            _permit: permit,
            yielding: may_yield.then(|| Arc::clone(&self.yielding)),
        };
        // Most calls need no timer.
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Some(place(permit));
        }
        let deadline = Instant::now() + patience;
        let mut permit = pin!(Arc::clone(places).acquire_owned());
        loop {
            select! {
                biased;
                // The semaphores are never closed.
                permit = &mut permit => return permit.ok().map(place),
                () = sleep_until(deadline) => return None,
                () = sleep(LOOK_INTERVAL), if may_yield => self.yielding.free_one(),
            }
        }
    }
}

impl Place {
    /// Lists the answer that has the place, if it may give it away.
    pub(super) fn list(&self, answer: Weak<Held>) -> Option<Listed> {
        let yielding = Arc::clone(self.yielding.as_ref()?);
        let key = yielding.0.lock().insert(answer);
        Some(Listed { yielding, key })
    }
}

impl Yielding {
    /// Takes the place of the answer that has waited longest for its client.
    fn free_one(&self) {
        // None is dropped while the list is locked: it would leave the list.
        let answers: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).collect();
        let unread = answers
            .iter()
            .filter_map(|it| Some((it.unread_since()?, it)));
        if let Some((since, answer)) = unread.min_by_key(|(since, _)| *since)
            && since.elapsed() >= GIVES_WAY_AFTER
        {
            tracing::debug!("an answer that its client does not read gives its place away");
            answer.give_way();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.yielding.0.lock().remove(self.key);
    }
}
