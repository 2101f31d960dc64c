//! What is kept of the pool over a restart, as plain values.
//!
//! What the upstream shows again is not kept: which jobs rounds list, absences, whether a job is over. Times are those
//! of the pool, which go on where they ended.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    AccountKey, Body, Caller, Claim, Kind, LearntMarks, LeaseId, Mark, Pool, RecordName, TaskId,
    health::AccountHealth,
    history::ShownOperation,
    lease::{Lease, Particulars, Phase, Ttl},
    resolutions::{LostSubmission, Resolution, TrackedSubmission},
};

/// A record of the pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PoolRecord {
    /// Of an account.
    Account(AccountRecord),
    /// Of a submission.
    Submission(SubmissionRecord),
    /// Of a lease.
    Lease(LeaseRecord),
    /// Of a job without a lease.
    ForeignJob(ForeignJobRecord),
    /// Of an operation.
    Operation(OperationRecord),
}

/// What is known of an account beyond the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRecord {
    /// Whether an operator switched it off.
    #[serde(default)]
    pub is_draining: bool,
    /// Why it is not picked for a while.
    #[serde(default)]
    pub(super) health: AccountHealth,
    /// The tasks that were seen last on it: what a history lists behind one is older than what was submitted later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seen: Vec<SeenTask>,
}

/// A task, and since when it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeenTask {
    pub(super) task_id: TaskId,
    #[serde(with = "millis")]
    pub(super) since: Duration,
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    account: Arc<str>,
    #[serde(with = "millis")]
    pub(super) created_at: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Arc<str>>,
    /// The name of the token of the client that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    request_id: Arc<str>,
    /// The run of a sidecar that granted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<TtlRecord>,
    /// Whether its holder was told a mark. That of a submission follows from its id.
    #[serde(default)]
    pub(super) is_told_mark: bool,
    #[serde(flatten)]
    pub(super) phase: PhaseRecord,
    /// What is submitted, while its outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Arc<Body>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TtlRecord {
    #[serde(with = "millis")]
    length: Duration,
    #[serde(with = "millis")]
    ends_at: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(super) enum PhaseRecord {
    Reserved,
    Uncertain {
        #[serde(with = "millis")]
        sent_at: Duration,
    },
    Bound {
        task_id: TaskId,
        #[serde(with = "millis")]
        since: Duration,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tied_from: Option<Box<PhaseRecord>>,
    },
}

/// A job without a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForeignJobRecord {
    pub(super) account: Arc<str>,
    #[serde(with = "millis")]
    pub(super) since: Duration,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmissionRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<Claim>,
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<Arc<str>>,
    #[serde(default, with = "opt_millis", skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Duration>,
    #[serde(flatten)]
    pub(super) resolution: ResolutionRecord,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(super) enum ResolutionRecord {
    Open,
    Lost { lost: LostRecord },
    Job { task_id: TaskId },
    Given { task_id: TaskId, lost: LostRecord },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LostRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<LostOn>,
    #[serde(with = "millis")]
    pub(super) lost_at: Duration,
    #[serde(default, with = "opt_millis", skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Duration>,
    #[serde(default)]
    pub(super) is_found: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LostOn {
    pub(super) account: Arc<str>,
    #[serde(with = "millis")]
    pub(super) since: Duration,
}

/// What was learnt of an operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// How histories show its jobs.
    #[serde(default)]
    pub(super) history: ShownOperation,
    /// Whether the upstream keeps its marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) marks: Option<LearntMarks>,
    /// How long its jobs take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) typical_seconds: Option<f64>,
}

/// Durations as whole milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::pool) fn serialize<S: Serializer>(
        time: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::pool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Durations that may be missing, as whole milliseconds.
pub(super) mod opt_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::pool) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::millis::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::pool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

impl LeaseRecord {
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    /// A lease as it was made: reserved.
    pub(super) fn lease(&self, account: AccountKey, mark: Option<Mark>) -> Lease {
        let caller = Caller {
            client: self.client.clone(),
            request_id: Arc::clone(&self.request_id),
        };
        let ttl = self.ttl.map(|ttl| Ttl::new(ttl.length, ttl.ends_at));
        let particulars = Particulars {
            operation: self.operation.clone(),
            mark: mark.filter(|_| ttl.is_none() || self.is_told_mark),
            body: self.body.clone(),
            earlier_run: Some(self.session.clone()),
        };
        // What became of it before the restart was counted then.
        Lease::new(account, self.created_at, caller, ttl, particulars)
    }
}

