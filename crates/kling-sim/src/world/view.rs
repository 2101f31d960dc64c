//! What the API shows of the world, in the documented shapes (`GET`s and the job-start reply).
//!
//! Objects are written with sorted keys, which makes no difference to clients. Only the account
//! list has an order that clients rely on, so it is written in the order of configuration.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serializer as _;
use serde_json::{Value, json};

use super::{
    World,
    job::{Job, Phase, Started},
    task_info,
};
use crate::{
    account::{Account, SchedulerRows},
    refusal::Refusal,
    task_id::TaskId,
};

/// Sessions end this long after the start of the simulator.
const SESSION_LIFE: Duration = Duration::from_hours(30 * 24);

impl World {
    /// `GET /accounts`, as text: it is the only answer whose key order matters.
    pub(crate) fn account_list(&self) -> String {
        let mut json = Vec::new();
        let entries = self
            .accounts
            .iter()
            .map(|account| (&account.email, self.show(account)));
        serde_json::Serializer::new(&mut json)
            .collect_map(entries)
            .expect("writing strings and numbers to memory cannot fail");
        String::from_utf8(json).expect("serde_json writes UTF-8")
    }

    /// `GET /accounts/{email}`: the entry of the list and the balance.
    pub(crate) fn show_account(&self, email: &str) -> Result<Value, Refusal> {
        let mut shown = self.show(self.resolve(Some(email))?);
        shown["balance"] = json!({
            "points": [{
                "orderId": "1",
                "type": "plan",
                "amount": 66_000,
                "balance": 56_000,
                "startTime": self.at(Duration::ZERO).as_millisecond(),
                "endTime": self.at(SESSION_LIFE).as_millisecond(),
            }],
            "tickets": [],
            "nextApplyTime": self.at(SESSION_LIFE).as_millisecond(),
            "total": 56_000,
        });
        Ok(shown)
    }

    /// `GET /scheduler`: the running jobs of all accounts.
    pub(crate) fn scheduler(&self) -> Value {
        let rows = self.jobs.tracked();
        rows.filter_map(|job| self.executing_row(job)).collect()
    }

    /// `GET /scheduler/available`: the running jobs, and the free slots of each account.
    pub(crate) fn scheduler_available(&self) -> Value {
        let executing = self.scheduler();
        let available: Value = self
            .accounts
            .iter()
            .map(|account| self.availability(account))
            .collect();
        json!({ "executing": executing, "available": available })
    }

    /// `GET /tasks/{id}`: the account of the request must own the task.
    pub(crate) fn task(&self, account: &str, id: TaskId) -> Result<Value, Refusal> {
        let job = self.owned(account, id)?;
        let phase = job.phase(self.now);
        let left = job
            .ends_at()
            .map_or(Duration::ZERO, |end| end.saturating_sub(self.now));
        let works = match phase {
            Phase::Succeed => self.works(job),
            Phase::Submitted | Phase::Processing | Phase::Failed => Vec::new(),
        };
        let mut shown = json!({
            "etaTime": left.as_secs(),
            "etaTimeOverSla": false,
            "queuingEtaTime": 0,
            "originEtaTime": job.duration.unwrap_or_default().as_secs(),
            "originQueuingEtaTime": 0,
            "message": "",
            "task": { "id": id },
            "works": works,
        });
        if phase == Phase::Failed {
            shown["error"] = json!("Generation failed");
            shown["message"] = json!("Failed");
        }
        put_status(&mut shown, phase);
        put_status(&mut shown["task"], phase);
        Ok(shown)
    }

    /// The answer to an accepted job start: always `submitted`.
    pub(crate) fn started(&self, started: &Started) -> Value {
        let Started { job, arguments, .. } = started;
        let created = self.at(job.started).as_millisecond();
        let mut task = json!({
            "id": job.id,
            "userId": job.user_id,
            "type": job.kind.task_type,
            "scene": "NORMAL_CREATION",
            "taskInfo": task_info::show(job.kind, arguments),
            "favored": false,
            "deleted": false,
            "viewed": false,
            "createTime": created,
            "updateTime": created,
            "viewTime": 0,
        });
        if job.kind.names_status {
            put_status(&mut task, Phase::Submitted);
        } else {
            task["status"] = json!(Phase::Submitted.code());
        }
        json!({ "task": task })
    }

    /// An account in error shows no session.
    fn show(&self, account: &Account) -> Value {
        let mut shown = json!({
            "email": account.email,
            "maxJobs": account.max_jobs,
            "password": "…secured…",
        });
        match &account.error {
            Some(error) => shown["error"] = json!(error),
            None => {
                let expiry = self.at(SESSION_LIFE);
                shown["session"] = json!({
                    "userId": account.user_id.to_string(),
                    "ExpireTime": expiry.as_second(),
                    "ExpireTimeUTC": iso(expiry),
                });
            }
        }
        shown
    }

    fn availability(&self, account: &Account) -> Value {
        let executing = self.jobs.executing(&account.email);
        json!({
            "email": account.email,
            "maxJobs": account.max_jobs,
            "executing": executing,
            "available": account.max_jobs.saturating_sub(executing),
        })
    }

    /// A running job, as both answers of the scheduler show it, if they do.
    fn executing_row(&self, job: &Job) -> Option<Value> {
        let seconds = self.now.saturating_sub(job.started).as_secs();
        let mut row = json!({
            "id": job.id,
            "email": job.email,
            "started": iso(self.at(job.started)),
            "elapsed": format!("{:02}:{:02}", seconds / 60, seconds % 60),
        });
        for (field, value) in [("replyUrl", &job.reply_url), ("replyRef", &job.reply_ref)] {
            if let Some(value) = value {
                row[field] = json!(value);
            }
        }
        let account = self.account(&job.email);
        let left_out = match account.map(|account| account.scheduler_rows) {
            Some(SchedulerRows::Missing) => return None,
            Some(SchedulerRows::WithoutIds) => Some("id"),
            Some(SchedulerRows::WithoutEmails) => Some("email"),
            Some(SchedulerRows::Whole) | None => None,
        };
        if let (Some(field), Some(row)) = (left_out, row.as_object_mut()) {
            row.remove(field);
        }
        Some(row)
    }

    /// The wall-clock time `since_start` after the start of the simulator.
    pub(super) fn at(&self, since_start: Duration) -> Timestamp {
        SignedDuration::try_from(since_start)
            .ok()
            .and_then(|since_start| self.epoch.checked_add(since_start).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

fn put_status(shown: &mut Value, phase: Phase) {
    shown["status"] = json!(phase.code());
    shown["status_name"] = json!(phase.name());
    shown["status_final"] = json!(phase.is_final());
}

/// `2025-01-01T12:13:14.000Z`
fn iso(time: Timestamp) -> String {
    format!("{time:.3}")
}
