//! An account as it is shown.

use std::{sync::Arc, time::Duration};

use super::{super::Tally, AccountState, LastRefusal};

/// An account as an operator sees it.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// The e-mail, in the list's spelling.
    pub email: Arc<str>,
    /// Its name in logs and metrics.
    pub alias: accounts_fetcher::Alias,
    /// Its capacity.
    pub max_jobs: u32,
    /// Its leased slots whose jobs, if any, are known.
    pub held: u32,
    /// Its leased slots of submissions whose outcome is unknown.
    pub uncertain: u32,
    /// Its slots of jobs that were not started through us.
    pub foreign: u32,
    /// Slots in use in the pool minus jobs that the newest round listed, before it corrected the
    /// pool.
    pub drift: i64,
    /// Whether it can be picked right now.
    pub is_eligible: bool,
    /// Whether it can be picked, in a word.
    pub state: AccountState,
    /// The error of the account, as the upstream reports it.
    pub error: Option<Arc<str>>,
    /// Until when, if that is known.
    pub until: Option<Duration>,
    /// When its upstream session ends, RFC 3339, as the list says. Shown, never acted on.
    pub session_expires_at: Option<Arc<str>>,
    /// Since when it is in this state, as it was shown; not longer than this process runs.
    pub since: Duration,
    /// When it last refused a job for a reason of its own, and in which words.
    pub last_refusal: Option<Arc<LastRefusal>>,
    /// What became of its submissions and jobs since the start.
    pub tally: Tally,
    /// Whether its counts have metric series of their own.
    pub has_series: bool,
    /// How long until it has a free slot, as far as can be told. `None`: it has one, is not usable, or nothing is
    /// known of its jobs.
    pub next_free_in: Option<Duration>,
}

impl AccountView {
    /// Why it cannot be picked, in a sentence.
    pub fn reason(&self) -> Option<&str> {
        match self.state {
            AccountState::Available => None,
            AccountState::Full if self.max_jobs == 0 => Some("its maxJobs is 0"),
            AccountState::Full if self.in_flight() < self.max_jobs => {
                Some("its quarantine is over, and one job that runs decides")
            }
            AccountState::Full => Some("every slot is in use"),
            AccountState::Cooling => Some("the upstream refused a job for now"),
            AccountState::Quarantined => {
                Some("its session is broken: add it again at the upstream, or resume it here")
            }
            AccountState::Parked => Some("it has no credit at the upstream"),
            AccountState::Error => self.error.as_deref(),
            AccountState::Draining => Some("draining: an operator asked for it; resume ends it"),
            AccountState::Removed => Some("no longer in the account list"),
        }
    }

    /// Slots in use: leased, or taken by foreign jobs.
    pub fn in_flight(&self) -> u32 {
        self.held + self.uncertain + self.foreign
    }

    /// Slots a pick could take right now.
    pub fn available(&self) -> u32 {
        if self.is_eligible {
            self.max_jobs - self.in_flight()
        } else {
            0
        }
    }

    /// Slots in use above the capacity of a listed account, after its cap was lowered.
    pub fn overcommitted(&self) -> u32 {
        if self.state == AccountState::Removed {
            0
        } else {
            self.in_flight().saturating_sub(self.max_jobs)
        }
    }
}
