//! The transparent proxy: what a call to the upstream needs, and what is changed in passing.
//!
//! A call passes as it came, both ways, byte for byte and with back-pressure. Besides the headers of a
//! connection, three things differ: the token is ours, an `email` is put in where `kling/endpoints.rs` says so and the
//! client gave none, and a call that starts a job takes a slot first.
//!
//! Invariants: a job start is sent once, whatever its client does meanwhile, under a slot that goes back only
//! where the upstream provably refused it; an owner is never guessed; no credentials of the client go
//! upstream.
//!
//! [`Forward`] has a short method for each class of calls, over four collaborators: `router` finds the
//! account, `sender` sends one request, `retry` says whether it is sent again, `submissions` sends job starts
//! and settles them by the table in `outcome`. `call` reads the head of a call, `buffered` the bodies that are
//! read whole, `email` puts the e-mail in, `response` passes answers on, and `replay` sends those
//! again that the records of job starts keep.

mod account_list;
mod body_memory;
mod buffered;
mod call;
mod download;
pub mod email;
mod fingerprint;
mod growing;
mod job_start;
mod marking;
mod outcome;
mod patience;
mod replay;
mod response;
mod retry;
mod router;
mod sender;
mod submissions;
mod task;

use std::{future, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use accounts_fetcher::{Listing, Waker};
use http::{Request, Response};
use http_body::Body;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    boxed::pinned,
    config::{self, Config, Selection},
    error::Error,
    idempotency::Caller,
    jobs::Rounds,
    kling::endpoints::{self, Class},
    ledger::Ledger,
    metrics::{Metrics, RetryReason},
    owners::{Observation, ObservedBody, OwnerSearch, Owners},
    peer::{Client, RequestBody},
    picker::Picker,
    records::JobRecords,
    upstream::{Answer, SendError, Upstream},
};
use account_list::AccountList;
use buffered::{BodyBuffer, BufferedRequest, OutgoingRequest};
use call::Call;
use patience::Patience;
use response::PeekedBody;
use retry::{READ_PAUSE, Retry, UNSENT_PAUSE, is_transient};
use router::Router;
use sender::Sender;
use submissions::Submissions;

pub use call::is_upstream;
pub use response::{Carried, CarriedBody};

/// Carries calls.
#[derive(Debug)]
pub struct Forward {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    picker: Arc<Picker>,
    owners: Arc<Owners>,
    rounds: Arc<Rounds>,
    fetcher: Waker,
    router: Router,
    sender: Arc<Sender>,
    /// Of everything but job starts.
    retry: Retry,
    submissions: Arc<Submissions>,
    buffer: BodyBuffer,
    settings: config::Forward,
    selection: Selection,
    /// Places of downloads that are searched.
    download_searches: Semaphore,
    request_timeout: Duration,
    idle_timeout: Duration,
    metrics: Arc<Metrics>,
    records: Arc<JobRecords>,
}

/// What carrying needs of the sidecar.
#[derive(Debug)]
pub struct ForwardDeps {
    /// The client of the upstream.
    pub upstream: Arc<Upstream>,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// Picks from it.
    pub picker: Arc<Picker>,
    /// The owners that are known.
    pub owners: Arc<Owners>,
    /// Woken when a round has to look.
    pub rounds: Arc<Rounds>,
    /// The account list.
    pub listing: watch::Receiver<Listing>,
    /// Fetches the list anew.
    pub fetcher: Waker,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// What became of job starts.
    pub(crate) records: Arc<JobRecords>,
}

/// Who makes a call.
#[derive(Debug)]
pub(crate) struct CallOrigin {
    /// By its token.
    pub(crate) caller: Caller,
    /// By its connection.
    pub(crate) client: Client,
    /// What the call is named in logs and records.
    pub(crate) request_id: Arc<str>,
}

impl CallOrigin {
    /// The address that tells the client from others, if it shows no token.
    fn ip(&self) -> Option<IpAddr> {
        let has_token = !self.caller.scope().is_empty();
        (!has_token).then(|| self.client.ip())
    }
}

