//! Downloads of works, which only the account that made them has.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    Forward,
    answer::{self, Carried},
    call::Call,
    mentions::Mention,
};
use crate::{
    error::Error,
    jobs::{OWNER_ACCOUNTS_MAX, speaks_of_account},
    upstream::Answer,
};

impl Forward {
    /// Downloads works, from the account that has them.
    pub(super) async fn download(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
        let mut owner = self.owner_in_head(&call).await?;
        if owner.is_none() && call.query.email().is_none() {
            match call.mentions.first().cloned() {
                // A body could be sent only once.
                Some(work) if body.is_end_stream() => {
                    let found = timeout(self.request_timeout, self.search_download(call, work));
                    return found.await.unwrap_or(Err(Error::OwnerUnknown));
                }
                Some(_) => {}
                // It names no work: any account says so.
                None => owner = self.first_healthy().await,
            }
        }
        self.read(&call, body, owner).await.map(answer::carried)
    }

    /// Nobody can be asked whose a work is. So the download itself is asked of one account after the
    /// other, as long as they do not have the work: it changes nothing.
    async fn search_download(&self, mut call: Call, work: Mention) -> Result<Carried, Error> {
        call.headers.remove(header::CONTENT_LENGTH);
        let list = self.list().await.ok_or(Error::OwnerUnknown)?;
        let _search = self.rounds.search().await;
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
                        let Mention { kind, text, .. } = work;
                        self.holdings.learn_name(kind, text, &account.email);
                    }
                    return Ok(answer::carried(answer));
                }
            }
        }
        missing
            .filter(|_| is_missing_everywhere)
            .ok_or(Error::OwnerUnknown)
    }
}

/// A 404 that came whole and speaks of the work, not of the account.
async fn not_found(answer: Response<Answer>) -> Option<Carried> {
    let (head, body) = answer.into_parts();
    let read = answer::begin(body).await;
    let is_about_work = read.is_whole() && !speaks_of_account(&read.bytes);
    answer::resumed(Response::from_parts(head, read))
        .ok()
        .filter(|_| is_about_work)
}
