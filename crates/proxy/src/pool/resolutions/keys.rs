//! Idempotency keys: what a call under a key gets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Resolution, Resolutions, TrackedSubmission};
use crate::pool::{Fingerprint, Kind, LeaseId, LeaseView, TaskId};

/// An idempotency key with its scope: the same text from another client or for another operation is
/// another key. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(Arc<str>);

impl Key {
    /// The key that this text names.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

/// A call under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The key.
    pub key: Key,
    /// Tells the call from another one under the same key.
    pub fingerprint: Fingerprint,
}

impl Claim {
    /// The claim by which a lost submission without a key is asked for.
    pub fn of_lost(lease: LeaseId) -> Self {
        Self {
            // No key of a client begins with a space.
            key: Key::new(&format!(" lost {lease}")),
            fingerprint: Fingerprint::of([lease.to_string()]),
        }
    }
}

/// What a key stands for already: the call under it gets this, and nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// A call that is being answered, or a lost submission that may have become one of these tasks.
    InUse(Vec<TaskId>),
    /// Another call.
    Reused,
    /// A pick's lease that is held.
    Held(Box<LeaseView>),
    /// A job.
    Job {
        /// Which job.
        task_id: TaskId,
        /// On which account, if that is known.
        email: Option<Arc<str>>,
        /// The lease that its submission had.
        lease: LeaseId,
    },
    /// Nothing, but the table of keys is full.
    Full,
}

/// A lease as its key is asked about.
#[derive(Debug)]
pub(in crate::pool) struct Holding {
    pub(in crate::pool) view: LeaseView,
    /// Its job is one that a round gave to it, since nothing better is known.
    pub(in crate::pool) is_tied: bool,
}

impl Resolutions {
    /// Claims a key for the call that will have the lease `lease`. The same call may claim it again.
    ///
    /// # Errors
    /// What the key stands for.
    pub(in crate::pool) fn claim(
        &mut self,
        claim: &Claim,
        lease: LeaseId,
        kind: Kind,
        of_lease: impl FnOnce(LeaseId) -> Option<Holding>,
    ) -> Result<(), Known> {
        if self.by_key.get(&claim.key) == Some(&lease) {
            return Ok(());
        }
        if let Some(known) = self.recall(claim, of_lease) {
            return Err(known);
        }
        if self.by_key.len() >= self.keys_max {
            return Err(Known::Full);
        }
        self.changes.note(|| lease);
        self.by_key.insert(claim.key.clone(), lease);
        let submission = TrackedSubmission::open(Some(claim.clone()), kind);
        self.submissions.insert(lease, submission);
        Ok(())
    }

    /// Gives a lost submission without a key this one, by which it can be asked what became of it. False if it is
    /// not lost, or the table of keys is full.
    pub(in crate::pool) fn name_lost(&mut self, id: LeaseId, claim: Claim) -> bool {
        let is_full = self.by_key.len() >= self.keys_max;
        let submission = self.submissions.get_mut(&id);
        let Some(submission) = submission.filter(|_| !is_full) else {
            return false;
        };
        if submission.claim.is_some() {
            return false;
        }
        self.changes.note(|| id);
        match &submission.resolution {
            Resolution::Lost(lost) if lost.ended_at.is_none() => {
                self.unkeyed.remove(&(lost.lost_at, id));
            }
            // A round has listed it with its mark, and has listed it no more, before the call was over.
            Resolution::Job(_) => {}
            Resolution::Lost(_) | Resolution::Open | Resolution::Given(..) => return false,
        }
        self.by_key.insert(claim.key.clone(), id);
        submission.claim = Some(claim);
        true
    }

    /// What a key stands for already.
    pub(in crate::pool) fn recall(
        &self,
        claim: &Claim,
        of_lease: impl FnOnce(LeaseId) -> Option<Holding>,
    ) -> Option<Known> {
        let id = *self.by_key.get(&claim.key)?;
        let submission = self.submissions.get(&id)?;
        let known = submission.claim.as_ref();
        if known.is_some_and(|known| known.fingerprint != claim.fingerprint) {
            return Some(Known::Reused);
        }
        let job = |task_id, email| Known::Job {
            task_id,
            email,
            lease: id,
        };
        let in_use = Known::InUse(Vec::new());
        Some(
            match (of_lease(id), submission.kind, &submission.resolution) {
                (Some(lease), Kind::Pick, _) => Known::Held(Box::new(lease.view)),
                (Some(lease), Kind::Forward, _) => match (lease.view.task_id, lease.is_tied) {
                    (None, _) => in_use,
                    (Some(task_id), is_tied) if !self.is_certain(id, is_tied) => {
                        Known::InUse(vec![task_id])
                    }
                    (Some(task_id), _) => job(task_id, Some(lease.view.email)),
                },
                (None, Kind::Forward, Resolution::Job(task_id) | Resolution::Given(task_id, _)) => {
                    job(task_id.clone(), submission.email.clone())
                }
                (None, Kind::Forward, Resolution::Lost(lost)) => {
                    Known::InUse(lost.candidates.clone())
                }
                (None, Kind::Pick | Kind::Forward, _) => in_use,
            },
        )
    }

    /// Whether the job of a lease is its submission's. A round gives a lost submission the next job of its account,
    /// which another tool may have started: a mark, the account's history or an answer has to say so.
    pub(super) fn is_certain(&self, id: LeaseId, is_tied: bool) -> bool {
        let resolution = self.submissions.get(&id).map(|it| &it.resolution);
        !is_tied || !matches!(resolution, Some(Resolution::Lost(_)))
    }

    /// Whether a call with this key would get nothing new.
    pub(in crate::pool) fn knows(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }
}