impl PhaseRecord {
    fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Reserved { .. } => Self::Reserved,
            Phase::Uncertain { sent_at, .. } => Self::Uncertain {
                sent_at: Duration::from_nanos(*sent_at),
            },
            Phase::Bound(binding) => Self::Bound {
                task_id: binding.task_id.clone(),
                since: binding.since,
                tied_from: binding.tied_from.as_ref().map(|it| Box::new(Self::of(it))),
            },
        }
    }
}

impl Pool {
    /// The newest state of a record, for writing. `None`: it is gone.
    pub fn record(&mut self, name: &RecordName) -> Option<PoolRecord> {
        match name {
            RecordName::Account(email) => self.account_record(email).map(PoolRecord::Account),
            RecordName::Submission(id) => self.submission_record(*id).map(PoolRecord::Submission),
            RecordName::Lease(id) => self.lease_record(*id).map(PoolRecord::Lease),
            RecordName::ForeignJob(task_id) => {
                self.foreign_jobs.note_stored(task_id);
                let (account, since) = self.foreign_jobs.whereabouts(task_id)?;
                let account = match account {
                    Ok(key) => Arc::clone(&self.accounts[key].listed.email),
                    Err(name) => Arc::clone(name.given()),
                };
                Some(PoolRecord::ForeignJob(ForeignJobRecord { account, since }))
            }
            RecordName::Operation(operation) => {
                let history = self.resolutions.shown(operation).cloned();
                Some(PoolRecord::Operation(OperationRecord {
                    history: history.unwrap_or_default(),
                    marks: self.marks.record(operation),
                    typical_seconds: self.forecast.learnt(operation),
                }))
            }
        }
    }

    fn account_record(&self, email: &str) -> Option<AccountRecord> {
        let identity = accounts_fetcher::Identity::of(email);
        let key = self.accounts.of_identity(&identity)?;
        let account = &self.accounts[key];
        let seen = self.resolutions.newest_tasks(key);
        let seen = seen.map(|(task_id, since)| SeenTask {
            task_id: task_id.clone(),
            since,
        });
        let seen: Vec<_> = seen.collect();
        let is_healthy = account.health() == AccountHealth::GOOD;
        let is_notable = account.is_draining || !is_healthy || !seen.is_empty();
        (is_notable && *account.listed.email == *email).then(|| AccountRecord {
            is_draining: account.is_draining,
            health: account.health().clone(),
            seen,
        })
    }

    fn lease_record(&self, id: LeaseId) -> Option<LeaseRecord> {
        let lease = self.leases.get(id)?;
        Some(LeaseRecord {
            account: Arc::clone(&self.accounts[lease.account].listed.email),
            created_at: lease.created_at(),
            operation: lease.operation().clone(),
            client: lease.caller.client.clone(),
            request_id: Arc::clone(&lease.caller.request_id),
            session: lease.run(&self.session).clone(),
            ttl: lease.ttl.map(|ttl| TtlRecord {
                length: ttl.length(),
                ends_at: ttl.ends_at(),
            }),
            is_told_mark: lease.mark().is_some() && lease.ttl.is_some(),
            phase: PhaseRecord::of(&lease.phase),
            // What an answer has named is not looked for.
            body: lease
                .body()
                .clone()
                .filter(|_| lease.binding().is_none() || lease.is_tied()),
        })
    }

    fn submission_record(&self, id: LeaseId) -> Option<SubmissionRecord> {
        let TrackedSubmission {
            claim,
            kind,
            email,
            resolution,
            expires_at,
            mark: _,
        } = self.resolutions.get(id)?;
        // A claim without a lease is free when its process ends.
        if self.waiters.of_lease(id).is_some() {
            return None;
        }
        let lost = |lost: &LostSubmission| LostRecord {
            body: lost.body.clone(),
            on: lost.on.and_then(|(key, since)| {
                let account = Arc::clone(&self.accounts.get(key)?.listed.email);
                Some(LostOn { account, since })
            }),
            lost_at: lost.lost_at,
            ended_at: lost.ended_at,
            is_found: lost.is_found,
        };
        Some(SubmissionRecord {
            claim: claim.clone(),
            kind: *kind,
            account: email.clone(),
            expires_at: *expires_at,
            resolution: match resolution {
                Resolution::Open => ResolutionRecord::Open,
                Resolution::Lost(about) => ResolutionRecord::Lost { lost: lost(about) },
                Resolution::Job(task_id) => ResolutionRecord::Job {
                    task_id: task_id.clone(),
                },
                Resolution::Given(task_id, about) => ResolutionRecord::Given {
                    task_id: task_id.clone(),
                    lost: lost(about),
                },
            },
        })
    }
}
