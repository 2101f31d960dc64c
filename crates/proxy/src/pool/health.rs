//! The health of an account: it is left alone for a while after it refused jobs for a reason
//! of its own.
//!
//! - **cooling**: it pushed back. For as long as it said, or for a time that doubles.
//! - **quarantined**: its session is broken. For a time that doubles, and then one job decides.
//! - **parked**: it has no credit. For a time that doubles.
//!
//! A job that it takes, or refuses for what was asked, shows that it is well.

use std::time::Duration;

use super::LeaseId;

/// The first cooling if the upstream names no time. A count that was wrong is mended by the next
/// round; a throttle lasts minutes, and the doubling finds that out.
const COOLING_MIN: Duration = Duration::from_secs(2);
/// The longest cooling, asked for or not: after ten minutes a throttle was seen to be over.
const COOLING_MAX: Duration = Duration::from_secs(10 * 60);
/// The first quarantine or parking: a person has to act, and a probe costs little.
const EJECTION_MIN: Duration = Duration::from_secs(10 * 60);
/// The longest one.
const EJECTION_MAX: Duration = Duration::from_secs(2 * 3600);

/// What the upstream's refusal of a job says about its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The account is full or throttled, and wants to be left alone for so long.
    PushedBack {
        /// As the upstream said, if it did.
        retry_after: Option<Duration>,
    },
    /// The account's session is broken.
    SessionBroken,
    /// The account has no credit for the job.
    NoCredit,
    /// Nothing: the job is at fault, and the account well.
    Request,
    /// Nothing at all: the token is at fault.
    Token,
}

/// Why an account is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejection {
    Quarantined,
    Parked,
}

/// One job decides whether a quarantine is over.
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
                // Several jobs may have been on their way when the first was pushed back.
                if self.cooling_until.is_none() {
                    self.cooled_count += 1;
                }
                let backoff = doubled(COOLING_MIN, self.cooled_count - 1, COOLING_MAX);
                let until = now + retry_after.unwrap_or(backoff).min(COOLING_MAX);
                self.cooling_until = self.cooling_until.max(Some(until));
            }
            Blame::SessionBroken => self.eject(Ejection::Quarantined, now),
            Blame::NoCredit => self.eject(Ejection::Parked, now),
            Blame::Request | Blame::Token => return,
        }
        self.failed_at = Some(now);
    }

    /// A job shows that the account is well. One of before the blame shows nothing.
    pub(super) fn record_success(&mut self, leased_at: Duration) {
        if self.failed_at.is_none_or(|at| at <= leased_at) {
            self.clear();
        }
    }

    fn eject(&mut self, ejection: Ejection, now: Duration) {
        // Several jobs may have been on their way when the first was refused.
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

    /// The account was mended at the upstream, as its changed entry says.
    pub(super) fn record_repair(&mut self) {
        if matches!(self.ejected, Some((Ejection::Quarantined, _))) || self.probation.is_some() {
            self.clear();
        }
    }

    /// Lets go of what is over.
    pub(super) fn expire(&mut self, now: Duration) {
        self.cooling_until.take_if(|until| *until <= now);
        if let Some((Ejection::Quarantined, _)) = self.ejected.take_if(|(_, until)| *until <= now) {
            self.probation = Some(Probation::Wanted);
        }
    }

    /// When something is over next.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let ejected = self.ejected.map(|(_, until)| until);
        self.cooling_until.into_iter().chain(ejected).min()
    }

    /// A slot was granted. It may be the one that decides.
    pub(super) fn note_grant(&mut self, lease: LeaseId) {
        if self.probation == Some(Probation::Wanted) {
            self.probation = Some(Probation::Running(lease));
        }
    }

    /// Whether this lease is the one that decides.
    pub(super) fn is_probation_of(&self, lease: LeaseId) -> bool {
        self.probation == Some(Probation::Running(lease))
    }

    /// The lease that was to decide ended without a word. Another one has to.
    pub(super) fn restart_probation(&mut self) {
        self.probation = Some(Probation::Wanted);
    }

    pub(super) fn cooling_until(&self) -> Option<Duration> {
        self.cooling_until
    }

    pub(super) fn ejected(&self) -> Option<(Ejection, Duration)> {
        self.ejected
    }

    /// Whether nothing stands in the way of a job, and none decides about it.
    pub(super) fn is_healthy(&self) -> bool {
        self.cooling_until.is_none() && self.ejected.is_none() && self.probation.is_none()
    }

    /// Whether nothing but full slots stands in the way of a job.
    pub(super) fn is_ready(&self) -> bool {
        let is_on_probation = matches!(self.probation, Some(Probation::Running(_)));
        self.cooling_until.is_none() && self.ejected.is_none() && !is_on_probation
    }
}

fn doubled(min: Duration, count: u32, max: Duration) -> Duration {
    min.saturating_mul(2_u32.saturating_pow(count)).min(max)
}
