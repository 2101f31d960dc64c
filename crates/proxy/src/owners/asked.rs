//! Which accounts were asked for which task of late, and which of them do not have it.
//!
//! Invariant: it never holds more than [`ASKED_MAX`] answers. It forgets the oldest half at once, which costs
//! questions and nothing else.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pool::TaskId;

/// How long the word of an account that it does not have a task counts: longer than the pauses between
/// the polls of a client, short enough that a wrong word passes soon.
const NOT_HERE_TTL: Duration = Duration::from_secs(30);
/// The most answers that are remembered: searches for 1,000 tasks over 100 accounts. 80 bytes each make 8 MB.
const ASKED_MAX: usize = 100_000;

/// What is known of one account and one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It was asked then, and did not answer, or not yet.
    Unanswered(Instant),
    /// It does not have the task.
    NotHere,
}

/// The accounts that were asked, by task.
#[derive(Debug, Default)]
pub(super) struct AskedAccounts(Mutex<Generations>);

type Generation = HashMap<(TaskId, Arc<str>), Entry>;

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
    /// When the first entry of the young generation was made.
    young_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    is_missing: bool,
}

impl AskedAccounts {
    /// The account is asked for the task now.
    pub(super) fn note_question(&self, task_id: &TaskId, account: &Arc<str>) {
        self.note(task_id, account, false);
    }

    /// The account says that it does not have the task.
    pub(super) fn note_not_here(&self, task_id: &TaskId, account: &Arc<str>) {
        self.note(task_id, account, true);
    }

    /// What is known of the account and the task, unless it is older than [`NOT_HERE_TTL`].
    pub(super) fn of(&self, task_id: &TaskId, account: &Arc<str>) -> Option<Asked> {
        let pair = (task_id.clone(), Arc::clone(account));
        let generations = self.0.lock();
        let entry = generations.young.get(&pair);
        let entry = *entry.or_else(|| generations.old.get(&pair))?;
        if entry.at.elapsed() >= NOT_HERE_TTL {
            return None;
        }
        Some(if entry.is_missing {
            Asked::NotHere
        } else {
            Asked::Unanswered(entry.at)
        })
    }

    fn note(&self, task_id: &TaskId, account: &Arc<str>, is_missing: bool) {
        let at = Instant::now();
        let forgotten = {
            let mut generations = self.0.lock();
            let since = *generations.young_since.get_or_insert(at);
            let is_full = generations.young.len() >= ASKED_MAX / 2;
            let forgotten = (is_full || since.elapsed() >= NOT_HERE_TTL).then(|| {
                generations.young_since = Some(at);
                let full = mem::take(&mut generations.young);
                mem::replace(&mut generations.old, full)
            });
            let pair = (task_id.clone(), Arc::clone(account));
            generations.young.insert(pair, Entry { at, is_missing });
            forgotten
        };
        // Not under the lock: it may be large.
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn task(id: usize) -> TaskId {
        id.to_string().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_word_of_an_account_counts_for_30_seconds() {
        let asked = AskedAccounts::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a@x".into(), "b@x".into());
        let begun = Instant::now();
        asked.note_question(&task(1), &a);
        assert_eq!(asked.of(&task(1), &a), Some(Asked::Unanswered(begun)));
        assert_eq!(asked.of(&task(1), &b), None);
        assert_eq!(asked.of(&task(2), &a), None);
        advance(NOT_HERE_TTL / 2).await;
        asked.note_not_here(&task(1), &a);
        advance(NOT_HERE_TTL - Duration::from_millis(1)).await;
        // Another entry makes a new generation; the old one is remembered.
        asked.note_question(&task(2), &b);
        assert_eq!(asked.of(&task(1), &a), Some(Asked::NotHere));
        advance(Duration::from_millis(1)).await;
        assert_eq!(asked.of(&task(1), &a), None);
        assert!(asked.of(&task(2), &b).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let asked = AskedAccounts::default();
        let account: Arc<str> = "a@x".into();
        for id in 0..2 * ASKED_MAX {
            asked.note_not_here(&task(id), &account);
        }
        let count = {
            let generations = asked.0.lock();
            generations.young.len() + generations.old.len()
        };
        assert!(count <= ASKED_MAX, "{count} entries");
        assert_eq!(asked.of(&task(0), &account), None);
        let newest = task(2 * ASKED_MAX - 1);
        assert_eq!(asked.of(&newest, &account), Some(Asked::NotHere));
    }
}
