//! Granted slots as values: one that is dropped goes back, one that was sent does not.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::{Calendar, Ledger, Settle, Unavailable};
use crate::pool::{Body, LeaseId, LeaseView, Name, Settlement};

/// A view of the book, with what makes its times calendar times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated<T> {
    /// The view.
    pub view: T,
    /// Of the book, when the view was made.
    pub calendar: Calendar,
}

impl<T> Deref for Dated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

/// A slot just granted, not yet in the hands of who asked for it.
///
/// Dropped before it is [kept](Slot::keep), the slot goes back: a caller that is gone cannot know
/// the lease, so nobody will use it.
#[derive(Debug)]
#[must_use = "a dropped slot goes back at once"]
pub struct Slot {
    ledger: Arc<Ledger>,
    lease: Dated<LeaseView>,
    is_kept: bool,
}

impl Slot {
    pub(super) fn new(ledger: Arc<Ledger>, lease: Dated<LeaseView>) -> Self {
        Self {
            ledger,
            lease,
            is_kept: false,
        }
    }

    /// The lease that holds the slot.
    pub fn lease(&self) -> &Dated<LeaseView> {
        &self.lease
    }

    /// Leaves the slot with its lease: from now on its holder releases it, or its ttl.
    pub fn keep(mut self) {
        self.is_kept = true;
    }

    /// Takes the slot for a submission of `body` that is sent now.
    pub fn submit(mut self, body: Body) -> Submission {
        self.is_kept = true;
        let email = Name::new(&self.lease.email);
        Submission::new(Arc::clone(&self.ledger), self.lease.id, Some(email), body)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ledger.give_back(Settle {
                lease: self.lease.id,
                email: None,
                body: None,
                settlement: Settlement::Undelivered,
            });
        }
    }
}

/// A submission that is about to be sent, until it is known what came of it.
///
/// Dropped undecided, its slot stays held as uncertain: nobody knows whether there is a job.
#[derive(Debug)]
#[must_use = "a dropped submission is an uncertain one"]
pub struct Submission {
    ledger: Arc<Ledger>,
    lease: LeaseId,
    email: Option<Name>,
    body: Option<Body>,
    is_decided: bool,
}

impl Submission {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        lease: LeaseId,
        email: Option<Name>,
        body: Body,
    ) -> Self {
        Self {
            ledger,
            lease,
            email,
            body: Some(body),
            is_decided: false,
        }
    }

    /// The id of its lease, if it has a slot, and of what is remembered of it.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Tells the book what became of it. If the book cannot be reached, it is told later.
    pub async fn settle(mut self, settlement: Settlement) {
        self.is_decided = true;
        let settle = self.settlement(settlement);
        if let Err(Unavailable) = self.ledger.call(settle.clone()).await {
            self.ledger.give_back(settle);
        }
    }

    fn settlement(&mut self, settlement: Settlement) -> Settle {
        Settle {
            lease: self.lease,
            email: self.email.take(),
            body: self.body.take(),
            settlement,
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if !self.is_decided {
            let sent_ago = Duration::ZERO;
            let settle = self.settlement(Settlement::Uncertain { sent_ago });
            self.ledger.give_back(settle);
        }
    }
}
