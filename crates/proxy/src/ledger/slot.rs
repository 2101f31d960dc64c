//! Granted slots as values: a dropped slot goes back, a sent submission does not.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::{Calendar, Ledger, RefusalAnswer, Settle, Unavailable};
use crate::pool::{Body, LeaseId, LeaseView, Name, Settlement};

/// A view of the pool, with the calendar that its times convert by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated<T> {
    /// The view.
    pub view: T,
    /// The calendar when the view was made.
    pub calendar: Calendar,
}

impl<T> Deref for Dated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

/// A slot just granted, which its caller does not know of yet.
///
/// Dropped before it is [kept](Slot::keep), the slot goes back: a caller that is gone cannot know
/// the lease and will not use it.
#[derive(Debug)]
#[must_use = "a dropped slot goes back at once"]
pub struct Slot {
    lease: Dated<Box<LeaseView>>,
    hold: Hold,
}

/// The part of a [`Slot`] that goes back when it is dropped.
#[derive(Debug)]
#[must_use = "a dropped slot goes back at once"]
pub(crate) struct Hold {
    ledger: Arc<Ledger>,
    lease: LeaseId,
    is_kept: bool,
}

impl Slot {
    pub(super) fn new(ledger: Arc<Ledger>, lease: Dated<Box<LeaseView>>) -> Self {
        let hold = Hold {
            ledger,
            lease: lease.id,
            is_kept: false,
        };
        Self { lease, hold }
    }

    /// The lease that holds the slot.
    pub fn lease(&self) -> &Dated<Box<LeaseView>> {
        &self.lease
    }

    /// Leaves the slot to its lease: from now on the holder or the ttl ends it.
    pub fn keep(self) {
        self.hold.keep();
    }

    /// What the caller is told of the slot, and what holds it until then.
    pub(crate) fn into_parts(self) -> (Dated<Box<LeaseView>>, Hold) {
        (self.lease, self.hold)
    }

    /// Takes the slot for a submission of `body` that is sent now.
    pub fn submit(self, body: Body) -> Submission {
        let email = Name::new(&self.lease.email);
        let ledger = Arc::clone(&self.hold.ledger);
        self.hold.keep();
        Submission::new(ledger, self.lease.id, Some(email), body)
    }
}

impl Hold {
    /// Leaves the slot to its lease.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ledger.give_back(Settle {
                lease: self.lease,
                email: None,
                body: None,
                settlement: Settlement::Undelivered,
                refusal: None,
            });
        }
    }
}

/// A submission without a slot that was not sent yet. Dropped, the key that was claimed for it is free.
#[derive(Debug)]
#[must_use = "a dropped claim is given up"]
pub(crate) struct Unsent {
    ledger: Arc<Ledger>,
    lease: LeaseId,
    is_kept: bool,
}

impl Unsent {
    pub(super) fn new(ledger: Arc<Ledger>, lease: LeaseId) -> Self {
        Self {
            ledger,
            lease,
            is_kept: false,
        }
    }

    /// It is sent now, or given up by another hand.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ledger.give_back(Settle {
                lease: self.lease,
                email: None,
                body: None,
                settlement: Settlement::NotSent,
                refusal: None,
            });
        }
    }
}

/// A submission that is about to be sent, until its outcome is known.
///
/// If it is dropped undecided, its slot stays held as uncertain: there may be a job.
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

    /// The id of its lease, if it has a slot, and of its resolution.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Tells the ledger what became of it. If the ledger cannot be reached, it learns that later.
    ///
    /// `refusal`: the answer of an account that refused it for a reason of its own.
    pub async fn settle(mut self, settlement: Settlement, refusal: Option<RefusalAnswer>) {
        self.is_decided = true;
        let settle = Settle {
            refusal,
            ..self.settlement(settlement)
        };
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
            refusal: None,
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
