//! What becomes of submissions whose outcome was not known. Nothing here decides it: slots are given back, and leases
//! bound, elsewhere.

use std::sync::Arc;

use super::{AccountKey, Caller, Cause, Lease, LeaseId, LeaseState, OperationName, Pool, TaskId};

/// What became of a lost submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is a job.
    Found,
    /// Rounds list no job of it. One that came and went between them may still be found.
    Absent,
    /// It could not be looked for in time. Its slot is free again.
    Unverified,
    /// Its holder gave its slot back.
    Released,
}

impl Decision {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Unverified => "unverified",
            Self::Released => "released",
        }
    }

    fn of(cause: Cause) -> Self {
        match cause {
            Cause::Absent | Cause::Refused => Self::Absent,
            Cause::Unverified | Cause::Expired => Self::Unverified,
            Cause::Released | Cause::Undelivered => Self::Released,
            Cause::Finished => Self::Found,
        }
    }
}

/// It is known what became of a lost submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossDecided {
    /// Who made it. Empty if that was forgotten with its lease.
    pub caller: Caller,
    /// What it does, if that is known.
    pub operation: Option<OperationName>,
    /// Its account, in the list's spelling.
    pub email: Arc<str>,
    /// The account's name in logs.
    pub alias: accounts_fetcher::Alias,
    /// Its job, if there is one.
    pub task_id: Option<TaskId>,
    /// What became of it.
    pub decision: Decision,
}

impl Pool {
    /// The lost submissions of which it became known what became of them, in order.
    pub fn take_decided_losses(&mut self) -> Vec<LossDecided> {
        self.outbox.take_decided_losses()
    }

    /// The lease of a lost submission was bound to a job, be it before the submission was lost.
    pub(super) fn note_loss_bound(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get(id)
            && let Some(binding) = lease.binding()
        {
            let task_id = Some(binding.task_id.clone());
            let decided = self.loss_of(lease, task_id, Decision::Found);
            self.outbox.note_decided_loss(decided);
        }
    }

    /// A lease has ended. It may be that of a lost submission.
    pub(super) fn note_loss_ended(&mut self, lease: &Lease, cause: Cause) {
        if lease.state() == LeaseState::Uncertain {
            let decided = self.loss_of(lease, None, Decision::of(cause));
            self.outbox.note_decided_loss(decided);
        }
    }

    /// Histories have found jobs of submissions whose slots had come free before.
    pub(super) fn note_late_finds(&mut self, account: AccountKey) {
        for (operation, task_id) in self.resolutions.take_late_finds() {
            let listed = &self.accounts[account].listed;
            self.outbox.note_decided_loss(LossDecided {
                caller: Caller::default(),
                operation,
                email: Arc::clone(&listed.email),
                alias: listed.alias,
                task_id: Some(task_id),
                decision: Decision::Found,
            });
        }
    }

    fn loss_of(&self, lease: &Lease, task_id: Option<TaskId>, decision: Decision) -> LossDecided {
        let listed = &self.accounts[lease.account].listed;
        LossDecided {
            caller: lease.caller.clone(),
            operation: lease.operation().clone(),
            email: Arc::clone(&listed.email),
            alias: listed.alias,
            task_id,
            decision,
        }
    }
}
