//! One account: its capacity, its slots in use, and why it can or cannot be picked.

mod view;

use std::{mem, sync::Arc, time::Duration};

use slotmap::new_key_type;

use super::{
    AccountNames, LeaseId, Tally,
    deadlines::{Nanos, nanos},
    health::{AccountHealth, Ejection},
};
pub use view::AccountView;

new_key_type! {
    /// Names an account inside the pool. Never reused: a key of a forgotten account stays dead.
    pub struct AccountKey;
}

/// Whether an account can be picked, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It has a free slot.
    Available,
    /// Every slot is in use.
    Full,
    /// The upstream pushed back: no picks for a while.
    Cooling,
    /// Its session is broken at the upstream.
    Quarantined,
    /// It has no credit at the upstream.
    Parked,
    /// The upstream reports an error of the account.
    Error,
    /// Switched off by the operator: running jobs finish.
    Draining,
    /// No longer in the list: running jobs finish.
    Removed,
}

impl AccountState {
    /// The state if slots were free.
    pub(super) fn without_slots(self) -> Self {
        if self == Self::Full {
            Self::Available
        } else {
            self
        }
    }

    /// Every state, in the order of the metric's series.
    pub const ALL: [Self; 8] = [
        Self::Available,
        Self::Full,
        Self::Cooling,
        Self::Quarantined,
        Self::Parked,
        Self::Error,
        Self::Draining,
        Self::Removed,
    ];

    /// The word of the API and of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Full => "full",
            Self::Cooling => "cooling",
            Self::Quarantined => "quarantined",
            Self::Parked => "parked",
            Self::Error => "error",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }
}

/// What the upstream said when the account last refused a job for a reason of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// When.
    pub at: Duration,
    /// The status of its answer.
    pub status: u16,
    /// Its words, cut short, without e-mails and tokens.
    pub text: Arc<str>,
}

/// A change of what keeps an account from being picked, besides full slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which account, in the list's spelling.
    pub email: Arc<str>,
    /// The account's name in logs.
    pub alias: accounts_fetcher::Alias,
    /// What it was.
    pub from: AccountState,
    /// What it is now.
    pub to: AccountState,
    /// Until when, if that is known.
    pub until: Option<Duration>,
    /// Why it cannot be picked, in a sentence, if so.
    pub reason: Option<Arc<str>>,
}

/// What there is to know of any account. What there is of few lies behind a box.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) listed: Arc<accounts_fetcher::Account>,
    pub(super) rank: Rank,
    /// The cap that the newest round showed, if one did.
    observed_cap: u32,
    is_cap_observed: bool,
    /// A round changed the cap, and the list does not show it yet.
    pub(super) is_cap_lowered: bool,
    pub(super) is_in_list: bool,
    pub(super) is_draining: bool,
    /// Something is known of its health. Then it lies in its past, where no pick of another account looks.
    is_troubled: bool,
    /// Leased slots whose jobs, if any, are known.
    pub(super) held: u32,
    /// Leased slots of submissions whose outcome is unknown.
    pub(super) uncertain: u32,
    /// Slots of jobs that run without a lease.
    pub(super) foreign: u32,
    /// How many jobs the newest round listed on it.
    pub(super) jobs_in_round: u32,
    /// By how many slots the pool and the newest round differed, before the round corrected the
    /// pool.
    drift: i32,
    /// Its slots changed since the newest round.
    pub(super) is_moved: bool,
    /// The state that was shown after the last operation. `None`: it has just joined.
    pub(super) shown: Option<AccountState>,
    /// Since when it is in that state.
    since: Nanos,
    /// `None`: nothing has happened on it.
    past: Option<Box<Past>>,
    /// Its counts have metric series of their own.
    pub(super) has_series: bool,
}

/// What has happened on an account.
#[derive(Debug, Default)]
struct Past {
    /// What became of its submissions and jobs. Counted by [`Accounts`](super::accounts::Accounts).
    tally: Tally,
    last_refusal: Option<Arc<LastRefusal>>,
    health: AccountHealth,
    /// How many jobs the newest round shows on it without telling their ids.
    unnamed: u32,
    /// How many of the foreign slots those jobs take: they may also be those of leases.
    unnamed_foreign: u32,
}

/// An account's place in the order of all accounts. Listed accounts come first: by their places in the list. Those
/// that left it follow, by when they did. One number: two indexes hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64);

impl Rank {
    const FIRST_REMOVED: u64 = 1 << 63;

    /// The place of an account of the list.
    pub(super) fn listed(number: u64) -> Self {
        Self(number.min(Self::FIRST_REMOVED - 1))
    }

