//! Leases: their settlement, what their holders ask, and a place in the queue for one.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{Context, Durability, Operation};
use crate::{
    ledger::{Dated, walk::Part},
    pool::{
        Body, LeaseError, LeaseId, LeasePlace, LeaseView, Mark, MarkFault, Name, Page, Pool,
        Settlement, Update, WaiterId,
    },
};

/// Tells what became of a slot, or of a submission that had none.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Which lease. A submission without a slot has an id too.
    pub lease: LeaseId,
    /// The account that was asked.
    pub email: Option<Name>,
    /// What was submitted.
    pub body: Option<Body>,
    /// What became of it.
    pub settlement: Settlement,
    /// The answer of an account that refused it for a reason of its own.
    pub refusal: Option<RefusalAnswer>,
}

/// What a refusal says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalAnswer {
    /// The status.
    pub status: u16,
    /// The upstream's words, cut short, without e-mails and tokens.
    pub text: Arc<str>,
}

impl Settle {
    pub(in crate::ledger) fn settle(self, pool: &mut Pool, now: Duration) {
        if let Some(RefusalAnswer { status, text }) = self.refusal {
            pool.note_refusal(self.lease, status, text, now);
        }
        let email = self.email.as_ref();
        pool.settle(self.lease, email, self.body, self.settlement, now);
    }
}

impl Operation for Settle {
    type Reply = ();

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        self.settle(context.pool, context.now);
    }
}

/// Counts a job start that an account refused, and that another account is asked to take.
#[derive(Debug)]
pub struct NoteMoved {
    /// The account that refused it.
    pub from: Name,
}

impl Operation for NoteMoved {
    type Reply = ();

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.note_moved(&self.from);
    }
}

/// The mark that a submission is to be sent with. `None`: it is sent without one. Asked right before it is sent.
#[derive(Debug)]
pub struct MarkSubmission {
    /// Its lease.
    pub lease: LeaseId,
}

impl Operation for MarkSubmission {
    type Reply = Option<Mark>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.mark_submission(self.lease)
    }
}

/// Learns that the upstream's answer finds fault with a marked submission.
#[derive(Debug)]
pub struct NoteMarkFault {
    /// Its lease.
    pub lease: LeaseId,
    /// Which one.
    pub fault: MarkFault,
}

impl Operation for NoteMarkFault {
    type Reply = ();

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.note_mark_fault(self.lease, self.fault);
    }
}

/// One lease, if it is held.
#[derive(Debug)]
pub struct LeaseNow {
    /// Which lease.
    pub id: LeaseId,
}

impl Operation for LeaseNow {
    type Reply = Option<Dated<LeaseView>>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.lease(self.id)?;
        Some(context.dated(view))
    }
}

/// Some of the held leases, oldest first.
#[derive(Debug)]
pub struct LeasesAfter(pub Part<LeasePlace>);

impl Operation for LeasesAfter {
    type Reply = Dated<Page<LeaseView, LeasePlace>>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.leases_after(self.0.after, self.0.rows_max());
        context.dated(view)
    }
}

/// Renews a lease, binds it to its job, or both.
#[derive(Debug)]
pub struct UpdateLease {
    /// Which lease.
    pub id: LeaseId,
    /// What changes.
    pub update: Update,
}

impl Operation for UpdateLease {
    type Reply = Result<Dated<LeaseView>, LeaseError>;
    const DURABILITY: Durability = Durability::Wanted;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.update(self.id, self.update, context.now)?;
        Ok(context.dated(view))
    }
}

/// Gives a lease back on its holder's word. False if it is not held: nothing changes then.
#[derive(Debug)]
pub struct Release {
    /// Which lease.
    pub id: LeaseId,
}

impl Operation for Release {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.release(self.id, context.now)
    }
}

/// A place in the queue, for a caller that may come back to it.
#[derive(Debug)]
pub struct TakePlace;

impl Operation for TakePlace {
    type Reply = WaiterId;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.take_place(context.now)
    }
}