impl Forward {
    /// Carries calls with these settings.
    pub fn new(config: &Config, deps: ForwardDeps) -> Self {
        let ForwardDeps {
            upstream,
            ledger,
            picker,
            owners,
            rounds,
            listing,
            fetcher,
            metrics,
            records,
        } = deps;
        let mut settings = config.forward.clone();
        for job in &mut settings.extra_jobs {
            *job = endpoints::plain(job).into_owned();
        }
        let request_timeout = config.upstream.request_timeout;
        let idle_timeout = config.upstream.idle_timeout;
        let search = OwnerSearch::new(Arc::clone(&upstream), Arc::clone(&owners), listing.clone());
        let sender = Arc::new(Sender::new(
            Arc::clone(&upstream),
            Arc::clone(&metrics),
            idle_timeout,
        ));
        let submissions = Submissions {
            sender: Arc::clone(&sender),
            retry: Retry::new(Arc::clone(&upstream), request_timeout),
            ledger: Arc::clone(&ledger),
            picker: Arc::clone(&picker),
            owners: Arc::clone(&owners),
            rounds: Arc::clone(&rounds),
            account_list: AccountList::new(listing.clone(), fetcher.clone()),
            settings: settings.clone(),
            records: Arc::clone(&records),
            under_way: TaskTracker::new(),
        };
        Self {
            router: Router::new(
                Arc::clone(&ledger),
                Arc::clone(&owners),
                search,
                listing,
                Arc::clone(&metrics),
            ),
            retry: Retry::new(Arc::clone(&upstream), request_timeout),
            submissions: Arc::new(submissions),
            buffer: BodyBuffer::new(&settings),
            settings,
            selection: config.selection,
            download_searches: Semaphore::new(download::SEARCHES_MAX),
            metrics,
            records,
            upstream,
            ledger,
            picker,
            owners,
            rounds,
            fetcher,
            sender,
            request_timeout,
            idle_timeout,
        }
    }

    /// Carries one call and returns the upstream's answer.
    ///
    /// Dropped, it takes back what was not sent yet; a job start that was sent goes on.
    ///
    /// # Errors
    /// Why the upstream was not asked, or what became of the answer.
    pub(crate) async fn carry(
        &self,
        request: Request<RequestBody>,
        origin: &CallOrigin,
    ) -> Result<Carried, Error> {
        let (head, body) = request.into_parts();
        let mut call = Call::read(head, &self.settings)?;
        self.note_ignored(&call, call.query.email()).await;
        match call.class {
            // The futures of these are large: reads and polls, which are most calls, have no room for them.
            Class::JobStart => {
                let started = pinned(|| self.start_job(call, body, origin));
                started.await.map_err(Error::of_job_start)
            }
            Class::Create => pinned(|| self.create(call, body)).await,
            // A future that is pinned is not moved: 2 KB of it twice, where it is only awaited.
            Class::Task => pin!(self.about_task(&mut call, body, origin)).await,
            Class::Untrack => self.untrack(&mut call, body).await,
            Class::Download => pinned(|| self.download(call, body)).await,
            Class::Read => {
                let email = self.router.any_account(&call).await?;
                let answer = self.read(&mut call, body, email.as_deref()).await?;
                Ok(self.observe(&call, answer, email))
            }
            Class::Upload => {
                let email = self.router.any_account(&call).await?;
                let headers = call.take_headers();
                let answer = self.sender.pass(&call, headers, body, email.as_deref());
                Ok(self.observe(&call, answer.await?, email))
            }
            Class::Other => pin!(self.other(&mut call, body)).await,
        }
    }

    /// What became of job starts.
    pub(crate) fn records(&self) -> &Arc<JobRecords> {
        &self.records
    }

    /// False while calls are refused since no connection to the upstream could be opened.
    pub fn is_reachable(&self) -> bool {
        self.upstream.is_reachable()
    }

    /// Waits until no submission is under way whose client has left. No call may come in any more.
    pub async fn drained(&self) {
        self.submissions.drained().await;
    }

    /// Logs an e-mail outside the list, if the call ignores it.
    async fn note_ignored(&self, call: &Call, given: Option<&str>) {
        if let Some(given) = given.filter(|_| call.ignores_email) {
            self.router.note_ignored(given).await;
        }
    }

    /// Reads a request whole. Returns it with the end of its wait: what is left of that counts from the end of
    /// the request.
    async fn read_request(
        &self,
        call: &Call,
        body: RequestBody,
        mut patience: Patience,
    ) -> Result<(BufferedRequest, Instant), Error> {
        let buffer = &self.buffer;
        let reading = buffer.read(call, body, self.idle_timeout, &mut patience);
        let request = reading.await?;
        let deadline = Instant::now() + patience.left;
        self.note_ignored(call, request.given()).await;
        Ok((request, deadline))
    }

    /// Creates a resource that takes no slot: on the owner of what it is made of, or on a healthy account.
    async fn create(&self, call: Call, body: RequestBody) -> Result<Carried, Error> {
        let patience = Patience::of(self.settings.wait);
        let (mut request, deadline) = self.read_request(&call, body, patience).await?;
        let preferred = self.router.bind_to_owner(&mut request, deadline).await?;
        let email = match request.email() {
            Some(given) => self.router.respelled(given).await,
            None => {
                let preferred = preferred.as_deref();
                self.router
                    .healthy(request.given().into_iter().chain(preferred))
                    .await
            }
        };
        let outgoing = request.outgoing(&call, email.as_ref(), None)?;
        let answer = self.send_unsent_again(&call, &outgoing).await?;
        Ok(self.observe(&call, answer, outgoing.email))
    }

