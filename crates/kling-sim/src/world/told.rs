//! What the program under test has been told, and since when.
//!
//! A *round* is an answered `GET /scheduler/available` or `GET /scheduler` of the program under
//! test. The answer of a round may still be under way when the next job start is sent, so a fact
//! counts as known only once a later round was answered. Two facts count at once, since no earlier
//! fact contradicts them: the first cap told for an account, and a raised cap. A list may come
//! while a round is under way, and the answer of that round proves nothing about the list. A fact
//! from a list therefore waits for the round after that one.

use std::{collections::HashMap, mem};

use crate::task_id::TaskId;

/// The most changes of one cap that are remembered. The changes between two rounds matter. A job
/// start that is under way during more changes than this is judged by the oldest remembered one.
const CAPS_MAX: usize = 16;

/// A cap, and how many rounds had been answered when it was told.
#[derive(Clone, Copy, Debug)]
struct ToldCap {
    round: u64,
    cap: u32,
}

/// Everything that the program under test was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    rounds: u64,
    /// Listed jobs, by the round that told of them first.
    jobs: HashMap<TaskId, u64>,
    caps: HashMap<String, Vec<ToldCap>>,
}

impl Told {
    /// How many rounds were answered.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Notes that a round was answered which lists these jobs.
    pub(crate) fn round(&mut self, listed: impl Iterator<Item = TaskId>) {
        self.rounds += 1;
        let before = mem::take(&mut self.jobs);
        let since = |id| before.get(&id).copied().unwrap_or(self.rounds);
        self.jobs = listed.map(|id| (id, since(id))).collect();
    }

    /// Notes a cap that the latest round told.
    pub(crate) fn cap(&mut self, email: &str, cap: u32) {
        self.note_cap(email, cap, self.rounds);
    }

    /// Notes a cap that a list told. A round may be under way.
    pub(crate) fn listed_cap(&mut self, email: &str, cap: u32) {
        let is_after_a_round = u64::from(self.rounds > 0);
        self.note_cap(email, cap, self.rounds + is_after_a_round);
    }

    fn note_cap(&mut self, email: &str, cap: u32, round: u64) {
        let told = self.caps.entry(email.to_owned()).or_default();
        if told.last().is_some_and(|last| last.cap == cap) {
            return;
        }
        told.push(ToldCap { round, cap });
        if told.len() > CAPS_MAX {
            told.remove(0);
        }
    }

    /// Whether a request that arrived after `round` rounds could know of this job: an answer
    /// before the latest had listed it.
    pub(crate) fn knew_job(&self, id: TaskId, round: u64) -> bool {
        self.jobs.get(&id).is_some_and(|&told| told < round)
    }

    /// The cap that a request had to keep if it arrived after `round` rounds; `None` if no cap was
    /// ever told.
    ///
    /// This is the largest of the last cap that a later round confirmed and all caps told after it.
    /// Without any round it is the newest cap, since nothing else will ever be told.
    pub(crate) fn known_cap(&self, email: &str, round: u64) -> Option<u32> {
        let told = self.caps.get(email)?;
        let confirmed = match round {
            0 => Some(told.len() - 1),
            _ => told.iter().rposition(|told| told.round < round),
        };
        let open = &told[confirmed.unwrap_or(0)..];
        open.iter().map(|told| told.cap).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(told: &mut Told, count: usize) -> u64 {
        for _ in 0..count {
            told.round([TaskId::from(7_u64)].into_iter());
        }
        told.rounds()
    }

    #[test]
    fn a_job_is_known_once_a_later_round_was_answered() {
        let mut told = Told::default();
        let id = TaskId::from(7_u64);
        assert!(!told.knew_job(id, 0));
        let first = rounds(&mut told, 1);
        assert!(!told.knew_job(id, first));
        let second = rounds(&mut told, 1);
        assert!(told.knew_job(id, second));
        assert!(
            !told.knew_job(id, first),
            "judged by what was known on arrival"
        );
        told.round([].into_iter());
        assert!(!told.knew_job(id, told.rounds()), "it is gone");
    }

    #[test]
    fn the_first_cap_and_a_raised_one_count_at_once() {
        let mut told = Told::default();
        let round = rounds(&mut told, 3);
        assert_eq!(told.known_cap("a@x", round), None);
        told.cap("a@x", 3);
        assert_eq!(told.known_cap("a@x", round), Some(3));
        let round = rounds(&mut told, 1);
        told.cap("a@x", 5);
        assert_eq!(told.known_cap("a@x", round), Some(5));
    }

    #[test]
    fn a_lowered_cap_counts_once_a_later_round_was_answered() {
        let mut told = Told::default();
        told.cap("a@x", 5);
        let round = rounds(&mut told, 2);
        told.cap("a@x", 4);
        told.cap("a@x", 3);
        assert_eq!(told.known_cap("a@x", round), Some(5));
        let round = rounds(&mut told, 1);
        assert_eq!(told.known_cap("a@x", round), Some(3));
        told.cap("a@x", 3);
        assert_eq!(
            told.known_cap("a@x", round),
            Some(3),
            "told again is not told anew"
        );
    }

    #[test]
    fn without_rounds_the_newest_cap_counts() {
        let mut told = Told::default();
        told.cap("a@x", 5);
        told.cap("a@x", 3);
        assert_eq!(told.known_cap("a@x", 0), Some(3));
    }

    #[test]
    fn caps_that_change_for_ever_take_bounded_memory() {
        let mut told = Told::default();
        for cap in 0..1000 {
            told.cap("a@x", cap);
        }
        assert_eq!(told.caps["a@x"].len(), CAPS_MAX);
        assert_eq!(told.known_cap("a@x", 0), Some(999));
    }
}
