//! Calls about one task: they go to the account that owns it, and their answers tell about its job.

use std::sync::Arc;

use http::{Method, Response};
use hyper::body::Incoming;

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Beginning, Carried},
    call::Call,
};
use crate::{
    error::Error,
    jobs::{Owner, TaskWord, task_word},
    ledger::{JobOver, JobUntracked},
    pool::TaskId,
};

impl Forward {
    /// Reads or deletes a task, on the account that owns it.
    pub(super) async fn about_task(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
        let Some(task_id) = call.task_id() else {
            return self.pass(&call, body, None).await.map(answer::carried);
        };
        let is_read = call.is_read();
        let owner = match call.query.email() {
            Some(given) => self.respelled(given).await,
            None => match self.owner(&task_id).await {
                Owner::Found(owner) => Some(owner),
                // All of them have said that they do not have it: so will this one.
                Owner::Nobody if is_read => self.first_healthy().await,
                Owner::Unknown if is_read => return Err(Error::OwnerUnknown),
                // Deleting is never guessed.
                Owner::Nobody | Owner::Unknown => None,
            },
        };
        let asked = owner.as_deref().or(call.query.email()).map(str::to_owned);
        let is_told = call.method == Method::GET;
        let answer = self.read_whole(&call, body, owner).await?;
        match asked {
            Some(asked) if is_told => self.hear(&call, answer, &task_id, &asked).await,
            Some(_) | None => answer::resumed(answer),
        }
    }

    /// Makes the upstream stop to track a job, which frees its slot.
    pub(super) async fn untrack(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
        let task_id = call.task_id();
        let answer = self.pass(&call, body, None).await?;
        if let Some(task_id) = task_id
            && answer.status().is_success()
        {
            self.ledger.call(JobUntracked { task_id }).await?;
            // A round that is on its way may list it still.
            self.rounds.wake();
        }
        Ok(answer::carried(answer))
    }

    /// Whose a task is: as remembered, or as the accounts say.
    pub(super) async fn owner(&self, task_id: &TaskId) -> Owner {
        if let Some(owner) = self.rounds.owners().owner(task_id) {
            return Owner::Found(owner);
        }
        let Some(list) = self.list().await else {
            return Owner::Unknown;
        };
        match &*list.accounts {
            [only] => Owner::Found(Arc::clone(&only.email)),
            accounts => {
                let emails: Vec<_> = accounts.iter().map(|it| Arc::clone(&it.email)).collect();
                self.rounds.find_owner(task_id, &emails).await
            }
        }
    }

    /// Listens to what the account `asked` says about a task, and passes it on.
    async fn hear(
        &self,
        call: &Call,
        answer: Response<Beginning>,
        task_id: &TaskId,
        asked: &str,
    ) -> Result<Carried, Error> {
        let (head, read) = answer.into_parts();
        let text = accounts_fetcher::decoded(&head.headers, read.bytes.clone(), ANSWER_READ_MAX);
        if let Some(text) = text.filter(|_| read.is_whole()) {
            let word = task_word(head.status, &text, task_id);
            self.note_word(word, task_id, asked).await;
            if matches!(word, TaskWord::Final | TaskWord::Unfinished)
                && let Some(shape) = call.lesson
            {
                self.holdings.learn(shape, &text, Some(&asked.into()));
            }
        }
        answer::resumed(Response::from_parts(head, read))
    }

    /// Only its owner's word counts: any other account has no such task either.
    async fn note_word(&self, word: TaskWord, task_id: &TaskId, asked: &str) {
        let owners = self.rounds.owners();
        let owner = owners.owner(task_id);
        let is_owner = owner.map(|owner| *owner == *asked);
        match (word, is_owner) {
            (TaskWord::Unknown, _) | (_, Some(false)) | (TaskWord::Missing, None) => return,
            (TaskWord::Final | TaskWord::Unfinished, None) => {
                owners.learn(task_id, asked.into());
            }
            (TaskWord::Final | TaskWord::Unfinished | TaskWord::Missing, Some(true)) => {}
        }
        let is_over = word != TaskWord::Unfinished;
        let over = JobOver {
            task_id: task_id.clone(),
        };
        if is_over && self.ledger.call(over).await == Ok(true) {
            self.rounds.wake();
        }
    }
}