    /// Sends a request, and again if nothing was sent.
    async fn send_unsent_again(
        &self,
        call: &Call,
        outgoing: &OutgoingRequest,
    ) -> Result<Response<Answer>, SendError> {
        let mut attempts = self.retry.begin(UNSENT_PAUSE);
        loop {
            let (headers, body) = (outgoing.headers.clone(), outgoing.body.clone());
            let target = outgoing.target.as_deref().unwrap_or_else(|| call.target());
            let email = outgoing.email.as_deref();
            let sent = self.sender.send(call, target.into(), headers, body, email);
            let sent = sent.await;
            let is_unsent = matches!(sent, Err(SendError::NotSent(_)));
            if !is_unsent || !attempts.take() {
                return sent;
            }
            self.metrics.count_retry(RetryReason::Unsent);
            attempts.pause().await;
        }
    }

    /// Passes a call on as it came, unless the owner of what it refers to is known. A call that changes the
    /// accounts is a reason to fetch them.
    async fn other(&self, call: &mut Call, body: RequestBody) -> Result<Carried, Error> {
        let owner = match call.query.email() {
            Some(_) => None,
            None => self.owners.strict_owner(&call.references)?,
        };
        let headers = call.take_headers();
        let answer = pin!(self.sender.pass(call, headers, body, owner.as_deref())).await?;
        if call.changes_accounts() && answer.status().is_success() {
            self.fetcher.wake();
        }
        Ok(self.observe(call, answer, None))
    }

    /// Passes a read on, and again after a failure that may be over soon: a read changes nothing, and
    /// vendor clients give up a paid job on the first bad answer to a poll.
    fn read(
        &self,
        call: &mut Call,
        body: RequestBody,
        email: Option<&str>,
    ) -> impl Future<Output = Result<Response<Answer>, Error>> {
        self.read_and(call, body, email, future::ready, |_| false)
    }

    /// The same, with the answer read whole: one that breaks off is asked for again, too.
    fn read_whole(
        &self,
        call: &mut Call,
        body: RequestBody,
        email: Option<&str>,
    ) -> impl Future<Output = Result<Response<PeekedBody>, Error>> {
        self.read_and(call, body, email, response::peek, PeekedBody::is_broken)
    }

    async fn read_and<B, F>(
        &self,
        call: &mut Call,
        body: RequestBody,
        email: Option<&str>,
        take: impl Fn(Answer) -> F,
        is_broken: fn(&B) -> bool,
    ) -> Result<Response<B>, Error>
    where
        F: Future<Output = B>,
    {
        let mut headers = call.take_headers();
        // A body can be passed on only once.
        let is_repeatable = call.is_read() && body.is_end_stream();
        if !is_repeatable {
            let sent = Box::pin(self.sender.pass(call, headers, body, email));
            let (head, body) = sent.await?.into_parts();
            return Ok(Response::from_parts(head, take(body).await));
        }
        let mut attempts = self.retry.begin(READ_PAUSE);
        loop {
            // Not a map: few reads are sent again, and a list is copied in half the time.
            let kept: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let sent = pin!(self.sender.pass_without_body(call, headers, email)).await;
            let mut answer = match sent {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    Ok(Response::from_parts(head, pin!(take(body)).await))
                }
                Err(error) => Err(Error::from(error)),
            };
            let is_worth_repeating = match &answer {
                Ok(answer) => is_transient(answer.status()) || is_broken(answer.body()),
                Err(error) => matches!(error, Error::Unreachable | Error::OutcomeUnknown),
            };
            if !is_worth_repeating || !attempts.take() {
                if let Ok(answer) = &mut answer
                    && attempts.count() > 1
                {
                    response::count_attempts(answer, attempts.count());
                }
                return answer;
            }
            self.metrics.count_retry(match answer {
                Err(Error::Unreachable) => RetryReason::Unsent,
                Ok(_) | Err(_) => RetryReason::Failed,
            });
            // It holds a place of a request to the upstream.
            drop(answer);
            attempts.pause().await;
            headers = kept.into_iter().collect();
        }
    }

    /// Passes an answer on, and learns from it what belongs to the account that gave it: `asked`, or the
    /// one that the client named in the query.
    fn observe(&self, call: &Call, answer: Response<Answer>, asked: Option<Arc<str>>) -> Carried {
        let Some(shape) = call.shape.filter(|_| answer.status().is_success()) else {
            return response::carried(answer);
        };
        let (head, body) = answer.into_parts();
        let observation = Observation {
            owners: Arc::clone(&self.owners),
            shape,
            owner: asked.or_else(|| call.query.email().map(Arc::from)),
            headers: head.headers.clone(),
        };
        let body = ObservedBody::new(body, observation);
        response::carried(Response::from_parts(head, body))
    }
}
