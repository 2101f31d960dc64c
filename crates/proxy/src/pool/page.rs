//! Pages: a bounded part of a long list, and where the next part begins.
//!
//! A place outlives what stood there. What neither comes nor goes between the pages stands on one of them, as long as
//! the order is the same.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

use super::{
    AccountView, Constraint, LeaseId, LeaseView, Name, Pool,
    account::Rank,
    deadlines::{Nanos, nanos},
};

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<R, P> {
    /// What stands on it, in order.
    pub rows: Vec<R>,
    /// The place of the last of them, if there are more behind it.
    pub next: Option<P>,
    /// How many there are on all pages.
    pub total: usize,
}

impl<R, P> Page<R, P> {
    fn take(
        mut rows: impl Iterator<Item = R>,
        limit: usize,
        total: usize,
        place: impl FnOnce(&R) -> P,
    ) -> Self {
        let taken: Vec<_> = rows.by_ref().take(limit).collect();
        let next = taken.last().filter(|_| rows.next().is_some()).map(place);
        Self {
            rows: taken,
            next,
            total,
        }
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected the next of an earlier answer")]
pub struct PlaceError;

/// A place among the leases, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePlace {
    pub(super) made_at: Nanos,
    pub(super) id: LeaseId,
}

impl LeasePlace {
    fn of(lease: &LeaseView) -> Self {
        Self {
            made_at: nanos(lease.created_at),
            id: lease.id,
        }
    }
}

impl fmt::Display for LeasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.made_at, self.id)
    }
}

impl FromStr for LeasePlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (made_at, id) = text.split_once('-').ok_or(PlaceError)?;
        Ok(Self {
            made_at: whole(made_at)?,
            id: id.parse().map_err(|_error| PlaceError)?,
        })
    }
}

/// A place in the order of the accounts: that of an account, which may move, or leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPlace {
    pub(super) rank: Rank,
    name: Name,
}

impl AccountPlace {
    pub(super) fn name(&self) -> &Name {
        &self.name
    }
}

impl fmt::Display for AccountPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.rank.is_listed() { 'l' } else { 'r' };
        let number = self.rank.number();
        write!(f, "{letter}{number}:{}", self.name.given())
    }
}

impl FromStr for AccountPlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (rank, email) = text.split_once(':').ok_or(PlaceError)?;
        let rank = match (rank.strip_prefix('l'), rank.strip_prefix('r')) {
            (Some(number), _) => Rank::listed(whole(number)?),
            (_, Some(number)) => Rank::removed(whole(number)?),
            (None, None) => return Err(PlaceError),
        };
        let name = Name::new(email);
        Ok(Self { rank, name })
    }
}

/// Digits only: `parse` takes a sign, too.
fn whole(digits: &str) -> Result<u64, PlaceError> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PlaceError);
    }
    digits.parse().map_err(|_error| PlaceError)
}

impl Pool {
    /// At most `limit` leases behind a place, oldest first.
    pub fn leases_after(
        &self,
        place: Option<LeasePlace>,
        limit: usize,
    ) -> Page<LeaseView, LeasePlace> {
        let leases = self.leases.after(place);
        let leases = leases.map(|(id, lease)| self.lease_view(id, lease));
        Page::take(leases, limit, self.leases.len(), LeasePlace::of)
    }

    /// At most `limit` accounts behind a place, in list order, and whether a pick with `constraint` could take each
    /// of them right now. Accounts that left the list, and whose jobs still run, come last.
    pub fn accounts_after(
        &self,
        place: Option<&AccountPlace>,
        limit: usize,
        constraint: &Constraint,
        now: Duration,
    ) -> Page<(AccountView, bool), AccountPlace> {
        let keys = self.accounts.after(place);
        let Page { rows, next, total } = Page::take(keys, limit, self.accounts.len(), |key| {
            let account = &self.accounts[*key];
            AccountPlace {
                rank: account.rank,
                name: Name::new(&account.listed.email),
            }
        });
        let rows = rows.into_iter().map(|key| {
            let is_eligible = self.accounts.is_free(key) && constraint.allows(key);
            (self.account_view(key, now), is_eligible)
        });
        Page {
            rows: rows.collect(),
            next,
            total,
        }
    }
}
