//! Downloads of works, which only the account that made them has.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Forward,
    call::Call,
    response::{self, Carried},
    retry::READ_PAUSE,
};
use crate::{
    backoff::doubled,
    error::Error,
    kling::{references::Reference, task::is_about_account},
    owners::{SEARCH_ACCOUNTS_MAX, emails},
    peer::RequestBody,
    upstream::Answer,
};

/// The most searched downloads that ask an account for the first time at once: they are whole calls, and each asks
/// one account at a time.
pub(super) const SEARCHES_MAX: usize = 16;
/// After so long without an answer the other accounts are asked first: far longer than a download takes to begin.
const HUNG_AFTER: Duration = Duration::from_secs(10);
/// The longest pause before those accounts are asked again that could not be asked.
const PASS_PAUSE_MAX: Duration = Duration::from_secs(4);

/// What an account says about a work.
enum WorkAnswer {
    /// It has the work, or its answer is the client's to judge.
    Found(Carried),
    /// It does not have the work.
    Missing(Carried),
    /// Nothing that can be relied on.
    Unknown,
}

impl Forward {
    /// Downloads works, from the account that has them.
    pub(super) async fn download(
        &self,
        mut call: Call,
        body: RequestBody,
    ) -> Result<Carried, Error> {
        let mut owner = self.router.owner_in_head(&call).await?;
        if owner.is_none() && call.named().is_none() {
            match call.references.first().cloned() {
                // A body can be sent only once.
                Some(work) if body.is_end_stream() => {
                    let found = timeout(self.request_timeout, self.search_download(call, work));
                    return found.await.unwrap_or(Err(Error::OwnerUnknown));
                }
                Some(_) => {}
                // It names no work: any account will say so.
                None => owner = self.router.healthy(call.query.email()).await,
            }
        }
        let answer = self.read(&mut call, body, owner.as_deref()).await?;
        Ok(response::carried(answer))
    }

    /// The upstream cannot be asked for the owner of a work. So the download itself is sent to one account
    /// after the other until one has the work: a download changes nothing. Those that could not be asked are
    /// asked again within `forward.wait`.
    async fn search_download(&self, mut call: Call, work: Reference) -> Result<Carried, Error> {
        call.headers.remove(header::CONTENT_LENGTH);
        let deadline = Instant::now() + self.settings.wait;
        let list = self.router.list(deadline).await;
        let list = list.ok_or(Error::OwnerUnknown)?;
        let mut left = emails(&list.accounts, call.query.email());
        let mut missing = None;
        for pass in 0.. {
            let (mut unanswered, mut has_hung) = (Vec::new(), false);
            for (idx, email) in left.into_iter().enumerate() {
                if idx >= SEARCH_ACCOUNTS_MAX && deadline <= Instant::now() {
                    return Err(Error::OwnerUnknown);
                }
                let asking = self.ask_for_work(&call, &work, &email);
                let answered = if pass == 0 {
                    let place = self.download_searches.acquire().await;
                    let _place = place.expect("the semaphore is never closed");
                    timeout(HUNG_AFTER, asking).await
                } else {
                    // A search that waits for a hung account holds no place.
                    Ok(asking.await)
                };
                has_hung |= answered.is_err();
                match answered {
                    Ok(WorkAnswer::Found(answer)) => return Ok(answer),
                    Ok(WorkAnswer::Missing(answer)) => missing = missing.or(Some(answer)),
                    Ok(WorkAnswer::Unknown) | Err(_) => unanswered.push(email),
                }
            }
            if unanswered.is_empty() {
                break;
            }
            if !has_hung && deadline <= Instant::now() {
                return Err(Error::OwnerUnknown);
            }
            sleep(doubled(READ_PAUSE, pass, PASS_PAUSE_MAX)).await;
            left = unanswered;
        }
        missing.ok_or(Error::OwnerUnknown)
    }

    /// Sends the download to one account, and learns that it has the work.
    async fn ask_for_work(&self, call: &Call, work: &Reference, email: &Arc<str>) -> WorkAnswer {
        let headers = call.headers.clone();
        let sent = self.sender.pass_without_body(call, headers, Some(email));
        let Ok(answer) = sent.await else {
            return WorkAnswer::Unknown;
        };
        match answer.status() {
            StatusCode::NOT_FOUND => match not_found(answer).await {
                Some(answer) => WorkAnswer::Missing(answer),
                None => WorkAnswer::Unknown,
            },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => WorkAnswer::Unknown,
            status if status.as_u16() >= 500 => WorkAnswer::Unknown,
            status => {
                if status.is_success() {
                    self.owners.learn(work.kind, &work.text, email);
                }
                WorkAnswer::Found(response::carried(answer))
            }
        }
    }
}

/// A 404 that came whole and is about the work, not about the account.
async fn not_found(answer: Response<Answer>) -> Option<Carried> {
    let (head, body) = answer.into_parts();
    let read = response::peek(body).await;
    let is_about_work = read.is_whole() && !is_about_account(&read.bytes);
    response::into_response(Response::from_parts(head, read))
        .ok()
        .filter(|_| is_about_work)
}