    /// The place of an account that left the list.
    pub(super) fn removed(number: u64) -> Self {
        Self(Self::FIRST_REMOVED | number)
    }

    pub(super) fn is_listed(self) -> bool {
        self.0 < Self::FIRST_REMOVED
    }

    /// Its number among the listed or the removed ones.
    pub(super) fn number(self) -> u64 {
        self.0 & !Self::FIRST_REMOVED
    }
}

impl Account {
    pub(super) fn new(listed: Arc<accounts_fetcher::Account>, rank: Rank) -> Self {
        Self {
            listed,
            rank,
            observed_cap: 0,
            is_cap_observed: false,
            is_cap_lowered: false,
            is_in_list: true,
            is_draining: false,
            is_troubled: false,
            held: 0,
            uncertain: 0,
            foreign: 0,
            jobs_in_round: 0,
            drift: 0,
            is_moved: false,
            shown: None,
            since: 0,
            past: None,
            has_series: false,
        }
    }

    /// The one eligibility function: the account can be picked right now.
    pub(super) fn is_eligible(&self) -> bool {
        self.is_usable() && self.health().is_ready() && self.has_free_slot()
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.in_flight() < self.max_jobs()
    }

    pub(super) fn max_jobs(&self) -> u32 {
        let listed = self.listed.max_jobs;
        if self.is_cap_lowered {
            self.observed_cap.min(listed)
        } else {
            listed
        }
    }

    /// It joins the list while rounds are held: the next round's cap counts if it differs from the
    /// list's.
    pub(super) fn reset_cap(&mut self) {
        self.observed_cap = self.listed.max_jobs;
        self.is_cap_observed = true;
        self.is_cap_lowered = false;
    }

    /// A round shows a cap. It counts only if it changed: then it is newer than the list.
    pub(super) fn observe_cap(&mut self, cap: u32) {
        let before = mem::replace(&mut self.observed_cap, cap);
        let was_observed = mem::replace(&mut self.is_cap_observed, true);
        self.is_cap_lowered |= was_observed && before != cap;
    }

    pub(super) fn health(&self) -> &AccountHealth {
        let past = self.past.as_ref().filter(|_| self.is_troubled);
        past.map_or(AccountHealth::GOOD, |past| &past.health)
    }

    /// Changes what is known of its health. It takes memory only if that is something.
    pub(super) fn change_health<T>(&mut self, change: impl FnOnce(&mut AccountHealth) -> T) -> T {
        let mut health = self.health().clone();
        let changed = change(&mut health);
        self.is_troubled = health.is_troubled();
        if self.is_troubled || self.past.is_some() {
            self.past.get_or_insert_default().health = health;
        }
        changed
    }

    /// A slot was granted. True if its job is the one that probes whether the account is healthy again.
    pub(super) fn note_grant(&mut self, lease: LeaseId) -> bool {
        self.is_troubled && self.change_health(|health| health.note_grant(lease))
    }

    /// What became of its submissions and jobs.
    pub(super) fn tally(&self) -> Tally {
        self.past
            .as_ref()
            .map(|past| past.tally)
            .unwrap_or_default()
    }

    pub(super) fn tally_mut(&mut self) -> &mut Tally {
        &mut self.past.get_or_insert_default().tally
    }

    pub(super) fn note_refusal(&mut self, refusal: LastRefusal) {
        self.past.get_or_insert_default().last_refusal = Some(Arc::new(refusal));
    }

    /// How many jobs the newest round shows on it without telling their ids.
    pub(super) fn unnamed(&self) -> u32 {
        self.past.as_ref().map_or(0, |past| past.unnamed)
    }

    /// The newest round shows so many jobs without ids. True if that is another number than before.
    pub(super) fn set_unnamed(&mut self, count: u32) -> bool {
        let is_other = self.unnamed() != count;
        if is_other {
            self.past.get_or_insert_default().unnamed = count;
        }
        is_other
    }

    /// How many foreign slots are of jobs whose ids the newest round does not tell.
    pub(super) fn unnamed_foreign(&self) -> u32 {
        self.past.as_ref().map_or(0, |past| past.unnamed_foreign)
    }

    pub(super) fn set_unnamed_foreign(&mut self, count: u32) {
        let past = self.past.get_or_insert_default();
        let old = mem::replace(&mut past.unnamed_foreign, count);
        self.foreign = self.foreign + count - old;
    }

    /// Notes by how many slots the pool differs from the newest round.
    pub(super) fn note_drift(&mut self) {
        let shown = i64::from(self.jobs_in_round) + i64::from(self.unnamed());
        let drift = i64::from(self.in_flight()) - shown;
        // No account has a milliard of slots, whatever a round says.
        self.drift = i32::try_from(drift).unwrap_or(if drift < 0 { i32::MIN } else { i32::MAX });
    }

