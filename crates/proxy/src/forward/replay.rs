//! Job starts that were carried before, answered again under their idempotency key.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Carried},
    call::{Call, PREFIX},
    keys::Accepted,
};
use crate::{error::Error, pool::TaskId};

/// How the answer came about: as it was, or put together from what the upstream says now.
const REPLAYED: &str = "x-kling-replayed";
const AS_IT_WAS: HeaderValue = HeaderValue::from_static("answer");
const RECONCILED: HeaderValue = HeaderValue::from_static("reconciled");

impl Forward {
    /// Answers for a job that was started before, and starts none.
    ///
    /// # Errors
    /// [`Error::KeyInUse`] if the upstream cannot tell about the job now: come back.
    pub(super) async fn replay(&self, accepted: &Accepted) -> Result<Carried, Error> {
        if let Some(kept) = &accepted.answer {
            return Ok(replayed(kept.headers.clone(), kept.body.clone(), AS_IT_WAS));
        }
        let task = self.task_now(accepted).await?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let mut answer = replayed(headers, format!("{{\"task\":{task}}}").into(), RECONCILED);
        answer::name_account(&mut answer, accepted.email.as_deref());
        Ok(answer)
    }

    /// The task as its account shows it, in JSON.
    async fn task_now(&self, accepted: &Accepted) -> Result<String, Error> {
        let Accepted { task_id, email, .. } = accepted;
        let request = Request::get(format!("{PREFIX}/tasks/{}", task_id.as_str()));
        let request = request.body(()).map_err(|_invalid| Error::KeyInUse)?;
        let call = Call::read(request.into_parts().0, &[])?;
        let asked = self.pass(&call, Empty::<Bytes>::new(), email.clone()).await;
        let (head, body) = asked.map_err(|_untold| Error::KeyInUse)?.into_parts();
        let read = answer::begin(body).await;
        let text = accounts_fetcher::decoded(&head.headers, read.bytes.clone(), ANSWER_READ_MAX);
        let text = text.filter(|_| read.is_whole()).ok_or(Error::KeyInUse)?;
        match head.status {
            StatusCode::OK => task(&text, task_id).ok_or(Error::KeyInUse),
            // It died since, which its client will hear when it polls.
            StatusCode::NOT_FOUND => Ok(format!("{{\"id\":{}}}", task_id.as_str())),
            _ => Err(Error::KeyInUse),
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
