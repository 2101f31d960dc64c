//! What a person wants to see at a glance, beside the accounts.

use rand::Rng;

use super::{Context, Operation};
use crate::{ledger::Dated, pool::Glance};

/// Who waits, what is held, and how long jobs take. Its cost is bounded.
#[derive(Debug)]
pub struct GlanceNow;

impl Operation for GlanceNow {
    type Reply = Dated<Glance>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.glance();
        context.dated(view)
    }
}
