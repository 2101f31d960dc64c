//! The health of an account: after it refused jobs for a reason of its own, it is not picked for a
//! while.
//!
//! - **cooling**: the upstream pushed back. It lasts as long as the upstream said, or a time that
//!   doubles.
//! - **quarantined**: its session is broken. It lasts a time that doubles; then one job probes the
//!   account.
//! - **parked**: it has no credit. It lasts a time that doubles.
//!
//! A job that the account accepts, or refuses because of the request, shows that it is healthy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    LeaseId,
    records::{millis, opt_millis},
};
use crate::backoff::doubled;

/// The first cooling if the upstream names no time. It is short: if only our count was wrong, the next round
/// corrects it. A throttle lasts minutes, and the doubling gets there.
const COOLING_MIN: Duration = Duration::from_secs(2);
/// The shortest cooling that the upstream can ask for: with less, an account that is full is asked in a loop.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest cooling, whatever the upstream asks for: a throttle was seen to be over after ten
/// minutes.
const COOLING_MAX: Duration = Duration::from_secs(10 * 60);
/// The first quarantine or parking: a person has to act, and a probing job costs little.
const EJECTION_MIN: Duration = Duration::from_secs(10 * 60);
/// The longest one.
const EJECTION_MAX: Duration = Duration::from_secs(2 * 3600);

/// What the upstream's refusal of a job says about its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The account is full or throttled. It asks for a pause.
    PushedBack {
        /// How long, if the upstream said.
        retry_after: Option<Duration>,
    },
    /// The account's session is broken.
    SessionBroken,
    /// The account has no credit for the job.
    NoCredit,
    /// The request is at fault: the account is healthy.
    Request,
    /// The token is at fault: this says nothing about the account.
    Token,
}

/// Why an account is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Ejection {
    Quarantined,
    Parked,
}

/// An ejection, and until when it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ejected {
    why: Ejection,
    #[serde(with = "millis")]
    until: Duration,
}

/// After a quarantine, one job decides whether the account is healthy again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Probation {
    Wanted,
    Running(LeaseId),
}

/// What is known of the health of an account. Of most there is nothing to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Troubles", into = "Troubles")]
pub(super) struct AccountHealth(Option<Box<Troubles>>);

impl From<Troubles> for AccountHealth {
    fn from(troubles: Troubles) -> Self {
        Self((troubles != Troubles::NONE).then(|| Box::new(troubles)))
    }
}

