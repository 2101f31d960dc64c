//! The accounts: what is shown of them, why none can be picked, and the list that they come from.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{Context, Durability, Operation};
use crate::{
    ledger::{Dated, PickError, PickRequest, walk::Part},
    pool::{
        AccountPlace, AccountView, Cause, Constraint, Excluded, List, ListChange, Name,
        OperationName, Page, Refusal, Tallies, UnknownAccount,
    },
};

/// The most entries of a new list that one operation takes over: about a tenth of a millisecond.
const LIST_STEPS_MAX: usize = 128;

/// Some of the accounts, in list order.
#[derive(Debug)]
pub struct AccountsAfter(pub Part<AccountPlace>);

impl Operation for AccountsAfter {
    type Reply = Dated<Page<AccountView, AccountPlace>>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let Part { after, .. } = &self.0;
        let any = Constraint::AnyBut(Excluded::default());
        context.pool.settle_order(context.now, context.rng);
        context.pool.foresee(context.now);
        let page =
            context
                .pool
                .accounts_after(after.as_ref(), self.0.rows_max(), &any, context.now);
        let view = Page {
            rows: page.rows.into_iter().map(|(view, _)| view).collect(),
            next: page.next,
            total: page.total,
        };
        context.dated(view)
    }
}

/// One account, for calls that are carried. Its forecast may be old.
#[derive(Debug)]
pub struct AccountNow {
    /// Which account.
    pub email: Name,
}

impl Operation for AccountNow {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let now = context.now;
        let view = context.ask_whole_list(|pool, _| pool.account_named(&self.email, now))?;
        Ok(context.dated(view))
    }
}

/// One account, with all that is shown of it.
#[derive(Debug)]
pub struct ShowAccount {
    /// Which account.
    pub name: Name,
}

impl Operation for ShowAccount {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let now = context.now;
        context.pool.foresee(now);
        let view = context.ask_whole_list(|pool, _| pool.account_named(&self.name, now))?;
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
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let healthy = context.ask_whole_list(|pool, _| {
            let email = pool.healthy_account(&self.preferred);
            email.cloned().ok_or(())
        });
        healthy.ok()
    }
}

/// Switches an account off for new picks, or on again.
#[derive(Debug)]
pub struct SetDraining {
    /// Which account.
    pub name: Name,
    /// Whether it is switched off.
    pub is_draining: bool,
}

impl Operation for SetDraining {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;
    const DURABILITY: Durability = Durability::Wanted;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let (now, is_draining) = (context.now, self.is_draining);
        let view = context
            .ask_whole_list(|pool, _| pool.set_draining_named(&self.name, is_draining, now))?;
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
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let constraint = context.ask_whole_list(|pool, _| self.request.constraint(pool))?;
        let Part { after, .. } = &self.part;
        context.pool.settle_order(context.now, context.rng);
        Ok(context.pool.accounts_after(
            after.as_ref(),
            self.part.rows_max(),
            &constraint,
            context.now,
        ))
    }
}

/// Why no pick could be granted even if every slot were free, or `None`.
#[derive(Debug)]
pub struct UnavailableReason;

impl Operation for UnavailableReason {
    type Reply = Option<Refusal>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let reason =
            context.ask_whole_list(|pool, _| pool.unavailable_reason().map_or(Ok(()), Err));
        reason.err()
    }
}

/// Why a pick that takes any account and does not wait would be refused now, or `None`.
#[derive(Debug)]
pub struct RefusalNow;

impl Operation for RefusalNow {
    type Reply = Option<Refusal>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, mut context: Context<'_, R>) -> Self::Reply {
        let now = context.now;
        let refusal = context.ask_whole_list(|pool, _| pool.refusal_now(now).map_or(Ok(()), Err));
        refusal.err()
    }
}

/// Whether slots are in use, or callers wait.
#[derive(Debug)]
pub struct IsBusy;

impl Operation for IsBusy {
    type Reply = bool;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.is_busy()
    }
}

/// The counts of the pool.
#[derive(Clone, Debug)]
pub struct Stats {
    /// How many callers wait for a slot.
    pub waiters_count: usize,
    /// For how long the first of them has waited.
    pub oldest_waits_for: Option<Duration>,
    /// What became of the submissions and jobs of all accounts, also of those that are forgotten.
    pub tallies: Tallies,
    /// How many leases ended, in the order of [`Cause::ALL`].
    pub ended_counts: [u64; Cause::ALL.len()],
    /// The operations that were marked, and in a word what is known of each.
    pub marks: Vec<(OperationName, &'static str)>,
}

/// What the metrics show beside the accounts.
#[derive(Debug)]
pub struct Statistics;

impl Operation for Statistics {
    type Reply = Stats;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        Stats {
            waiters_count: context.pool.waiters_count(),
            oldest_waits_for: context.pool.oldest_waits_for(context.now),
            tallies: context.pool.tallies(),
            ended_counts: context.pool.ended_counts(),
            marks: context.pool.marks_known(),
        }
    }
}

/// The account list in force, to compare a new one with.
#[derive(Debug)]
pub struct NewestList;

impl Operation for NewestList {
    type Reply = Option<Arc<List>>;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.list()
    }
}

/// Begins to take over a new account list, with the first of its entries. `None` if the change was made against a
/// list that is no longer in force: nothing changes then.
#[derive(Debug)]
pub struct FollowList {
    /// What the new list changes.
    pub change: ListChange,
}

impl Operation for FollowList {
    type Reply = Option<ListProgress>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let Context { pool, now, rng, .. } = context;
        let is_begun = pool.begin_list(self.change, now, rng);
        is_begun.then(|| ListProgress::after(pool.follow_list(LIST_STEPS_MAX, now, rng)))
    }
}

/// Takes over some more entries of the list that has begun.
#[derive(Debug)]
pub struct FollowListOn;

impl Operation for FollowListOn {
    type Reply = ListProgress;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let Context { pool, now, rng, .. } = context;
        ListProgress::after(pool.follow_list(LIST_STEPS_MAX, now, rng))
    }
}

/// How far a new list is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListProgress {
    /// Some of its entries.
    Partial,
    /// It is in force.
    Whole,
}

impl ListProgress {
    fn after(has_more: bool) -> Self {
        if has_more { Self::Partial } else { Self::Whole }
    }
}
