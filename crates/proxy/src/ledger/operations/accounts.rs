//! The accounts: what is shown of them, why none can be picked, and the list that they come from.

use std::sync::Arc;

use rand::Rng;

use super::{Context, Operation};
use crate::{
    ledger::{Dated, PickError, PickRequest, walk::Part},
    pool::{
        AccountPlace, AccountView, Cause, Constraint, Excluded, List, ListChange, Name, Page,
        Refusal, UnknownAccount,
    },
};

/// Some of the accounts, in list order.
#[derive(Debug)]
pub struct AccountsAfter(pub Part<AccountPlace>);

impl Operation for AccountsAfter {
    type Reply = Dated<Page<AccountView, AccountPlace>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let Part { after, .. } = &self.0;
        let any = Constraint::AnyBut(Excluded::default());
        let page = context
            .pool
            .accounts_after(after.as_ref(), self.0.rows_max(), &any);
        let view = Page {
            rows: page.rows.into_iter().map(|(view, _)| view).collect(),
            next: page.next,
            total: page.total,
        };
        context.dated(view)
    }
}

/// One account.
#[derive(Debug)]
pub struct AccountNow {
    /// Which account.
    pub email: Name,
}

impl Operation for AccountNow {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.account_named(&self.email)?;
        Ok(context.dated(view))
    }
}

/// The account for a call that takes no slot: the first preferred one that is healthy, or else the first
/// healthy account of the list.
#[derive(Debug)]
pub struct HealthyAccount {
    /// The accounts to prefer, in this order.
    pub preferred: Vec<Name>,
}

impl Operation for HealthyAccount {
    type Reply = Option<Arc<str>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let email = context.pool.healthy_account(&self.preferred);
        email.cloned()
    }
}

/// Switches an account off for new picks, or on again.
#[derive(Debug)]
pub struct SetDraining {
    /// Which account.
    pub email: Name,
    /// Whether it is switched off.
    pub is_draining: bool,
}

impl Operation for SetDraining {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context
            .pool
            .set_draining_named(&self.email, self.is_draining, context.now)?;
        Ok(context.dated(view))
    }
}

/// What a pick would find now: some of the accounts in list order, and whether the pick could take each. Takes
/// nothing.
#[derive(Debug)]
pub struct DryRun {
    /// The pick.
    pub request: PickRequest,
    /// Which of the accounts.
    pub part: Part<AccountPlace>,
}

impl Operation for DryRun {
    type Reply = Result<Page<(AccountView, bool), AccountPlace>, PickError>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let constraint = self.request.constraint(context.pool)?;
        let Part { after, .. } = &self.part;
        Ok(context
            .pool
            .accounts_after(after.as_ref(), self.part.rows_max(), &constraint))
    }
}

/// Why no pick could be granted even if every slot were free, or `None`.
#[derive(Debug)]
pub struct UnavailableReason;

impl Operation for UnavailableReason {
    type Reply = Option<Refusal>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.unavailable_reason()
    }
}

/// Why a pick that takes any account and does not wait would be refused now, or `None`.
#[derive(Debug)]
pub struct RefusalNow;

impl Operation for RefusalNow {
    type Reply = Option<Refusal>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.refusal_now(context.now)
    }
}

/// Whether slots are in use, or callers wait.
#[derive(Debug)]
pub struct IsBusy;

impl Operation for IsBusy {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.is_busy()
    }
}

/// The counts of the pool.
#[derive(Clone, Debug)]
pub struct Stats {
    /// How many callers wait for a slot.
    pub waiters_count: usize,
    /// How many leases ended, in the order of [`Cause::ALL`].
    pub ended_counts: [u64; Cause::ALL.len()],
}

/// What the metrics show beside the accounts.
#[derive(Debug)]
pub struct Statistics;

impl Operation for Statistics {
    type Reply = Stats;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        Stats {
            waiters_count: context.pool.waiters_count(),
            ended_counts: context.pool.ended_counts(),
        }
    }
}

/// The account list in force, to compare a new one with.
#[derive(Debug)]
pub struct NewestList;

impl Operation for NewestList {
    type Reply = Option<Arc<List>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.list()
    }
}

/// Takes over a new account list. False if the change was made against a list that is no longer in
/// force: nothing changes then.
#[derive(Debug)]
pub struct FollowList {
    /// What the new list changes.
    pub change: ListChange,
}

impl Operation for FollowList {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.follow(self.change, context.now, context.rng)
    }
}
