//! Idempotency keys: what they stand for.

use rand::Rng;

use super::{Context, Operation};
use crate::pool::{Claim, Key, Kind, Known, LeaseId};

/// Claims an idempotency key for a submission that has no slot because its account is not in the
/// list. Its caller waits until that is durable, before anything is sent.
#[derive(Debug)]
pub struct ClaimKey {
    /// The key.
    pub claim: Claim,
    /// The id by which the submission will be settled.
    pub lease: LeaseId,
}

impl Operation for ClaimKey {
    type Reply = Result<(), Known>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.claim(&self.claim, self.lease, Kind::Forward)
    }
}

/// Gives a submission that was just lost a key, by which it can be asked what became of it. False if there can be
/// none.
#[derive(Debug)]
pub struct NameLost {
    /// Its lease.
    pub lease: LeaseId,
    /// The key.
    pub claim: Claim,
}

impl Operation for NameLost {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.name_lost(self.lease, self.claim)
    }
}

/// What a key stands for already. Claims nothing.
#[derive(Debug)]
pub struct Recall {
    /// The key.
    pub claim: Claim,
}

impl Operation for Recall {
    type Reply = Option<Known>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.recall(&self.claim)
    }
}

/// Whether a call with this key would get nothing new.
#[derive(Debug)]
pub struct KnowsKey {
    /// The key.
    pub key: Key,
}

impl Operation for KnowsKey {
    type Reply = bool;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.knows(&self.key)
    }
}
