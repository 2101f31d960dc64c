//! The ledger: the only way to the accounts, their leases and waiters.
//!
//! Each request to the ledger is an [`Operation`], a value with a typed reply. Every kind of ledger
//! decides by the rules of [`crate::pool`]; the kinds differ in what survives a crash and in who
//! shares the state. A grant is a [`Slot`], which gives the slot back when it is dropped. Once its
//! submission is sent it becomes a [`Submission`], which does not.

mod clock;
mod commits;
pub mod local;
mod operations;
mod pick;
mod results;
mod returns;
mod shown;
mod slot;
mod walk;

use std::{future, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::Instant;

use crate::{
    events::Events,
    pool::{
        Body, Changed, Claim, JobResult, Known, LeaseId, Limits, List, Name, Pool, PoolRecord,
        RecordName, TaskId,
    },
};
use local::Local;

pub use clock::{Calendar, Clock};
pub(crate) use commits::Version;
pub use operations::{
    AccountNow, AccountsAfter, ClaimKey, Decide, DryRun, Durability, FollowList, FollowListOn,
    FollowRound, FollowRoundOn, GlanceNow, HealthyAccount, IsBusy, JobOver, JobUntracked, KnowsKey,
    LeaseNow, LeasesAfter, ListProgress, MarkSubmission, NameLost, NewestList, NoteMarkFault,
    NoteMoved, Operation, ReachesBack, Recall, RefusalAnswer, RefusalNow, Release, RoundBase,
    RoundTicket, SetDraining, Settle, ShowAccount, Statistics, Stats, TakePlace, UnavailableReason,
    UndecidedAccounts, UpdateLease,
};
pub use pick::{PickError, PickRequest};
pub(crate) use slot::Hold;
use slot::Unsent;
pub use slot::{Dated, Slot, Submission};
pub use walk::{Part, ROWS_MAX, Walk};

/// The ledger cannot be reached now. The operation may have taken effect or not; asked again, it
/// takes effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ledger is not available")]
pub struct Unavailable;

/// The ledger.
#[derive(Debug)]
pub enum Ledger {
    /// In the memory of this process. What is kept beside it survives.
    Local(Local),
}

impl Ledger {
    /// A ledger in this process that goes on after a restart, and whose changes are written.
    pub(crate) fn journaled(pool: Pool, clock: Clock, events: Events) -> Arc<Self> {
        Arc::new(Self::Local(Local::journaled(pool, clock, events)))
    }

    /// An empty ledger in this process, which tells `events` what happens.
    pub(crate) fn in_memory(limits: Limits, events: Events) -> Arc<Self> {
        Arc::new(Self::Local(Local::in_memory(limits, events)))
    }

    /// An empty ledger in this process.
    pub fn local(limits: Limits) -> Arc<Self> {
        Self::in_memory(limits, Events::default())
    }

    /// What it tells of what happens.
    pub(crate) fn events(&self) -> &Events {
        self.keeper().events()
    }

    /// Does one operation.
    ///
    /// Cancel-safe: a dropped call took effect or did not, and may be repeated.
    ///
    /// # Errors
    /// [`Unavailable`] if the ledger cannot be reached.
    pub async fn call<O: Operation>(&self, operation: O) -> Result<O::Reply, Unavailable> {
        let keeper = self.keeper();
        let (reply, version) = keeper.apply(operation);
        match O::DURABILITY {
            Durability::Later => {}
            Durability::Wanted => {
                // It took effect, and is written as soon as that works again.
                let _written = keeper.committed(version, Instant::now()).await;
            }
            Durability::Needed => keeper.committed(version, Instant::now()).await?,
        }
        Ok(reply)
    }

    /// Leases a slot of a random accepted account, under the id `lease`. Waits up to `request.wait`
    /// for one, and until so long after `asked_at` for a journal that fails. A call with the same id gets the same
    /// grant, as long as its lease lives.
    ///
    /// Cancel-safe: a dropped call leaves the queue, and gives back what it was granted meanwhile.
    ///
    /// # Errors
    /// [`PickError`]; no slot is taken then. A wait that ends is
    /// [`Refusal::Saturated`](crate::pool::Refusal::Saturated).
    pub async fn pick(
        self: &Arc<Self>,
        lease: LeaseId,
        request: &PickRequest,
        asked_at: Instant,
    ) -> Result<Slot, PickError> {
        let deadline = asked_at + request.wait;
        let keeper = self.keeper();
        // What cannot be granted takes no slot, and no place in the queue.
        keeper.writable(deadline).await?;
        let (lease, version) = loop {
            match keeper.pick(lease, request).await {
                Ok(picked) => break picked,
                Err(PickError::Known(Known::Held(held))) => {
                    // The other call may be waiting for its commit, and give its lease back if that fails.
                    keeper.committed(keeper.version(), deadline).await?;
                    if let Some(held) = keeper.call(LeaseNow { id: held.id }) {
                        let known = Known::Held(Box::new(held.view));
                        return Err(PickError::Known(known));
                    }
                }
                Err(error) => return Err(error),
            }
        };
        // Dropped before it is durable, it goes back.
        let slot = Slot::new(Arc::clone(self), lease);
        keeper.committed(version, deadline).await?;
        Ok(slot)
    }

    /// Prepares a submission that has no slot, since its account is not in the list, under the id `lease`: claims its
    /// key, if it has one. What was noted of its call before is durable then, too. Waits for a journal that fails until
    /// `deadline`.
    ///
    /// Cancel-safe: a key that was claimed is free again.
    ///
    /// # Errors
    /// [`Unavailable`] if nothing can be written by then; nothing is claimed.
    pub(crate) async fn prepare_without_slot(
        self: &Arc<Self>,
        lease: LeaseId,
        claim: Option<Claim>,
        deadline: Instant,
    ) -> Result<Option<Known>, Unavailable> {
        let keeper = self.keeper();
        keeper.writable(deadline).await?;
        let unsent = Unsent::new(Arc::clone(self), lease);
        if let Some(claim) = claim
            && let Err(known) = keeper.call(ClaimKey { claim, lease })
        {
            unsent.keep();
            return Ok(Some(known));
        }
        let version = keeper.note_change_elsewhere();
        keeper.committed(version, deadline).await?;
        unsent.keep();
        Ok(None)
    }

    /// Begins a submission that was prepared to go without a slot, under the id `lease`.
    pub fn submit_without_slot(
        self: &Arc<Self>,
        lease: LeaseId,
        email: Option<Name>,
        body: Body,
    ) -> Submission {
        Submission::new(Arc::clone(self), lease, email, body)
    }

    /// Learns what became of a slot, for callers that cannot await. It never refuses, and takes
    /// effect before the next operation.
    fn give_back(&self, settle: Settle) {
        self.keeper().give_back(settle);
    }

    /// Whether picks are told marks now: where they are not, none need be made.
    pub(crate) fn offers_marks(&self) -> bool {
        self.keeper().offers_marks()
    }

    /// Waits until the accounts and the jobs that run on them are known. Cancel-safe.
    pub async fn learnt(&self) {
        self.keeper().learnt().await;
    }

    /// Waits until something is due that only a round can decide. For one caller; cancel-safe.
    pub async fn round_due(&self) {
        self.keeper().round_due().await;
    }

    /// Waits until something is due that only the history of an account can decide. For one caller;
    /// cancel-safe.
    pub async fn history_due(&self) {
        self.keeper().history_due().await;
    }

    /// Waits until jobs have ended whose results are known, and takes these. For one caller; cancel-safe.
    pub(crate) async fn job_results(&self) -> Vec<(TaskId, JobResult)> {
        self.keeper().results().take().await
    }

    /// Ends leases on time, and takes back returned slots. Runs until dropped; cancel-safe.
    pub async fn keep_time(&self) {
        self.keeper().keep_time().await;
    }

    /// What changed since the last call, with the list if that is another one, and the version that is committed with
    /// it.
    pub(crate) fn take_changed(&self) -> (Changed, Option<Arc<List>>, Version) {
        self.keeper().take_changed()
    }

    /// The newest states of some records. `None` for those that are gone.
    pub(crate) fn records(&self, names: &[RecordName]) -> Vec<Option<PoolRecord>> {
        self.keeper().records(names)
    }

    /// Waits until something changes that is to be written; for ever without a journal. For one caller;
    /// cancel-safe.
    pub(crate) async fn changed(&self) {
        match self.keeper().commits() {
            Some(commits) => commits.changed().await,
            None => future::pending().await,
        }
    }

    /// What was changed before `version` is durable.
    pub(crate) fn note_committed(&self, version: Version) {
        if let Some(commits) = self.keeper().commits() {
            commits.note_committed(version);
        }
    }

    /// Nothing is written at present.
    pub(crate) fn note_failing(&self) {
        if let Some(commits) = self.keeper().commits() {
            commits.note_failing();
        }
    }

    /// Counts the changes of what people are shown: as long as it stays, so do the accounts, the leases and the queue.
    /// It may count what changes nothing. The ledger is not locked for it.
    pub fn shown_version(&self) -> u64 {
        self.keeper().shown().version()
    }

    /// The time of the ledger's clock.
    pub(crate) fn lived(&self) -> Duration {
        self.keeper().clock().now()
    }

    /// Whether what changes cannot be written at present: then nothing is granted.
    pub fn is_failing(&self) -> bool {
        self.keeper().is_failing()
    }

    /// Waits until everything that has changed so far is durable, or cannot be written.
    #[cfg(test)]
    pub(crate) async fn flushed(&self) -> Result<(), Unavailable> {
        let keeper = self.keeper();
        keeper.committed(keeper.version(), Instant::now()).await
    }

    fn keeper(&self) -> &Local {
        match self {
            Self::Local(local) => local,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Ledgers for tests of other modules.

    use std::time::Duration;

    use accounts_fetcher::{Account, Snapshot};

    use super::*;
    use crate::pool::{AccountView, ListChange, RoundChange, RoundProgress};

    /// A ledger over one account `a@x` of so many slots.
    pub(crate) fn ledger_of(max_jobs: u32) -> Arc<Ledger> {
        ledger_over(&Snapshot::from_iter([Account::new("a@x", max_jobs)]))
    }

    /// A ledger over these accounts.
    pub(crate) fn ledger_over(list: &Snapshot) -> Arc<Ledger> {
        let hour = Duration::from_secs(3600);
        let ledger = Ledger::local(Limits {
            waiters_max: 9,
            job_ttl: hour,
            reconciles: false,
            settle: hour,
            ties_picks: false,
        });
        let change = ListChange::between(None, list);
        let mut progress = ledger.keeper().call(FollowList { change });
        while progress != Some(ListProgress::Whole) {
            assert!(progress.is_some(), "it is the first list");
            progress = Some(ledger.keeper().call(FollowListOn));
        }
        ledger
    }

    /// Has `ledger` follow a round to its end.
    pub(crate) async fn follow_round(ledger: &Ledger, change: RoundChange) {
        let sent_at = change.sent_at();
        let mut followed = ledger.call(FollowRound { change }).await.unwrap();
        while let (RoundProgress::Partial, _) = followed.expect("it is the newest") {
            followed = ledger.call(FollowRoundOn { sent_at }).await.unwrap();
        }
    }

    /// A pick of any account, for a minute, without waiting.
    pub(crate) fn any_account() -> PickRequest {
        PickRequest {
            ttl: Some(Duration::from_secs(60)),
            ..PickRequest::default()
        }
    }

    /// Picks under an id of its own.
    pub(crate) async fn pick(
        ledger: &Arc<Ledger>,
        request: &PickRequest,
    ) -> Result<Slot, PickError> {
        ledger
            .pick(LeaseId::random(&mut rand::rng()), request, Instant::now())
            .await
    }

    /// The first account of the list.
    pub(crate) async fn first_account(ledger: &Ledger) -> AccountView {
        let part = Part {
            after: None,
            limit: 1,
        };
        let accounts = ledger.call(AccountsAfter(part)).await.unwrap();
        accounts.rows[0].clone()
    }

    /// The slots of `a@x` that are held.
    pub(crate) async fn held(ledger: &Ledger) -> u32 {
        first_account(ledger).await.held
    }
}
