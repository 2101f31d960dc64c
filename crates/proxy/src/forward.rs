//! The transparent proxy: what a call to the upstream means, and what is changed in passing.
//!
//! A call passes as it came, both ways, byte for byte and with back-pressure. Three things differ:
//! the token is ours, an `email` is put in where the table of [`operations`] says so and the client
//! gave none, and a call that starts a job takes a slot first.
//!
//! Invariants: a job start is sent once, in a task of its own, under a slot that goes back only
//! where the upstream provably refused it; an account that answers nothing is never guessed to own
//! a task; nothing of the client's own credentials goes upstream.
//!
//! Rooms: `call` reads the head of a call, `whole` the bodies that are read whole, `answer` the
//! answers; `submit` carries job starts, `answers` keeps what came of them and `replay` answers them again,
//! `task` carries what is about one task, `work` downloads. `owners` says where a call goes by what
//! it names, `holdings` remembers whose that is, and `overheard` learns it from answers. What is pure
//! stands apart: [`operations`], [`mentions`], [`lessons`], [`headers`], [`email`], [`outcome`].

mod answer;
mod answers;
mod budget;
mod call;
pub mod email;
pub mod headers;
mod holdings;
pub mod lessons;
pub mod mentions;
pub mod operations;
pub mod outcome;
mod overheard;
mod owners;
mod replay;
mod submit;
mod task;
mod whole;
mod work;

use std::{future, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Listing, Snapshot, Waker};
use bytes::Bytes;
use foldhash::quality::RandomState;
use http::{Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    config::{self, Config, Selection},
    error::Error,
    idempotency::Caller,
    jobs::Rounds,
    ledger::{AccountNow, Ledger},
    metrics::Metrics,
    picker::Picker,
    pool::Name,
    upstream::{Answer, BoxError, Idle, SendError, Upstream},
};
use answer::Beginning;
use answers::Answers;
use budget::{ATTEMPTS_MAX, Budget, pause_after};
use call::Call;
use holdings::Holdings;
use operations::Class;
use whole::{Buffer, Outgoing};

pub use answer::{Carried, CarriedBody};
pub use call::is_upstream;

/// How long a call waits for the first account list. A client that polls for a paid job gives up on
/// any error, also in the first moments after a restart.
const LIST_WAIT: Duration = Duration::from_secs(5);

/// How often a read is asked at the most, and the pause after the first time: a gateway that
/// restarts is back within a second or two.
const READ_ATTEMPTS_MAX: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(250);

/// What carries calls.
#[derive(Debug)]
pub struct Forward {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    picker: Arc<Picker>,
    rounds: Arc<Rounds>,
    holdings: Arc<Holdings>,
    listing: watch::Receiver<Listing>,
    fetcher: Waker,
    metrics: Arc<Metrics>,
    settings: config::Forward,
    selection: Selection,
    request_timeout: Duration,
    idle_timeout: Duration,
    buffer: Buffer,
    retries: Budget,
    answers: Answers,
    /// What fingerprints of requests are made with.
    hasher: RandomState,
    submissions: TaskTracker,
}

/// The parts of the house that carrying takes.
#[derive(Debug)]
pub struct Parts {
    /// Towards the upstream.
    pub upstream: Arc<Upstream>,
    /// The book.
    pub ledger: Arc<Ledger>,
    /// Picks from it.
    pub picker: Arc<Picker>,
    /// Who owns which task; woken by surprises.
    pub rounds: Arc<Rounds>,
    /// The account list.
    pub listing: watch::Receiver<Listing>,
    /// Fetches the list anew.
    pub fetcher: Waker,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

impl Forward {
    /// Carries calls with these parts and settings.
    pub fn new(config: &Config, parts: Parts) -> Self {
        Self {
            upstream: parts.upstream,
            ledger: parts.ledger,
            picker: parts.picker,
            holdings: Arc::new(Holdings::new(Arc::clone(parts.rounds.owners()))),
            rounds: parts.rounds,
            listing: parts.listing,
            fetcher: parts.fetcher,
            metrics: parts.metrics,
            settings: config.forward.clone(),
            selection: config.selection,
            request_timeout: config.upstream.request_timeout,
            idle_timeout: config.upstream.idle_timeout,
            retries: Budget::full(),
            answers: Answers::new(),
            hasher: RandomState::default(),
            buffer: Buffer::new(&config.forward),
            submissions: TaskTracker::new(),
        }
    }

