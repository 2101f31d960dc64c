//! Job starts that come again: the first answer, replayed.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::USER_AGENT;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::timeout;

use super::{
    call::{Call, PREFIX},
    response::{self, Carried},
    submissions::Submissions,
};
use crate::{
    error::Error,
    kling::task::{self, JobResult, TaskStatus},
    pool::{Known, LeaseId, TaskId},
};

/// Says where the answer comes from: kept as it was, or made from what the upstream says now.
const REPLAYED: &str = "x-kling-replayed";
const AS_IT_WAS: HeaderValue = HeaderValue::from_static("answer");
const RECONCILED: HeaderValue = HeaderValue::from_static("reconciled");
/// The answer to an earlier start whose client was gone.
const UNDELIVERED: HeaderValue = HeaderValue::from_static("undelivered");

/// How long an account may take to show a task: many clients give up after 30 s, and come again for the answer
/// that they missed. An account that hangs is asked again then.
const TASK_WAIT: Duration = Duration::from_secs(10);

impl Submissions {
    /// Answers a call whose key is known, and starts no job.
    ///
    /// # Errors
    /// [`Error::KeyInUse`] if the upstream cannot tell about the job now. [`Error::KeyReused`] and
    /// [`Error::KeysFull`] as the key says.
    pub(super) async fn replay(&self, known: Known) -> Result<Carried, Error> {
        let Known::Job {
            task_id,
            email,
            lease,
        } = known
        else {
            return Err(known.into());
        };
        if let Some(kept) = self.records.answers.get(lease) {
            return Ok(replayed(kept, AS_IT_WAS));
        }
        let task = self.task_now(&task_id, email.clone()).await;
        let (task, _) = task.ok_or(Error::KeyInUse { tasks: Vec::new() })?;
        Ok(task_alone(&task, email.as_deref(), RECONCILED))
    }

    /// The answer to an earlier start whose client was gone, as it was or as far as it is known. `None`: its job
    /// has failed, and no client has a use for it. `is_new`: the job was accepted just now.
    pub(super) async fn redeliver(
        &self,
        task_id: &TaskId,
        email: Option<Arc<str>>,
        lease: Option<LeaseId>,
        is_new: bool,
    ) -> Option<Carried> {
        let kept = lease.and_then(|lease| self.records.answers.get(lease));
        let task = match &kept {
            Some(_) if is_new => None,
            _ => self.task_now(task_id, email.clone()).await,
        };
        if let Some((_, TaskStatus::Final(JobResult::Failed) | TaskStatus::Missing)) = task {
            return None;
        }
        if let Some(kept) = kept {
            return Some(replayed(kept, UNDELIVERED));
        }
        let alone = || format!("{{\"id\":{}}}", task_id.as_str());
        let task = task.map_or_else(alone, |(task, _)| task);
        Some(task_alone(&task, email.as_deref(), UNDELIVERED))
    }

    /// The task as its account shows it, in JSON, and what that says about it. `None` if it does not show it
    /// within [`TASK_WAIT`].
    async fn task_now(
        &self,
        task_id: &TaskId,
        email: Option<Arc<str>>,
    ) -> Option<(String, TaskStatus)> {
        let asking = self.ask_for_task(task_id, email);
        timeout(TASK_WAIT, asking).await.ok()?
    }

    async fn ask_for_task(
        &self,
        task_id: &TaskId,
        email: Option<Arc<str>>,
    ) -> Option<(String, TaskStatus)> {
        let request = Request::get(format!("{PREFIX}/tasks/{}", task_id.as_str()))
            .header(header::USER_AGENT, USER_AGENT);
        let (head, ()) = request.body(()).ok()?.into_parts();
        let mut call = Call::read(head, &self.settings).ok()?;
        let headers = call.take_headers();
        let sender = &self.sender;
        let asked = sender.pass_without_body(&call, headers, email.as_deref());
        let (head, body) = asked.await.ok()?.into_parts();
        let read = response::peek(body).await;
        let text = read.text(&head.headers);
        let text = text.filter(|_| read.is_whole())?;
        let task = match head.status {
            StatusCode::OK => task::task_json(&text, task_id)?.to_owned(),
            // The job died since; the client learns that when it polls.
            StatusCode::NOT_FOUND => format!("{{\"id\":{}}}", task_id.as_str()),
            _ => return None,
        };
        Some((task, TaskStatus::read(head.status, &text, task_id)))
    }
}

/// An answer that says no more than which task there is, given as JSON.
fn task_alone(task: &str, email: Option<&str>, how: HeaderValue) -> Carried {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let mut answer = replayed((headers, format!("{{\"task\":{task}}}").into()), how);
    response::name_account(&mut answer, email);
    answer
}

fn replayed((headers, body): (HeaderMap, Bytes), how: HeaderValue) -> Carried {
    let mut answer = Response::new(Full::new(body));
    *answer.headers_mut() = headers;
    answer.headers_mut().insert(REPLAYED, how);
    response::carried(answer)
}
