//! Downloads of works, which only the account that made them has.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Forward,
    answer::{self, Carried},
    call::Call,
};
use crate::{
    error::Error,
    jobs::{OWNER_ACCOUNTS_MAX, speaks_of_account},
    pool::TaskId,
    upstream::Answer,
};

impl Forward {
    /// Downloads works, from the account that has them.
    pub(super) async fn download(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
        let work_id = call.query.first_of_list("workIds");
        let work_id: Option<TaskId> = work_id.and_then(|id| id.parse().ok());
        let owner = match (call.query.email(), &work_id) {
            (Some(given), _) => self.respelled(given).await,
            // It names no work: any account says so.
            (None, None) => self.first_healthy().await,
            (None, Some(work_id)) => match self.works.owner(work_id) {
                // A body could be sent only once.
                None if body.is_end_stream() => return self.search_download(call, work_id).await,
                owner => owner,
            },
        };
        self.read(&call, body, owner).await.map(answer::carried)
    }

    /// Nobody can be asked whose a work is. So the download itself is asked of one account after the
    /// other, as long as they do not have the work: it changes nothing.
    async fn search_download(&self, mut call: Call, work_id: &TaskId) -> Result<Carried, Error> {
        call.headers.remove(header::CONTENT_LENGTH);
        let list = self.list().await.ok_or(Error::OwnerUnknown)?;
        let mut missing = None;
        let mut is_missing_everywhere = list.accounts.len() <= OWNER_ACCOUNTS_MAX;
        for account in list.accounts.iter().take(OWNER_ACCOUNTS_MAX) {
            let target = call.target_with(&account.email);
            let headers = call.headers.clone();
            let sent = self.send(&call, &target, headers, Empty::<Bytes>::new());
            let Ok(mut answer) = sent.await else {
                is_missing_everywhere = false;
                continue;
            };
            answer::name_account(&mut answer, Some(&account.email));
            match answer.status() {
                StatusCode::NOT_FOUND => match not_found(answer).await {
                    Some(answer) => missing = missing.or(Some(answer)),
                    None => is_missing_everywhere = false,
                },
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                    is_missing_everywhere = false;
                }
                status if status.as_u16() >= 500 => is_missing_everywhere = false,
                status => {
                    if status.is_success() {
                        self.works.learn(work_id, Arc::clone(&account.email));
                    }
                    return Ok(answer::carried(answer));
                }
            }
        }
        missing
            .filter(|_| is_missing_everywhere)
            .ok_or(Error::OwnerUnknown)
    }

    /// Remembers who made the works that an answer about a task names.
    pub(super) fn learn_works(&self, task: &[u8], owner: &str) {
        for work_id in work_ids(task) {
            self.works.learn(&work_id, owner.into());
        }
    }
}

/// A 404 that came whole and speaks of the work, not of the account.
async fn not_found(answer: Response<Answer>) -> Option<Carried> {
    let (head, body) = answer.into_parts();
    let read = answer::begin(body).await;
    let is_about_work = read.is_whole() && !speaks_of_account(&read.bytes);
    let body = read.resume().ok().filter(|_| is_about_work)?;
    Some(answer::carried(Response::from_parts(head, body)))
}

/// The works in an answer about a task.
fn work_ids(task: &[u8]) -> Vec<TaskId> {
    #[derive(Deserialize)]
    struct Task<'a> {
        #[serde(borrow)]
        works: Vec<Work<'a>>,
    }
    #[derive(Deserialize)]
    struct Work<'a> {
        #[serde(borrow, rename = "workId")]
        work_id: &'a RawValue,
    }
    let Ok(task) = serde_json::from_slice::<Task<'_>>(task) else {
        return Vec::new();
    };
    let ids = task.works.iter();
    ids.filter_map(|work| TaskId::from_json(work.work_id).ok())
        .collect()
}
