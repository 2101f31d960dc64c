//! What an account made: `/tasks` as a list, the works of a task, `/assets`.
//!
//! A history shows every remembered job except the deleted ones. An accepted job is in it from that
//! moment on, no matter who started it and what becomes of it.

use serde_json::{Value, json};

use super::{
    World,
    job::{Job, Phase},
    task_info::{self, HistoryStyle},
};
use crate::{call::Call, refusal::Refusal, task_id::TaskId};

/// The rows of a list whose request has no `pageSize`, or one that makes no sense.
const PAGE_SIZE: usize = 20;

/// The most rows of a list, whatever the request asks for.
const PAGE_SIZE_MAX: usize = 100;

impl World {
    /// Sets what histories show from now on, including older jobs.
    pub(crate) fn set_history(&mut self, style: HistoryStyle) {
        self.settings.history = style;
    }

    /// Adds an unreadable row to an account's history, or removes it; `false` if the account is not
    /// configured.
    pub(crate) fn add_unreadable_history(&mut self, email: &str, on: bool) -> bool {
        let account = self.account_mut(email);
        account
            .map(|account| account.has_unreadable_history = on)
            .is_some()
    }

    /// `GET /tasks`: the newest jobs first, including running and failed ones. An unreadable row is
    /// the first of every page, and counts as one row of the page.
    pub(crate) fn tasks(&self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let number = |field| call.head.query(field)?.parse().ok();
        let (before, after): (Option<i64>, Option<i64>) =
            (number("createdBefore"), number("createdAfter"));
        if before.is_some() && after.is_some() {
            return Err(Refusal::FieldInvalid {
                field: "createdBefore",
                expected: "given without createdAfter",
            });
        }
        let content = call.head.query("contentType");
        let jobs = self.jobs.of(account).filter(|job| {
            let created = self.at(job.started).as_millisecond();
            before.is_none_or(|before| created < before)
                && after.is_none_or(|after| created > after)
                && content
                    .as_deref()
                    .is_none_or(|name| name == job.kind.content.name())
        });
        let account = self.account(account);
        let is_unreadable = account.is_some_and(|account| account.has_unreadable_history);
        let unreadable = is_unreadable.then(|| json!({ "works": [] }));
        let rows = unreadable
            .into_iter()
            .chain(jobs.map(|job| self.history_row(job)));
        let history: Vec<Value> = rows.take(page_size(call)).collect();
        Ok(json!({ "history": history }))
    }

    fn history_row(&self, job: &Job) -> Value {
        let task_info = task_info::show_in_history(job.kind, &job.arguments, self.settings.history);
        let mut works = self.works(job);
        for work in &mut works {
            work["taskInfo"] = task_info.clone();
        }
        json!({ "works": works })
    }

    /// `DELETE /tasks/{id}`: only a job that succeeded has works to delete.
    pub(crate) fn delete_task(&mut self, account: &str, id: TaskId) -> Result<Value, Refusal> {
        let job = self.owned(account, id)?;
        if job.phase(self.now) != Phase::Succeed {
            return Err(Refusal::NoWorks { id });
        }
        let work_ids: Vec<i64> = job.work_ids().collect();
        self.jobs.delete(id);
        Ok(json!({ "deleted": work_ids.len(), "workIds": work_ids }))
    }

    /// `GET /assets`: the works of the jobs that succeeded, and how many may still be made.
    pub(crate) fn assets(&self, account: &str) -> Value {
        let made = self.jobs.of(account);
        let made = made.filter(|job| job.phase(self.now) == Phase::Succeed);
        let history: Vec<Value> = made
            .map(|job| json!({ "works": self.works(job) }))
            .collect();
        let limitations = json!([{ "type": "video", "remaining": 1000, "limit": 1000 }]);
        json!({ "limitations": limitations, "history": history })
    }

    /// `GET /assets/download?workIds=…,…`: all works must belong to the account.
    pub(crate) fn download(&self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let ids = call.head.query("workIds");
        let ids = ids.ok_or(Refusal::FieldMissing { field: "workIds" })?;
        let made: Result<Vec<&Job>, Refusal> =
            ids.split(',').map(|id| self.made(account, id)).collect();
        let url = self.settings.public_url.clean(&ids, &made?);
        Ok(json!({ "cdnUrl": url, "status": "success" }))
    }

    /// The job that made the work with this id, if the job belongs to the account and succeeded.
    pub(super) fn made(&self, account: &str, id: &str) -> Result<&Job, Refusal> {
        let made = self.job_of_work(id).filter(|job| job.email == account);
        made.ok_or_else(|| Refusal::NotFound {
            what: "work",
            id: id.to_owned(),
        })
    }

    /// The job with this id, if it belongs to the account.
    pub(super) fn owned(&self, account: &str, id: TaskId) -> Result<&Job, Refusal> {
        let owned = self.jobs.get(id).filter(|job| job.email == account);
        owned.ok_or(Refusal::NoWorks { id })
    }

    /// The works of a job; those of a job that has not succeeded have no resource.
    pub(super) fn works(&self, job: &Job) -> Vec<Value> {
        let works = job.work_ids().zip(1..);
        works.map(|(id, item)| self.work(job, id, item)).collect()
    }

    fn work(&self, job: &Job, id: i64, item: u32) -> Value {
        let phase = job.phase(self.now);
        let content = job.kind.content;
        let mut work = json!({
            "workId": id,
            "workItemId": item,
            "taskId": job.id,
            "userId": job.user_id,
            "type": job.kind.task_type,
            "status": phase.code(),
            "status_name": phase.name(),
            "status_final": phase.is_final(),
            "contentType": content.name(),
            "starNum": 0,
            "cloneCount": 0,
            "reportNum": 0,
            "createTime": self.at(job.started).as_millisecond(),
            "taskInfo": {},
        });
        if phase == Phase::Succeed {
            let urls = &self.settings.public_url;
            work["resource"] = json!({
                "resource": urls.output(id, content.media()),
                "height": 1080,
                "width": 1920,
                "duration": 5000,
                "resourceKey": id.to_string(),
            });
            work["cover"] = json!({
                "resource": urls.cover(id),
                "height": 1080,
                "width": 1920,
                "duration": 0,
            });
        }
        work
    }
}

/// How many rows a list has at most.
fn page_size(call: &Call) -> usize {
    let asked = call.head.query("pageSize");
    match asked.and_then(|asked| asked.parse().ok()) {
        None | Some(0) => PAGE_SIZE,
        Some(asked) => PAGE_SIZE_MAX.min(asked),
    }
}
