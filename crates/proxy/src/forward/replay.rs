//! Job starts that were carried before, answered again under their idempotency key.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Carried},
    call::{Call, PREFIX},
};
use crate::{
    error::Error,
    pool::{Known, TaskId},
};

/// How the answer came about: as it was, or put together from what the upstream says now.
const REPLAYED: &str = "x-kling-replayed";
const AS_IT_WAS: HeaderValue = HeaderValue::from_static("answer");
const RECONCILED: HeaderValue = HeaderValue::from_static("reconciled");

impl Forward {
    /// Answers a call whose key stands for something already, and starts no job.
    ///
    /// # Errors
    /// [`Error::KeyInUse`] if nobody can tell about the job now: come back. [`Error::KeyReused`] and
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
        if let Some(kept) = self.answers.get(lease) {
            return Ok(replayed(kept.headers, kept.body, AS_IT_WAS));
        }
        let task = self.task_now(&task_id, email.clone()).await;
        let task = task.ok_or(Error::KeyInUse { tasks: Vec::new() })?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let mut answer = replayed(headers, format!("{{\"task\":{task}}}").into(), RECONCILED);
        answer::name_account(&mut answer, email.as_deref());
        Ok(answer)
    }

    /// The task as its account shows it, in JSON.
    async fn task_now(&self, task_id: &TaskId, email: Option<Arc<str>>) -> Option<String> {
        let request = Request::get(format!("{PREFIX}/tasks/{}", task_id.as_str()));
        let (head, ()) = request.body(()).ok()?.into_parts();
        let call = Call::read(head, &[]).ok()?;
        let asked = self.pass(&call, Empty::<Bytes>::new(), email).await;
        let (head, body) = asked.ok()?.into_parts();
        let read = answer::begin(body).await;
        let text = accounts_fetcher::decoded(&head.headers, read.bytes.clone(), ANSWER_READ_MAX);
        let text = text.filter(|_| read.is_whole())?;
        match head.status {
            StatusCode::OK => task(&text, task_id),
            // It died since, which its client will hear when it polls.
            StatusCode::NOT_FOUND => Some(format!("{{\"id\":{}}}", task_id.as_str())),
            _ => None,
        }
    }
}

fn replayed(headers: HeaderMap, body: Bytes, how: HeaderValue) -> Carried {
    let mut answer = Response::new(Full::new(body));
    *answer.headers_mut() = headers;
    answer.headers_mut().insert(REPLAYED, how);
    answer::carried(answer)
}

/// The member `task` of an answer about the task `task_id`.
fn task(text: &[u8], task_id: &TaskId) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        task: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Task<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let Answer { task } = serde_json::from_slice(text).ok()?;
    let Task { id } = serde_json::from_str(task.get()).ok()?;
    let is_same = TaskId::from_json(id).is_ok_and(|id| id == *task_id);
    is_same.then(|| task.get().to_owned())
}