    /// Slots in use: leased, or taken by foreign jobs.
    pub(super) fn in_flight(&self) -> u32 {
        self.held + self.uncertain + self.foreign
    }

    /// The account could be picked if all its slots were free.
    pub(super) fn is_usable(&self) -> bool {
        self.is_in_list
            && !self.is_draining
            && self.listed.error().is_none()
            && self.listed.max_jobs > 0
            && self.health().ejected().is_none()
    }

    pub(super) fn names(&self) -> AccountNames {
        AccountNames {
            email: Arc::clone(&self.listed.email),
            alias: self.listed.alias,
        }
    }

    /// An operator drains it, and nothing runs on it any more.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining && self.is_in_list && self.in_flight() == 0
    }

    /// It can be removed: it is off the list, has no slot in use, and the operator did not drain
    /// it.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.is_in_list && self.in_flight() == 0 && !self.is_draining
    }

    /// The slot of a lease comes back.
    pub(super) fn give_back(&mut self, lease: LeaseId, is_uncertain: bool) {
        // The probing job ended without a result. The next job probes.
        if self.health().is_probation_of(lease) {
            self.change_health(AccountHealth::restart_probation);
        }
        if is_uncertain {
            self.uncertain -= 1;
        } else {
            self.held -= 1;
        }
    }

    /// Until when it cools, if cooling is the only reason not to pick it.
    pub(super) fn only_cooling_until(&self) -> Option<Duration> {
        let until = self.health().cooling_until()?;
        (self.is_usable() && self.has_free_slot()).then_some(until)
    }

    /// It would have a free slot if its uncertain slots were free.
    pub(super) fn is_unverified(&self) -> bool {
        self.uncertain > 0
            && self.is_usable()
            && self.in_flight() - self.uncertain < self.max_jobs()
    }

    pub(super) fn state(&self) -> AccountState {
        if !self.is_in_list {
            AccountState::Removed
        } else if self.is_draining {
            AccountState::Draining
        } else if self.listed.error().is_some() {
            AccountState::Error
        } else if let Some((ejection, _)) = self.health().ejected() {
            match ejection {
                Ejection::Quarantined => AccountState::Quarantined,
                Ejection::Parked => AccountState::Parked,
            }
        } else if self.health().cooling_until().is_some() {
            AccountState::Cooling
        } else if !self.is_eligible() {
            AccountState::Full
        } else {
            AccountState::Available
        }
    }

    /// Notes since when it is in the state that is shown from `now` on.
    pub(super) fn restate(&mut self, now: Duration) {
        let state = self.state();
        if self.shown.replace(state) != Some(state) {
            self.since = nanos(now);
        }
    }

    /// Until when it is in this state, if that is known.
    fn until(&self, state: AccountState) -> Option<Duration> {
        match state {
            AccountState::Cooling => self.health().cooling_until(),
            AccountState::Quarantined | AccountState::Parked => {
                self.health().ejected().map(|(_, until)| until)
            }
            AccountState::Available
            | AccountState::Full
            | AccountState::Error
            | AccountState::Draining
            | AccountState::Removed => None,
        }
    }

    /// What is told of it once it is no longer as it was.
    pub(super) fn state_change(&self, from: AccountState, to: AccountState) -> StateChange {
        let view = self.view(None);
        StateChange {
            reason: view.reason().map(Arc::from),
            until: view.until,
            email: view.email,
            alias: view.alias,
            from,
            to,
        }
    }

    /// `next_free_in`: how long until it has a free slot, as far as can be told.
    pub(super) fn view(&self, next_free_in: Option<Duration>) -> AccountView {
        let listed = &self.listed;
        let state = self.state();
        AccountView {
            email: Arc::clone(&listed.email),
            alias: listed.alias,
            max_jobs: self.max_jobs(),
            held: self.held,
            uncertain: self.uncertain,
            foreign: self.foreign,
            drift: i64::from(self.drift),
            is_eligible: self.is_eligible(),
            state,
            error: listed.error().cloned(),
            until: self.until(state),
            session_expires_at: listed.session_expires_at().cloned(),
            since: Duration::from_nanos(self.since),
            last_refusal: self
                .past
                .as_ref()
                .and_then(|past| past.last_refusal.clone()),
            tally: self.tally(),
            has_series: self.has_series,
            next_free_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AccountState;

    #[test]
    fn every_state_stands_at_its_place() {
        let places = AccountState::ALL.map(|state| state as usize);
        assert_eq!(places, std::array::from_fn(|idx| idx));
    }
}
