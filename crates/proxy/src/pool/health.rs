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

use super::LeaseId;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejection {
    Quarantined,
    Parked,
}

/// After a quarantine, one job decides whether the account is healthy again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probation {
    Wanted,
    Running(LeaseId),
}

#[derive(Debug, Default)]
pub(super) struct AccountHealth {
    cooling_until: Option<Duration>,
    cooled_count: u32,
    ejected: Option<(Ejection, Duration)>,
    ejected_count: u32,
    probation: Option<Probation>,
    failed_at: Option<Duration>,
}

impl AccountHealth {
    /// Notes a refusal.
    pub(super) fn record_failure(&mut self, blame: Blame, now: Duration) {
        match blame {
            Blame::PushedBack { retry_after } => {
                // Several jobs may have been under way when the first one was pushed back.
                if self.cooling_until.is_none() {
                    self.cooled_count += 1;
                }
                let backoff = doubled(COOLING_MIN, self.cooled_count - 1, COOLING_MAX);
                let pause = retry_after.map_or(backoff, |pause| pause.max(PAUSE_MIN));
                let until = now + pause.min(COOLING_MAX);
                self.cooling_until = self.cooling_until.max(Some(until));
            }
            Blame::SessionBroken => self.eject(Ejection::Quarantined, now),
            Blame::NoCredit => self.eject(Ejection::Parked, now),
            Blame::Request | Blame::Token => return,
        }
        self.failed_at = Some(now);
    }

    /// A job shows that the account is healthy, unless its slot was leased before the last failure.
    pub(super) fn record_success(&mut self, leased_at: Duration) {
        if self.failed_at.is_none_or(|at| at <= leased_at) {
            self.clear();
        }
    }

    fn eject(&mut self, ejection: Ejection, now: Duration) {
        // Several jobs may have been under way when the first one was refused.
        if self.ejected.is_none() {
            let until = now + doubled(EJECTION_MIN, self.ejected_count, EJECTION_MAX);
            self.ejected = Some((ejection, until));
            self.ejected_count += 1;
        }
        self.probation = None;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The account's entry in the list changed: its session may be repaired.
    pub(super) fn record_repair(&mut self) {
        if matches!(self.ejected, Some((Ejection::Quarantined, _))) || self.probation.is_some() {
            self.clear();
        }
    }

    /// Ends the cooling or the ejection whose time is over.
    pub(super) fn expire(&mut self, now: Duration) {
        self.cooling_until.take_if(|until| *until <= now);
        if let Some((Ejection::Quarantined, _)) = self.ejected.take_if(|(_, until)| *until <= now) {
            self.probation = Some(Probation::Wanted);
        }
    }

    /// When the next cooling or ejection is over.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let ejected = self.ejected.map(|(_, until)| until);
        self.cooling_until.into_iter().chain(ejected).min()
    }

    /// A slot was granted. Its job may be the probing one.
    pub(super) fn note_grant(&mut self, lease: LeaseId) {
        if self.probation == Some(Probation::Wanted) {
            self.probation = Some(Probation::Running(lease));
        }
    }

    /// Whether the job of this lease is the probing one.
    pub(super) fn is_probation_of(&self, lease: LeaseId) -> bool {
        self.probation == Some(Probation::Running(lease))
    }

    /// The probing job ended without a result. The next job probes.
    pub(super) fn restart_probation(&mut self) {
        self.probation = Some(Probation::Wanted);
    }

    pub(super) fn cooling_until(&self) -> Option<Duration> {
        self.cooling_until
    }

    pub(super) fn ejected(&self) -> Option<(Ejection, Duration)> {
        self.ejected
    }

    /// Whether it neither cools, nor is ejected, nor on probation.
    pub(super) fn is_healthy(&self) -> bool {
        self.cooling_until.is_none() && self.ejected.is_none() && self.probation.is_none()
    }

    /// Whether only full slots can keep it from being picked.
    pub(super) fn is_ready(&self) -> bool {
        let is_on_probation = matches!(self.probation, Some(Probation::Running(_)));
        self.cooling_until.is_none() && self.ejected.is_none() && !is_on_probation
    }
}
