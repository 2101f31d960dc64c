//! A job start that is ready to be sent, and what it is sent under.

use std::sync::Arc;

use accounts_fetcher::Alias;

use super::super::{buffered::BufferedRequest, call::Call};
use crate::{
    ledger::{PickRequest, Slot},
    pool::{self, Claim, LeaseId, Name},
};

/// A job start that is ready to be sent.
#[derive(Debug)]
pub(in crate::forward) struct JobStart {
    pub(in crate::forward) call: Call,
    pub(in crate::forward) request: BufferedRequest,
    pub(in crate::forward) body: pool::Body,
    pub(in crate::forward) claim: Option<Claim>,
    pub(in crate::forward) caller: pool::Caller,
}

/// What a submission is sent under.
#[derive(Debug)]
pub(in crate::forward) enum Reservation {
    /// A slot of an account.
    Slot(Box<Slot>),
    /// No slot, since its account is not in the list: the upstream judges it. The id by which it is
    /// settled.
    Unlisted(LeaseId),
}

impl JobStart {
    /// What it asks of the ledger, without waiting.
    pub(in crate::forward) fn pick(&self, exclude: Arc<[Name]>) -> PickRequest {
        PickRequest {
            caller: self.caller.clone(),
            email: self.request.email().map(Name::new),
            exclude,
            operation: Some(Arc::clone(&self.body.operation)),
            body: Some(Arc::new(self.body.clone())),
            max_jobs: self.request.max_jobs(),
            claim: self.claim.clone(),
            ..PickRequest::default()
        }
    }

    /// Whether it may move: no client and no owner has chosen its account.
    pub(super) fn takes_any_account(&self) -> bool {
        self.request.email().is_none()
    }

    /// Whether it refers to something by an id, which one account alone has.
    pub(super) fn names_ids(&self) -> bool {
        let references = self.call.references.iter();
        let mut references = references.chain(self.request.references());
        references.any(|it| it.kind.is_strict())
    }
}

impl Reservation {
    /// The account that it is of, in the list's spelling.
    pub(super) fn account(&self) -> Option<Name> {
        self.email().map(|email| Name::new(email))
    }

    pub(super) fn email(&self) -> Option<&Arc<str>> {
        match self {
            Self::Slot(slot) => Some(&slot.lease().email),
            Self::Unlisted(_) => None,
        }
    }

    /// The account's name in logs.
    pub(super) fn alias(&self) -> Option<Alias> {
        match self {
            Self::Slot(slot) => Some(slot.lease().alias),
            Self::Unlisted(_) => None,
        }
    }
}
