//! What is reported after an operation. Nothing here decides about a slot.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{AccountKey, Handover, JobChange, LossDecided, StateChange};

/// An account, as what is told of it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountNames {
    /// In the list's spelling.
    pub email: Arc<str>,
    /// Its name in logs.
    pub alias: accounts_fetcher::Alias,
}

/// What is to be reported, in the order in which it happened.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    handovers: VecDeque<Handover>,
    state_changes: Vec<StateChange>,
    job_changes: Vec<JobChange>,
    decided_losses: Vec<LossDecided>,
    /// Accounts that were drained at a moment of the operation, each once.
    drained: BTreeSet<AccountKey>,
    is_round_due: bool,
    is_history_due: bool,
}

impl Outbox {
    pub(super) fn hand_over(&mut self, handover: Handover) {
        self.handovers.push_back(handover);
    }

    pub(super) fn next_handover(&mut self) -> Option<Handover> {
        self.handovers.pop_front()
    }

    /// Whether anything is to be told.
    pub(super) fn has_news(&self) -> bool {
        !self.state_changes.is_empty()
            || !self.job_changes.is_empty()
            || !self.decided_losses.is_empty()
            || !self.drained.is_empty()
    }

    pub(super) fn note_state_change(&mut self, change: StateChange) {
        self.state_changes.push(change);
    }

    pub(super) fn take_state_changes(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.state_changes)
    }

    pub(super) fn note_job_change(&mut self, change: JobChange) {
        self.job_changes.push(change);
    }

    pub(super) fn take_job_changes(&mut self) -> Vec<JobChange> {
        std::mem::take(&mut self.job_changes)
    }

    pub(super) fn note_decided_loss(&mut self, decided: LossDecided) {
        self.decided_losses.push(decided);
    }

    pub(super) fn take_decided_losses(&mut self) -> Vec<LossDecided> {
        std::mem::take(&mut self.decided_losses)
    }

    /// The last slot of a draining account is free. By the end of the operation it may be in use again: a job outlives
    /// its lease, and after a restart the leases come back one after the other.
    pub(super) fn note_drained(&mut self, account: AccountKey) {
        self.drained.insert(account);
    }

    pub(super) fn take_drained(&mut self) -> BTreeSet<AccountKey> {
        std::mem::take(&mut self.drained)
    }

    /// Notes that a round is due.
    pub(super) fn ask_for_round(&mut self) {
        self.is_round_due = true;
    }

    pub(super) fn take_round_due(&mut self) -> bool {
        std::mem::take(&mut self.is_round_due)
    }

    /// Notes that the history of an account is to be read.
    pub(super) fn ask_for_history(&mut self) {
        self.is_history_due = true;
    }

    pub(super) fn take_history_due(&mut self) -> bool {
        std::mem::take(&mut self.is_history_due)
    }
}
