//! Whether the sidecar can be restarted now, and what that would cost.
//!
//! A clean end waits for submissions that are under way, for `shutdown.grace` at most, and refuses calls that wait.
//! What is kept on disk goes on afterwards. What is kept in memory ends with the process: the first round finds running
//! jobs again, and nothing finds the rest.

use serde::Serialize;

use crate::pool::LeaseCounts;

/// What would be lost, or is only found again by chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtRisk {
    pub(super) leases: LeaseCounts,
    /// Calls that wait for a slot.
    pub(super) waiting: usize,
    /// Accounts that an operator drained.
    pub(super) drained: usize,
    /// Answers that their clients missed.
    pub(super) missed_answers: usize,
    /// What is kept.
    pub(super) keeping: Keeping,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keeping {
    /// The state is on disk.
    pub(super) is_kept: bool,
    /// It cannot be written at present.
    pub(super) is_failing: bool,
    /// The upstream is asked which jobs run.
    pub(super) reconciles: bool,
}

/// Whether a restart is safe, as it is shown.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Restart {
    is_safe: bool,
    because: Vec<String>,
}

impl AtRisk {
    /// What a restart now would cost.
    pub(super) fn restart(self) -> Restart {
        let Keeping {
            is_kept,
            is_failing,
            reconciles,
        } = self.keeping;
        let lost = |count: usize| if is_kept { 0 } else { count };
        let unseen = if reconciles {
            0
        } else {
            lost(self.leases.jobs)
        };
        let counted = [
            // They are cut off at the end of the grace.
            (
                self.leases.submissions,
                "submission",
                "submissions",
                "under way",
            ),
            // They are refused, and lose their places.
            (self.waiting, "call", "calls", "waiting for a slot"),
            (lost(self.leases.picks), "pick", "picks", "without a job"),
            (
                lost(self.leases.uncertain),
                "submission",
                "submissions",
                "with an unknown outcome",
            ),
            (
                lost(self.missed_answers),
                "answer",
                "answers",
                "not delivered yet",
            ),
            (
                lost(self.drained),
                "drained account",
                "drained accounts",
                "",
            ),
            (
                unseen,
                "running job",
                "running jobs",
                "and reconcile is off",
            ),
        ];
        let counted = counted.into_iter().filter(|(count, ..)| *count > 0);
        let counted = counted.map(|(count, one, many, which)| {
            let what = if count == 1 { one } else { many };
            format!("{count} {what} {which}").trim_end().to_owned()
        });
        let failing = is_failing.then(|| "the state cannot be written at present".to_owned());
        let because: Vec<_> = counted.chain(failing).collect();
        Restart {
            is_safe: because.is_empty(),
            because,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: AtRisk = AtRisk {
        leases: LeaseCounts {
            picks: 2,
            submissions: 1,
            uncertain: 1,
            jobs: 3,
        },
        waiting: 4,
        drained: 1,
        missed_answers: 5,
        keeping: Keeping {
            is_kept: false,
            is_failing: false,
            reconciles: true,
        },
    };

    #[test]
    fn with_memory_all_ends_that_no_round_finds_again() {
        let because = MUCH.restart().because;
        let all = [
            "1 submission under way",
            "4 calls waiting for a slot",
            "2 picks without a job",
            "1 submission with an unknown outcome",
            "5 answers not delivered yet",
            "1 drained account",
        ];
        assert_eq!(because, all);
        let mut without_rounds = MUCH;
        without_rounds.keeping.reconciles = false;
        let because = without_rounds.restart().because;
        assert_eq!(because[6..], ["3 running jobs and reconcile is off"]);
    }

    #[test]
    fn on_disk_only_what_is_under_way_or_waits_is_at_risk() {
        let mut kept = MUCH;
        kept.keeping.is_kept = true;
        kept.keeping.reconciles = false;
        let all = ["1 submission under way", "4 calls waiting for a slot"];
        assert_eq!(kept.restart().because, all);
        kept.keeping.is_failing = true;
        let failing = "the state cannot be written at present";
        assert_eq!(kept.restart().because[2..], [failing]);
    }

    #[test]
    fn a_restart_is_safe_while_nothing_but_known_jobs_runs() {
        let mut idle = AtRisk::default();
        idle.leases.jobs = 9;
        idle.keeping.reconciles = true;
        let restart = idle.restart();
        assert!(restart.is_safe && restart.because.is_empty(), "{restart:?}");
        assert!(!MUCH.restart().is_safe);
    }
}
