//! The operations on the ledger, as values: applied in this process, or elsewhere one day.
//!
//! They name accounts by e-mail and give times as ages or tickets, since keys and clocks are
//! internal to the ledger. An operation that is asked twice takes effect once. As much as possible
//! is done before the ledger is locked: names are folded, lists compared, answers read. What is long is
//! read in parts ([`Part`](super::Part)).

mod accounts;
mod glance;
mod keys;
mod leases;
mod rounds;

use std::time::Duration;

use rand::Rng;

use super::{Clock, Dated};
use crate::pool::Pool;

pub use accounts::{
    AccountNow, AccountsAfter, DryRun, FollowList, FollowListOn, HealthyAccount, IsBusy,
    ListProgress, NewestList, RefusalNow, SetDraining, ShowAccount, Statistics, Stats,
    UnavailableReason,
};
pub use glance::GlanceNow;
pub use keys::{ClaimKey, KnowsKey, NameLost, Recall};
pub use leases::{
    LeaseNow, LeasesAfter, MarkSubmission, NoteMarkFault, NoteMoved, RefusalAnswer, Release,
    Settle, TakePlace, UpdateLease,
};
pub use rounds::{
    Decide, FollowRound, FollowRoundOn, JobOver, JobUntracked, ReachesBack, RoundBase, RoundTicket,
    UndecidedAccounts,
};

/// One operation on the ledger.
pub trait Operation {
    /// The answer.
    type Reply;

    /// Whether the answer waits until what changed is durable.
    const DURABILITY: Durability = Durability::Later;

    /// Whether nothing changes that is [shown](super::Ledger::shown_version) to people.
    const IS_READ: bool = false;

    /// Decides, and changes the pool.
    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply;
}

/// Whether an answer waits until what changed is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does not: what is lost shows again, or costs little.
    Later,
    /// It does, as long as changes can be written.
    Wanted,
    /// It does, and there is none as long as changes cannot be written.
    Needed,
}

/// What an operation is applied to.
#[derive(Debug)]
pub struct Context<'a, R> {
    /// The pool.
    pub pool: &'a mut Pool,
    /// The time of the ledger's clock.
    pub now: Duration,
    /// Converts times of the ledger to calendar times.
    pub clock: &'a Clock,
    /// The generator that draws accounts.
    pub rng: &'a mut R,
}

impl<R> Context<'_, R> {
    /// Asks what a part of a list might deny; see [`Pool::ask_whole_list`].
    fn ask_whole_list<T, E>(
        &mut self,
        question: impl FnMut(&mut Pool, &mut R) -> Result<T, E>,
    ) -> Result<T, E>
    where
        R: Rng,
    {
        self.pool.ask_whole_list(self.now, self.rng, question)
    }

    fn dated<T>(&self, view: T) -> Dated<T> {
        let calendar = self.clock.calendar_at(self.now);
        Dated { view, calendar }
    }
}