    /// Carries one call of `caller` and returns the upstream's answer.
    ///
    /// Dropped, it takes back what was not sent yet; a job start that was sent goes on.
    ///
    /// # Errors
    /// Why the upstream was not asked, or what became of the answer.
    pub async fn carry(
        self: &Arc<Self>,
        request: Request<Incoming>,
        caller: Caller,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let (head, body) = request.into_parts();
        let call = Call::read(head, &self.settings.extra_jobs)?;
        match call.class {
            Class::JobStart => self.start_job(call, body, caller, request_id).await,
            Class::Create => self.create(call, body).await,
            Class::Task => self.about_task(call, body).await,
            Class::Untrack => self.untrack(call, body).await,
            Class::Download => self.download(call, body).await,
            Class::Read => {
                let email = self.any_account(&call).await?;
                let answer = self.read(&call, body, email.clone()).await?;
                Ok(self.overhear(&call, answer, email))
            }
            Class::Upload => {
                let email = self.any_account(&call).await?;
                let answer = self.pass(&call, body, email.clone()).await?;
                Ok(self.overhear(&call, answer, email))
            }
            Class::Other => self.other(&call, body).await,
        }
    }

    /// False while calls are refused since no connection to the upstream could be opened.
    pub fn is_reachable(&self) -> bool {
        self.upstream.is_reachable()
    }

    /// Waits until no submission is under way whose client has left. No call may come in any more.
    pub async fn drained(&self) {
        self.submissions.close();
        self.submissions.wait().await;
    }

    /// Makes something that takes no slot: on the account that owns what it is made of, or on any.
    async fn create(&self, call: Call, body: Incoming) -> Result<Carried, Error> {
        let mut whole = self.buffer.read(&call, body, self.idle_timeout).await?;
        let preferred = self.place(&mut whole).await?;
        let email = match whole.email() {
            Some(given) => self.respelled(given).await,
            None => self.healthy(preferred).await,
        };
        let outgoing = whole.outgoing(&call, email.as_deref())?;
        let mut answer = self.send_whole(&call, &outgoing).await?;
        answer::name_account(&mut answer, outgoing.email.as_deref());
        let asked = outgoing.email.map(Arc::from);
        Ok(self.overhear(&call, answer, asked))
    }

    /// Sends what was read whole, and again if nothing was sent.
    async fn send_whole(
        &self,
        call: &Call,
        outgoing: &Outgoing,
    ) -> Result<Response<Answer>, SendError> {
        self.retries.earn();
        let mut attempts = 1;
        loop {
            let body = Full::new(outgoing.body.clone());
            let headers = outgoing.headers.clone();
            let sent = self.send(call, &outgoing.target, headers, body).await;
            let is_unsent = matches!(sent, Err(SendError::NotSent(_)));
            let may_go_on = attempts < ATTEMPTS_MAX && self.upstream.is_reachable();
            if !is_unsent || !may_go_on || !self.retries.spend() {
                return sent;
            }
            sleep(pause_after(attempts)).await;
            attempts += 1;
        }
    }

    /// Passes a call on as it came, unless the owner of what it names is known. One that changes the
    /// accounts is a reason to fetch them.
    async fn other(&self, call: &Call, body: Incoming) -> Result<Carried, Error> {
        let owner = match call.query.email() {
            Some(_) => None,
            None => self.holdings.strict_owner(&call.mentions)?,
        };
        let answer = self.pass(call, body, owner).await?;
        if call.changes_accounts() && answer.status().is_success() {
            self.fetcher.wake();
        }
        Ok(self.overhear(call, answer, None))
    }

    /// Passes a read on, and again where it failed for a reason that passes: it changes nothing, and
    /// vendor clients give up a paid job on the first bad answer to a poll.
    async fn read(
        &self,
        call: &Call,
        body: Incoming,
        email: Option<Arc<str>>,
    ) -> Result<Response<Answer>, Error> {
        self.read_and(call, body, email, future::ready, |_| false)
            .await
    }

    /// The same, with the answer whole: one that breaks off is asked for again, too.
    async fn read_whole(
        &self,
        call: &Call,
        body: Incoming,
        email: Option<Arc<str>>,
    ) -> Result<Response<Beginning>, Error> {
        self.read_and(call, body, email, answer::begin, Beginning::is_broken)
            .await
    }

    async fn read_and<B, F>(
        &self,
        call: &Call,
        body: Incoming,
        email: Option<Arc<str>>,
        take: impl Fn(Answer) -> F,
        is_broken: fn(&B) -> bool,
    ) -> Result<Response<B>, Error>
    where
        F: Future<Output = B>,
    {
        // What a body says can be passed on only once.
        let is_repeatable = call.is_read() && body.is_end_stream();
        if !is_repeatable {
            let answer = self.pass(call, body, email).await?;
            return Ok(taken(answer, take).await);
        }
        self.retries.earn();
        let begun = Instant::now();
        let mut attempts = 1;
        loop {
            let body = Empty::<Bytes>::new();
            let mut answer = match self.pass(call, body, email.clone()).await {
                Ok(answer) => Ok(taken(answer, &take).await),
                Err(error) => Err(error),
            };
            let may_pass = match &answer {
                Ok(answer) => is_transient(answer.status()) || is_broken(answer.body()),
                Err(error) => matches!(error, Error::Unreachable | Error::OutcomeUnknown),
            };
            let is_last = attempts == READ_ATTEMPTS_MAX
                || begun.elapsed() >= self.request_timeout
                || !self.upstream.is_reachable();
            if !may_pass || is_last || !self.retries.spend() {
                if let Ok(answer) = &mut answer {
                    answer::count_attempts(answer, attempts);
                }
                return answer;
            }
            // It holds a place among the upstream's requests.
            drop(answer);
            sleep(READ_PAUSE * attempts).await;
            attempts += 1;
        }
    }

