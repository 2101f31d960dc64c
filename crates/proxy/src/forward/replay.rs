//! Job starts that come again under their idempotency key: the first answer, replayed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};

use super::{
    call::{Call, PREFIX},
    response::{self, Carried},
    submissions::Submissions,
};
use crate::{
    error::Error,
    kling::task,
    pool::{Known, TaskId},
};

/// Says where the answer comes from: kept as it was, or made from what the upstream says now.
const REPLAYED: &str = "x-kling-replayed";
const AS_IT_WAS: HeaderValue = HeaderValue::from_static("answer");
const RECONCILED: HeaderValue = HeaderValue::from_static("reconciled");

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
        if let Some(kept) = self.answers.get(lease) {
            return Ok(replayed(kept.headers, kept.body, AS_IT_WAS));
        }
        let task = self.task_now(&task_id, email.clone()).await;
        let task = task.ok_or(Error::KeyInUse { tasks: Vec::new() })?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let mut answer = replayed(headers, format!("{{\"task\":{task}}}").into(), RECONCILED);
        response::name_account(&mut answer, email.as_deref());
        Ok(answer)
    }

    /// The task as its account shows it, in JSON.
    async fn task_now(&self, task_id: &TaskId, email: Option<Arc<str>>) -> Option<String> {
        let request = Request::get(format!("{PREFIX}/tasks/{}", task_id.as_str()));
        let (head, ()) = request.body(()).ok()?.into_parts();
        let call = Call::read(head, &self.settings).ok()?;
        let asked = self.sender.pass(&call, Empty::<Bytes>::new(), email).await;
        let (head, body) = asked.ok()?.into_parts();
        let read = response::peek(body).await;
        let text = read.text(&head.headers);
        let text = text.filter(|_| read.is_whole())?;
        match head.status {
            StatusCode::OK => Some(task::task_json(&text, task_id)?.to_owned()),
            // The job died since; the client learns that when it polls.
            StatusCode::NOT_FOUND => Some(format!("{{\"id\":{}}}", task_id.as_str())),
            _ => None,
        }
    }
}

fn replayed(headers: HeaderMap, body: Bytes, how: HeaderValue) -> Carried {
    let mut answer = Response::new(Full::new(body));
    *answer.headers_mut() = headers;
    answer.headers_mut().insert(REPLAYED, how);
    response::carried(answer)
}