impl From<AccountHealth> for Troubles {
    fn from(health: AccountHealth) -> Self {
        health.troubles().clone()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Troubles {
    #[serde(with = "opt_millis", skip_serializing_if = "Option::is_none")]
    cooling_until: Option<Duration>,
    cooled_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected: Option<Ejected>,
    ejected_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    probation: Option<Probation>,
    #[serde(with = "opt_millis", skip_serializing_if = "Option::is_none")]
    failed_at: Option<Duration>,
}

impl Troubles {
    const NONE: Self = Self {
        cooling_until: None,
        cooled_count: 0,
        ejected: None,
        ejected_count: 0,
        probation: None,
        failed_at: None,
    };

    fn eject(&mut self, ejection: Ejection, now: Duration) {
        // Several jobs may have been under way when the first one was refused.
        if self.ejected.is_none() {
            let until = now + doubled(EJECTION_MIN, self.ejected_count, EJECTION_MAX);
            let why = ejection;
            self.ejected = Some(Ejected { why, until });
            self.ejected_count += 1;
        }
        self.probation = None;
    }
}

impl AccountHealth {
    /// Nothing is known of it.
    pub(super) const GOOD: &Self = &Self(None);

    /// Whether anything is known of it.
    pub(super) fn is_troubled(&self) -> bool {
        self.0.is_some()
    }

    fn troubles(&self) -> &Troubles {
        self.0.as_deref().unwrap_or(&Troubles::NONE)
    }

    /// Notes a refusal.
    pub(super) fn record_failure(&mut self, blame: Blame, now: Duration) {
        if matches!(blame, Blame::Request | Blame::Token) {
            return;
        }
        let troubles = self.0.get_or_insert_default();
        match blame {
            Blame::PushedBack { retry_after } => {
                // Several jobs may have been under way when the first one was pushed back.
                if troubles.cooling_until.is_none() {
                    troubles.cooled_count += 1;
                }
                let backoff = doubled(
                    COOLING_MIN,
                    troubles.cooled_count.saturating_sub(1),
                    COOLING_MAX,
                );
                let pause = retry_after.map_or(backoff, |pause| pause.max(PAUSE_MIN));
                let until = now + pause.min(COOLING_MAX);
                troubles.cooling_until = troubles.cooling_until.max(Some(until));
            }
            Blame::SessionBroken => troubles.eject(Ejection::Quarantined, now),
            Blame::NoCredit => troubles.eject(Ejection::Parked, now),
            Blame::Request | Blame::Token => {}
        }
        troubles.failed_at = Some(now);
    }

    /// A job shows that the account is healthy, unless its slot was leased before the last failure.
    pub(super) fn record_success(&mut self, leased_at: Duration) {
        if self.troubles().failed_at.is_none_or(|at| at <= leased_at) {
            self.clear();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// The account's entry in the list changed: its session may be repaired.
    pub(super) fn record_repair(&mut self) {
        if self.is_quarantined() || self.troubles().probation.is_some() {
            self.clear();
        }
    }

    /// Ends the cooling or the ejection whose time is over.
    pub(super) fn expire(&mut self, now: Duration) {
        let Some(troubles) = &mut self.0 else {
            return;
        };
        troubles.cooling_until.take_if(|until| *until <= now);
        let ended = troubles.ejected.take_if(|ejected| ejected.until <= now);
        if ended.is_some_and(|ended| ended.why == Ejection::Quarantined) {
            troubles.probation = Some(Probation::Wanted);
        }
    }

    /// When the next cooling or ejection is over.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let troubles = self.0.as_deref()?;
        let ejected = troubles.ejected.map(|ejected| ejected.until);
        troubles.cooling_until.into_iter().chain(ejected).min()
    }

    /// A slot was granted. True if its job is the probing one.
    pub(super) fn note_grant(&mut self, lease: LeaseId) -> bool {
        let Some(troubles) = &mut self.0 else {
            return false;
        };
        let is_probing = troubles.probation == Some(Probation::Wanted);
        if is_probing {
            troubles.probation = Some(Probation::Running(lease));
        }
        is_probing
    }

    /// Whether the job of this lease is the probing one.
    pub(super) fn is_probation_of(&self, lease: LeaseId) -> bool {
        self.troubles().probation == Some(Probation::Running(lease))
    }

    /// The probing job ended without a result. The next job probes.
    pub(super) fn restart_probation(&mut self) {
        self.0.get_or_insert_default().probation = Some(Probation::Wanted);
    }

    pub(super) fn cooling_until(&self) -> Option<Duration> {
        self.troubles().cooling_until
    }

    pub(super) fn ejected(&self) -> Option<(Ejection, Duration)> {
        let ejected = self.troubles().ejected?;
        Some((ejected.why, ejected.until))
    }

    fn is_quarantined(&self) -> bool {
        self.troubles()
            .ejected
            .is_some_and(|ejected| ejected.why == Ejection::Quarantined)
    }

    /// The process was away for so long, and its clock stood still. Pauses went on.
    pub(super) fn pass(&mut self, away: Duration, now: Duration) {
        let shorten = |until: &mut Duration| *until = until.saturating_sub(away).max(now);
        let Some(troubles) = &mut self.0 else {
            return;
        };
        troubles.cooling_until.as_mut().map(shorten);
        troubles
            .ejected
            .as_mut()
            .map(|ejected| &mut ejected.until)
            .map(shorten);
    }

    /// The lease of the probing job, if one runs.
    pub(super) fn probing(&self) -> Option<LeaseId> {
        match self.troubles().probation? {
            Probation::Running(lease) => Some(lease),
            Probation::Wanted => None,
        }
    }

    /// Whether it neither cools, nor is ejected, nor on probation.
    pub(super) fn is_healthy(&self) -> bool {
        self.0.as_deref().is_none_or(|troubles| {
            troubles.cooling_until.is_none()
                && troubles.ejected.is_none()
                && troubles.probation.is_none()
        })
    }

    /// Whether only full slots can keep it from being picked.
    pub(super) fn is_ready(&self) -> bool {
        self.0.as_deref().is_none_or(|troubles| {
            let is_on_probation = matches!(troubles.probation, Some(Probation::Running(_)));
            troubles.cooling_until.is_none() && troubles.ejected.is_none() && !is_on_probation
        })
    }
}