    /// Passes a call on as it came, but for `email`, if there is one, in its query.
    async fn pass<B>(
        &self,
        call: &Call,
        body: B,
        email: Option<Arc<str>>,
    ) -> Result<Response<Answer>, Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let target = match &email {
            Some(email) => call.target_with(email),
            None => call.target().to_owned(),
        };
        let mut headers = call.headers.clone();
        if call.is_chunked {
            headers.insert(header::TRANSFER_ENCODING, call::CHUNKED);
        }
        let body = Idle::new(body, self.idle_timeout);
        let mut answer = self.send(call, &target, headers, body).await?;
        answer::name_account(&mut answer, email.as_deref().or(call.query.email()));
        Ok(answer)
    }

    /// Sends a request and strips what of its answer belongs to the connection it came by.
    async fn send<B>(
        &self,
        call: &Call,
        target: &str,
        headers: http::HeaderMap,
        body: B,
    ) -> Result<Response<Answer>, SendError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let begun = Instant::now();
        let sent = self
            .upstream
            .send(call.method.clone(), target, headers, body);
        let sent = sent.await;
        let elapsed = begun.elapsed();
        self.metrics.count_carried(call.class, elapsed);
        let status = sent.as_ref().map(|answer| answer.status().as_u16());
        tracing::debug!(
            class = call.class.as_str(),
            http.response.status_code = status.as_ref().ok(),
            error = status.err().map(tracing::field::display),
            elapsed_ms = elapsed.as_millis(),
            "call carried"
        );
        let mut answer = sent?;
        if !headers::has_only_chunks(answer.headers()) {
            let error = "its answer came in a transfer coding that nobody asked for";
            return Err(SendError::Lost(error.into()));
        }
        // Each hop speaks its own version, RFC 9112 §2.3: an old upstream makes no old sidecar.
        *answer.version_mut() = Version::HTTP_11;
        headers::strip_answer(answer.headers_mut());
        Ok(answer)
    }

    /// The account for a call that any healthy one can answer, unless the client named one, or the
    /// call something that belongs to one.
    async fn any_account(&self, call: &Call) -> Result<Option<Arc<str>>, Error> {
        match self.owner_in_head(call).await? {
            None if call.query.email().is_none() => Ok(self.first_healthy().await),
            owner => Ok(owner),
        }
    }

    /// The list's spelling of an e-mail that a client gave in another one: it would be told that
    /// there is no such account, on which we started its job. One that is not in the list goes as
    /// it came.
    async fn respelled(&self, given: &str) -> Option<Arc<str>> {
        let email = Name::new(given);
        let account = self.ledger.call(AccountNow { email }).await.ok()?.ok()?;
        Some(account.view.email).filter(|email| **email != *given)
    }

    /// The first account of the list that is not in error, or else the first: what it answers says
    /// more than that an e-mail is wanted.
    async fn first_healthy(&self) -> Option<Arc<str>> {
        let list = self.list().await?;
        let healthy = list.accounts.iter().find(|account| is_healthy(account));
        let account = healthy.or(list.accounts.first())?;
        Some(Arc::clone(&account.email))
    }

    /// The newest account list. Waits a little for the first one.
    async fn list(&self) -> Option<Arc<Snapshot>> {
        let mut listing = self.listing.clone();
        let first = listing.wait_for(|listing| listing.snapshot.is_some());
        let listing = timeout(LIST_WAIT, first).await.ok()?.ok()?;
        listing.snapshot.clone()
    }
}

async fn taken<B, F>(answer: Response<Answer>, take: impl Fn(Answer) -> F) -> Response<B>
where
    F: Future<Output = B>,
{
    let (head, body) = answer.into_parts();
    Response::from_parts(head, take(body).await)
}

/// The upstream, or what stands in front of it, is in trouble for a moment. 520 to 527 are the
/// troubles of a gateway with its origin.
fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504 | 520..=527)
}

fn is_healthy(account: &Account) -> bool {
    account.error.is_none()
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotSent(_) => Self::Unreachable,
            SendError::Lost(_) => Self::OutcomeUnknown,
            SendError::TimedOut(_) => Self::TimedOut,
            SendError::Unfinished(_) => Self::bad_request(
                "body",
                "it broke off, or stood still for longer than upstream.idle_timeout",
            ),
        }
    }
}
