//! Calls that start a job: a slot first, then the submission.

use std::{sync::Arc, time::Duration};

use hyper::body::Incoming;

use super::{
    Forward,
    call::Call,
    response::Carried,
    submissions::{JobStart, Reservation},
};
use crate::{
    error::Error,
    idempotency::{self, Caller},
    ledger::{ClaimKey, KnowsKey, PickRequest, Recall},
    picker::Picked,
    pool::{Claim, Key, Known, LeaseId, Name},
};

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, on the owner of what the
    /// call refers to, or on a random account with a free slot.
    pub(super) async fn start_job(
        &self,
        call: Call,
        body: Incoming,
        caller: Caller,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let key = idempotency::read(&call.headers, caller, &call.method, &call.operation())?;
        let wait = match call.wait()? {
            Some(wait) => wait.min(self.selection.wait_max),
            None => self.selection.wait,
        };
        // A client that asks first is refused before it sends its body.
        if call.asks_first
            && let Some(refusal) = self.refusal_now(key.clone(), wait).await?
        {
            return Err(refusal);
        }
        let mut request = self.buffer.read(&call, body, self.idle_timeout).await?;
        self.note_ignored(&call, request.given()).await;
        let body = request.submitted(&call, &self.hasher);
        let claim = key.map(|key| Claim {
            key,
            fingerprint: body.fingerprint,
        });
        // A call that comes again needs no account.
        if let Some(claim) = claim.clone()
            && let Some(known) = self.ledger.call(Recall { claim }).await?
        {
            return self.submissions.replay(known).await;
        }
        let preferred = self.router.bind_to_owner(&mut request).await?;
        let start = JobStart {
            call,
            request,
            body,
            claim,
        };
        let pick = PickRequest {
            preferred: preferred.as_deref().map(Name::new),
            ..start.pick(wait, Arc::default())
        };
        let reservation = match self.picker.pick(&pick).await {
            Ok(Picked::Slot(slot)) => Reservation::Slot(slot),
            Ok(Picked::Known(known)) => return self.submissions.replay(known).await,
            // The account may be new; the upstream judges it.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                let lease = LeaseId::random(&mut rand::rng());
                if let Some(known) = self.claim(&start, lease).await? {
                    return self.submissions.replay(known).await;
                }
                Reservation::Unlisted(lease)
            }
            Err(refusal) => return Err(refusal),
        };
        self.submissions
            .submit(start, reservation, request_id)
            .await
    }

    /// Claims the key of a job start without a slot. Returns what the key stands for already, if anything.
    async fn claim(&self, start: &JobStart, lease: LeaseId) -> Result<Option<Known>, Error> {
        let Some(claim) = start.claim.clone() else {
            return Ok(None);
        };
        let claimed = self.ledger.call(ClaimKey { claim, lease }).await?;
        Ok(claimed.err())
    }

    /// Why a job start would be refused now, unless its key is known.
    async fn refusal_now(&self, key: Option<Key>, wait: Duration) -> Result<Option<Error>, Error> {
        if let Some(key) = key
            && self.ledger.call(KnowsKey { key }).await?
        {
            return Ok(None);
        }
        Ok(if wait.is_zero() {
            self.picker.refusal_now().await
        } else {
            self.picker.unavailable_reason().await
        })
    }
}
