//! What a pick asks for, and how the pool decides about it in one step.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use rand::Rng;
use thiserror::Error;

use super::Unavailable;
use crate::pool::{
    Admission, Ask, Body, Caller, Claim, Constraint, Kind, Known, LeaseId, Mark, Name,
    OperationName, Pool, Refusal, UnknownAccount, WaiterId,
};

/// What a pick asks for. By default a slot of any account, for a submission that we carry, at once.
#[derive(Clone, Debug, Default)]
pub struct PickRequest {
    /// The id of its lease, if the caller has drawn one.
    pub lease: Option<LeaseId>,
    /// Who asks.
    pub caller: Caller,
    /// Only this account.
    pub email: Option<Name>,
    /// This account, if it has a free slot now. A pick never waits for it while another account is
    /// free.
    pub preferred: Option<Name>,
    /// None of these. Sorted. Unknown e-mails exclude nothing.
    pub exclude: Arc<[Name]>,
    /// How long the lease lasts unless renewed, bound or released. `None` for a submission that we
    /// carry: its lease lasts until it is answered.
    pub ttl: Option<Duration>,
    /// How long to wait for a slot at most.
    pub wait: Duration,
    /// What the job does, if that is known: helps to guess when a slot will be free.
    pub operation: Option<OperationName>,
    /// What will be submitted, if the call is carried: so that it can be recognized after a crash.
    pub body: Option<Arc<Body>>,
    /// The mark of the lease that it will have. `None`: marks are off.
    pub mark: Option<Mark>,
    /// The call's own cap: no account with as many slots in use.
    pub max_jobs: Option<NonZeroU32>,
    /// Its place in the queue, if it comes back to it.
    pub place: Option<WaiterId>,
    /// The idempotency key of the call. It is claimed in the same step, unless it stands for
    /// something already.
    pub claim: Option<Claim>,
}

/// Why a pick was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickError {
    /// The account asked for is not in the list.
    #[error(transparent)]
    UnknownAccount(#[from] UnknownAccount),
    /// There is no slot.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The idempotency key stands for something already.
    #[error("the idempotency key is known")]
    Known(Known),
    /// The ledger cannot be reached.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PickRequest {
    /// Claims the key and takes a slot, or a place in the queue, under the id `lease`. A call with
    /// the same id gets the same again.
    ///
    /// # Errors
    /// [`PickError`] if waiting would not help, or the queue is full; nothing has changed then.
    pub(super) fn admit(
        &self,
        lease: LeaseId,
        pool: &mut Pool,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Admission, PickError> {
        if let Some(admitted) = pool.admitted(lease) {
            return Ok(admitted);
        }
        let kind = self.ttl.map_or(Kind::Forward, |_| Kind::Pick);
        if let Some(claim) = &self.claim {
            pool.claim(claim, lease, kind).map_err(PickError::Known)?;
        }
        let choose = |pool: &mut Pool, rng: &mut _| self.choose(lease, pool, now, rng);
        let admission = pool.ask_whole_list(now, rng, choose);
        if admission.is_err() && self.claim.is_some() {
            pool.unclaim(lease);
        }
        admission
    }

    fn choose(
        &self,
        lease: LeaseId,
        pool: &mut Pool,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Admission, PickError> {
        if let Some(preferred) = &self.preferred
            && let Ok(only) = pool.constraint_named(Some(preferred), &self.exclude)
            && let Ok(granted) = pool.pick(&self.ask(lease, only), now, rng)
        {
            return Ok(Admission::Granted(granted));
        }
        let ask = self.ask(lease, self.constraint(pool)?);
        if self.wait.is_zero() {
            return Ok(Admission::Granted(pool.pick(&ask, now, rng)?));
        }
        Ok(pool.pick_or_wait(ask, now, rng)?)
    }

    /// The accounts that the pick accepts.
    ///
    /// # Errors
    /// [`PickError`] if the account asked for cannot be found.
    pub(super) fn constraint(&self, pool: &Pool) -> Result<Constraint, PickError> {
        let constraint = pool.constraint_named(self.email.as_ref(), &self.exclude);
        // No account is known before the first list.
        constraint.map_err(|unknown| {
            pool.unavailable_reason()
                .map_or(unknown.into(), PickError::Refused)
        })
    }

    fn ask(&self, lease_id: LeaseId, constraint: Constraint) -> Ask {
        Ask {
            lease_id,
            ttl: self.ttl,
            caller: self.caller.clone(),
            constraint,
            operation: self.operation.clone(),
            body: self.body.clone(),
            max_jobs: self.max_jobs,
            place: self.place,
            wait: self.wait,
            mark: self.mark,
        }
    }
}
