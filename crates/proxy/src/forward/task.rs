//! Calls about one task: they go to its owner, and their answers tell about its job.

use std::{pin::pin, sync::Arc};

use http::{Method, Response};
use tokio::time::Instant;

use super::{
    CallOrigin, Forward,
    call::Call,
    response::{self, Carried, PeekedBody},
};
use crate::{
    error::Error,
    kling::{
        shapes,
        task::{TaskAnswer, TaskStatus},
    },
    ledger::{JobOver, JobUntracked},
    owners::FoundOwner,
    peer::RequestBody,
    pool::TaskId,
};

impl Forward {
    /// Reads or deletes a task, on the account that owns it.
    pub(super) async fn about_task(
        &self,
        call: &mut Call,
        body: RequestBody,
        origin: &CallOrigin,
    ) -> Result<Carried, Error> {
        let Some(task_id) = call.task_id() else {
            let headers = call.take_headers();
            let answer = self.sender.pass(call, headers, body, None).await?;
            return Ok(response::carried(answer));
        };
        let known = match call.named() {
            Some(_) => None,
            None => self.owners.of_task(&task_id),
        };
        let owner = match &known {
            Some(owner) => Some(Arc::clone(owner)),
            // Most owners are known, and the future of this is large.
            None => Box::pin(self.search_owner(call, &task_id)).await?,
        };
        let is_told = call.method == Method::GET;
        let answer = pin!(self.read_whole(call, body, owner.as_deref())).await?;
        let asked = owner.or_else(|| call.query.email().map(Arc::from));
        if let Some(asked) = asked.filter(|_| is_told) {
            if answer.status().is_success() {
                let scope = origin.caller.scope();
                self.records.note_polled(&task_id, scope, origin.ip());
            }
            let status = self.learn_from_task(&answer, &task_id, &asked);
            // Most polls find what was known before.
            if known.is_none() || status != TaskStatus::Unfinished {
                Box::pin(self.note_status(status, &task_id, &asked)).await;
            }
        }
        response::into_response(answer)
    }

    /// The account for a call about a task whose owner is not known: the one that it names, or the one that is found.
    /// `None`: the call goes as it came.
    async fn search_owner(&self, call: &Call, task_id: &TaskId) -> Result<Option<Arc<str>>, Error> {
        if let Some(named) = call.named() {
            return Ok(self.router.respelled(named).await);
        }
        let given = call.query.email();
        let deadline = Instant::now() + self.settings.wait;
        match self.router.task_owner(task_id, given, deadline).await {
            FoundOwner::Account(owner) => Ok(Some(owner)),
            // Every account said that it does not have it: so will this one.
            FoundOwner::Nobody if call.is_read() => Ok(self.router.healthy(given).await),
            FoundOwner::Unknown if call.is_read() => Err(Error::OwnerUnknown),
            // A deletion is never sent on a guess.
            FoundOwner::Nobody | FoundOwner::Unknown => Ok(None),
        }
    }

    /// Makes the upstream stop tracking a job, which frees its slot.
    pub(super) async fn untrack(
        &self,
        call: &mut Call,
        body: RequestBody,
    ) -> Result<Carried, Error> {
        let task_id = call.task_id();
        let headers = call.take_headers();
        let answer = self.sender.pass(call, headers, body, None).await?;
        if let Some(task_id) = task_id
            && answer.status().is_success()
        {
            self.ledger.call(JobUntracked { task_id }).await?;
            // A round that is on its way may still list it.
            self.rounds.wake();
        }
        Ok(response::carried(answer))
    }

    /// What the account `asked` says about a task. Learns the works in it.
    fn learn_from_task(
        &self,
        answer: &Response<PeekedBody>,
        task_id: &TaskId,
        asked: &Arc<str>,
    ) -> TaskStatus {
        let read = answer.body();
        let Some(text) = read.text(answer.headers()).filter(|_| read.is_whole()) else {
            return TaskStatus::Unknown;
        };
        let TaskAnswer { status, works } = TaskAnswer::read(answer.status(), &text, task_id);
        // An unfinished task has none.
        if let Some(works) = works.filter(|works| works != b"[]") {
            self.owners.learn_from(&shapes::WORKS, works, Some(asked));
        }
        status
    }

    /// Only what the owner says counts: any other account has no such task.
    async fn note_status(&self, status: TaskStatus, task_id: &TaskId, asked: &Arc<str>) {
        let owner = self.owners.of_task(task_id);
        let is_owner = owner.map(|owner| owner == *asked);
        match (status, is_owner) {
            (TaskStatus::Unknown, _) | (_, Some(false)) | (TaskStatus::Missing, None) => return,
            (TaskStatus::Final(_) | TaskStatus::Unfinished, None) => {
                self.owners.learn_task(task_id, asked);
            }
            (TaskStatus::Final(_) | TaskStatus::Unfinished | TaskStatus::Missing, Some(true)) => {}
        }
        let result = match status {
            TaskStatus::Final(result) => Some(result),
            TaskStatus::Unfinished | TaskStatus::Missing | TaskStatus::Unknown => None,
        };
        if let Some(result) = result {
            self.records.note_result(task_id, result);
        }
        let is_over = status != TaskStatus::Unfinished;
        let over = JobOver {
            task_id: task_id.clone(),
            result,
        };
        if is_over && self.ledger.call(over).await == Ok(true) {
            self.rounds.wake();
        }
    }
}
