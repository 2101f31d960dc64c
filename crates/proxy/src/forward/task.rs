//! Calls about one task: they go to its owner, and their answers tell about its job.

use std::sync::Arc;

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
        call: Call,
        body: RequestBody,
        origin: &CallOrigin,
    ) -> Result<Carried, Error> {
        let Some(task_id) = call.task_id() else {
            let answer = self.sender.pass(&call, body, None).await?;
            return Ok(response::carried(answer));
        };
        let is_read = call.is_read();
        let given = call.query.email();
        let deadline = Instant::now() + self.settings.wait;
        let owner = match call.named() {
            Some(named) => self.router.respelled(named).await,
            None => match self.router.task_owner(&task_id, given, deadline).await {
                FoundOwner::Account(owner) => Some(owner),
                // Every account said that it does not have it: so will this one.
                FoundOwner::Nobody if is_read => self.router.healthy(given).await,
                FoundOwner::Unknown if is_read => return Err(Error::OwnerUnknown),
                // A deletion is never sent on a guess.
                FoundOwner::Nobody | FoundOwner::Unknown => None,
            },
        };
        let asked = owner.as_deref().or(call.query.email()).map(Arc::from);
        let is_told = call.method == Method::GET;
        let answer = self.read_whole(&call, body, owner).await?;
        match asked {
            Some(asked) if is_told => {
                if answer.status().is_success() {
                    let scope = origin.caller.scope();
                    self.records.note_polled(&task_id, scope, origin.ip());
                }
                self.observe_task(answer, &task_id, &asked).await
            }
            Some(_) | None => response::into_response(answer),
        }
    }

    /// Makes the upstream stop tracking a job, which frees its slot.
    pub(super) async fn untrack(&self, call: Call, body: RequestBody) -> Result<Carried, Error> {
        let task_id = call.task_id();
        let answer = self.sender.pass(&call, body, None).await?;
        if let Some(task_id) = task_id
            && answer.status().is_success()
        {
            self.ledger.call(JobUntracked { task_id }).await?;
            // A round that is on its way may still list it.
            self.rounds.wake();
        }
        Ok(response::carried(answer))
    }

    /// Learns from what the account `asked` says about a task, and passes the answer on.
    async fn observe_task(
        &self,
        answer: Response<PeekedBody>,
        task_id: &TaskId,
        asked: &Arc<str>,
    ) -> Result<Carried, Error> {
        let (head, read) = answer.into_parts();
        if let Some(text) = read.text(&head.headers).filter(|_| read.is_whole()) {
            let TaskAnswer { status, works } = TaskAnswer::read(head.status, &text, task_id);
            self.note_status(status, task_id, asked).await;
            if let Some(works) = works {
                self.owners.learn_from(&shapes::WORKS, works, Some(asked));
            }
        }
        response::into_response(Response::from_parts(head, read))
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
