//! Downloads of works, which only the account that made them has.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::{
    Forward,
    call::Call,
    response::{self, Carried},
};
use crate::{
    error::Error,
    kling::{references::Reference, task::is_about_account},
    owners::{SEARCH_ACCOUNTS_MAX, emails},
    upstream::Answer,
};

/// The most downloads that are searched at once: they are whole calls, and each asks one account at a time.
pub(super) const SEARCHES_MAX: usize = 16;

impl Forward {
    /// Downloads works, from the account that has them.
    pub(super) async fn download(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
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
        self.read(&call, body, owner).await.map(response::carried)
    }

    /// The upstream cannot be asked for the owner of a work. So the download itself is sent to one account
    /// after the other until one has the work: a download changes nothing.
    async fn search_download(&self, mut call: Call, work: Reference) -> Result<Carried, Error> {
        call.headers.remove(header::CONTENT_LENGTH);
        let deadline = Instant::now() + self.settings.wait;
        let list = self
            .router
            .list(deadline)
            .await
            .ok_or(Error::OwnerUnknown)?;
        let place = self.download_searches.acquire().await;
        let _place = place.expect("the semaphore is never closed");
        let mut missing = None;
        let mut is_missing_everywhere = list.accounts.len() <= SEARCH_ACCOUNTS_MAX;
        let emails = emails(&list.accounts, call.query.email());
        for email in emails.iter().take(SEARCH_ACCOUNTS_MAX) {
            let target = call.target_with(email);
            let headers = call.headers.clone();
            let sent = self
                .sender
                .send(&call, &target, headers, Empty::<Bytes>::new());
            let Ok(mut answer) = sent.await else {
                is_missing_everywhere = false;
                continue;
            };
            response::name_account(&mut answer, Some(email));
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
                        let Reference { kind, text, .. } = work;
                        self.owners.learn(kind, &text, email);
                    }
                    return Ok(response::carried(answer));
                }
            }
        }
        missing
            .filter(|_| is_missing_everywhere)
            .ok_or(Error::OwnerUnknown)
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
