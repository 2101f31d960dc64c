//! Our own HTTP surface: `/pick`, `/leases`, `/accounts`, `/jobs`, `/events`, the page, health and metrics.
//!
//! Knows requests and answers; asks the [`Ledger`] and does not know its internals. Every call ends
//! in one place, where it is counted and logged.

mod accounts;
mod clients;
mod cors;
mod events;
mod gate;
mod head;
mod health;
mod jobs;
mod leases;
mod openapi;
mod page;
mod params;
mod pick;
mod reply;
mod request_id;
mod route;
mod slices;
mod starting;
mod status;

use std::{future::ready, mem, pin::Pin, sync::Arc};

use accounts_fetcher::Listing;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

pub(crate) use clients::Clients;
pub(crate) use gate::Gate;
pub(crate) use reply::Reply;
pub(crate) use starting::while_starting;

use crate::{
    book::BookWatch,
    boxed::pinned,
    config::{AccountLabel, Config, Leases, Selection},
    error::Error,
    events::Events,
    forward::{CallOrigin, Forward},
    jobs::Rounds,
    ledger::{Ledger, Statistics},
    metrics::{self, AccountSums, MethodLabel, Metrics, RouteLabel, Scrape},
    peer::{Client, RequestBody},
    picker::Picker,
};
use head::Head;
#[cfg(any(test, feature = "fuzzing"))]
pub use pick::check::params as pick_params;
use request_id::{REQUEST_ID, request_id};
pub(crate) use route::ROUTES;
use route::{Endpoint, Route};
use status::Status;

/// The most header lines of a request: hyper's own default.
pub(crate) const HEADERS_MAX: usize = 100;
/// The largest head of a request, target included: the longest list of exclusions fits into it.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Which listener a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// The API.
    Main,
    /// The metrics listener: monitoring only, no token asked.
    Monitoring,
}

/// The surface, ready to answer.
#[derive(Debug)]
pub(crate) struct Api {
    deps: ApiDeps,
    gate: Gate,
    selection: Selection,
    leases: Leases,
    account_label: AccountLabel,
    status: Status,
}

/// The parts that answer.
#[derive(Debug)]
pub(crate) struct ApiDeps {
    /// What this sidecar is called.
    pub(crate) instance: String,
    pub(crate) ledger: Arc<Ledger>,
    /// What is kept over a restart.
    pub(crate) book: BookWatch,
    pub(crate) listing: watch::Receiver<Listing>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Events,
    /// How many clients may read events at once.
    pub(crate) event_readers_max: usize,
    pub(crate) picker: Arc<Picker>,
    pub(crate) upstream: Option<UpstreamDeps>,
}

/// The parts that need the upstream's token.
#[derive(Debug)]
pub(crate) struct UpstreamDeps {
    /// Carries calls.
    pub forward: Arc<Forward>,
    /// Asks which jobs run, if it is switched on.
    pub rounds: Option<Arc<Rounds>>,
}

/// The answer to a call that was let in.
///
/// It is boxed, since every connection has room for what a call is awaited with, also while it is idle.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

impl Api {
    /// A surface over `deps` behind `gate`.
    pub(crate) fn new(config: &Config, gate: Gate, mut deps: ApiDeps) -> Self {
        let rounds = deps.upstream.as_ref().map(|it| it.rounds.is_some());
        let instance = mem::take(&mut deps.instance);
        Self {
            deps,
            gate,
            selection: config.selection,
            leases: config.leases,
            account_label: config.account_label,
            status: Status::new(instance, rounds == Some(true)),
        }
    }

    /// Answers one call. It is let in when this is called, and takes what it needs of its request then: most calls need
    /// nothing more, and each move of a request takes 30 instructions.
    ///
    /// Cancel-safe: dropped while a pick waits, it leaves the queue and takes no slot.
    pub(crate) fn answer<'a>(
        &'a self,
        request: &mut Request<RequestBody>,
        kind: ListenerKind,
        client: &'a Client,
    ) -> impl Future<Output = Reply> + Send + use<'a> {
        let head = Head::of(request.headers());
        let request_id = request_id(&head);
        let route = Route::find(request.uri().path());
        let route = route.filter(|route| kind == ListenerKind::Main || route.is_monitoring());
        let row = route.as_ref().map(|route| route.row);
        let route_label = RouteLabel::of(route.as_ref().map(|route| route.place));
        let method = MethodLabel::of(request.method());
        let count = self.deps.metrics.count_request(route_label, method);
        let origin = self.gate.allowed_origin(&head);
        // A browser shows no token before it knows that it may.
        let admitted = if origin.is_some() && cors::is_preflight(request) {
            let allowed = cors::preflight(request.headers());
            Ok(Box::pin(ready(Ok(allowed))) as Answering<'_>)
        } else {
            match self.admit(request, &head, route, kind) {
                Ok((route, by)) => {
                    let (id, came_at) = (&request_id, count.started());
                    let answering = self.answer_admitted(request, route, by, id, client, came_at);
                    Ok(within_span(answering, &request_id))
                }
                Err(error) => Err(error),
            }
        };
        async move {
            let answered = match admitted {
                Ok(answering) => answering.await,
                Err(error) => Err(error),
            };
            let mut reply = match answered {
                Ok(reply) => reply,
                Err(error) => {
                    debug_assert!(
                        row.is_none_or(|row| row.may_refuse(method.as_str(), error.facts().reason)),
                        "{} {} is refused for {}: ROUTES does not say so",
                        method.as_str(),
                        route_label.as_str(),
                        error.facts().reason
                    );
                    reply::error(&error, &request_id)
                }
            };
            // An answer of the upstream passes unchanged.
            if !reply.body().is_carried()
                && let Ok(value) = HeaderValue::try_from(&*request_id)
            {
                reply.headers_mut().insert(REQUEST_ID, value);
            }
            if let Some(origin) = origin {
                cors::allow(&mut reply, origin);
            }
            let status = reply.status();
            let started = count.started();
            let ended = count.end(status);
            client.note_answered(ended);
            tracing::debug!(
                request_id = &*request_id,
                http.request.method = method.as_str(),
                http.route = route_label.as_str(),
                http.response.status_code = status.as_u16(),
                elapsed_ms = (ended - started).as_millis(),
                "request answered"
            );
            reply
        }
    }

    /// Lets a call in, or says why not. Returns its route, and who makes it.
    fn admit(
        &self,
        request: &Request<RequestBody>,
        head: &Head<'_>,
        route: Option<Route>,
        kind: ListenerKind,
    ) -> Result<(Route, clients::Client), Error> {
        check_size(request, head)?;
        check_method(request.method())?;
        let caller = self.gate.admit(request, head, route.as_ref(), kind)?;
        let Some(route) = route else {
            return Err(Error::NoRoute);
        };
        route.check(request)?;
        Ok((route, caller))
    }

    /// Takes of the request what it needs.
    fn answer_admitted<'a>(
        &'a self,
        request: &mut Request<RequestBody>,
        route: Route,
        by: clients::Client,
        request_id: &Arc<str>,
        client: &Client,
        came_at: Instant,
    ) -> Answering<'a> {
        let name = route.name;
        let query = |request: &Request<_>| request.uri().query().unwrap_or_default().to_owned();
        match route.row.endpoint {
            Endpoint::Pick => self.pick(request, by.caller, Arc::clone(request_id), came_at),
            Endpoint::Lease if request.method() == Method::DELETE => {
                Box::pin(async move { self.release(&name).await })
            }
            Endpoint::Lease => {
                let request = mem::take(request);
                Box::pin(async move { self.lease(request, &name).await })
            }
            Endpoint::Leases => {
                let query = query(request);
                Box::pin(async move { self.list_leases(&query).await })
            }
            Endpoint::Accounts => {
                let query = query(request);
                Box::pin(async move { self.list_accounts(&query).await })
            }
            Endpoint::Account => Box::pin(async move { self.account(&name).await }),
            Endpoint::Drain => Box::pin(async move { self.set_draining(&name, true).await }),
            Endpoint::Resume => Box::pin(async move { self.set_draining(&name, false).await }),
            Endpoint::Upstream => {
                let origin = CallOrigin {
                    caller: by.caller,
                    client: client.clone(),
                    request_id: Arc::clone(request_id),
                };
                pinned(|| self.carry(mem::take(request), origin))
            }
            Endpoint::Status => {
                let headers = mem::take(request.headers_mut());
                Box::pin(async move {
                    let mut reply = self.status(&headers).await?;
                    page::tell_access(&mut reply, by.is_read_only);
                    Ok(reply)
                })
            }
            Endpoint::Jobs => {
                let query = query(request);
                Box::pin(async move { self.list_jobs(&query).await })
            }
            Endpoint::Events => Box::pin(ready(self.read_events(request.headers()))),
            Endpoint::Home => Box::pin(ready(Ok(page::redirect()))),
            Endpoint::Page(file) => Box::pin(ready(Ok(page::file(file)))),
            Endpoint::OpenApi => Box::pin(ready(Ok(openapi::document()))),
            Endpoint::Metrics => Box::pin(self.scrape()),
            Endpoint::Livez => Box::pin(ready(Ok(reply::text(StatusCode::OK, "alive\n")))),
            Endpoint::Readyz | Endpoint::Healthz => {
                let (query, request_id) = (query(request), Arc::clone(request_id));
                Box::pin(async move { Ok(self.readiness(&query, &request_id).await) })
            }
        }
    }

    async fn carry(
        &self,
        request: Request<RequestBody>,
        origin: CallOrigin,
    ) -> Result<Reply, Error> {
        let upstream = self.deps.upstream.as_ref();
        let upstream = upstream.ok_or(Error::NotForwarding)?;
        let carried = upstream.forward.carry(request, &origin);
        Ok(reply::carried(carried.await?))
    }

    async fn scrape(&self) -> Result<Reply, Error> {
        let mut accounts = AccountSums::new(self.account_label);
        self.deps
            .ledger
            .each_account(|account| accounts.add(account))
            .await?;
        // An account may have been forgotten since it was added: its counts are found here now.
        let stats = self.deps.ledger.call(Statistics).await?;
        accounts.add_tallies(&stats.tallies);
        let listing = self.deps.listing.borrow().clone();
        let rounds = self
            .deps
            .upstream
            .as_ref()
            .and_then(|it| it.rounds.as_ref());
        let book = self.deps.book.borrow().clone();
        let scrape = Scrape {
            book: &book,
            events: &self.deps.events,
            stats: &stats,
            accounts: &accounts,
            listing: &listing,
            rounds: rounds.map(|rounds| rounds.counts()),
        };
        Ok(match self.deps.metrics.render(&scrape).await {
            Ok(text) => reply::with_type(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics; this is a bug, please report it");
                reply::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics cannot be written\n",
                )
            }
        })
    }
}

/// Has what `answering` logs told with the id of its request, if anything of it is logged.
fn within_span<'a>(answering: Answering<'a>, request_id: &str) -> Answering<'a> {
    let span = tracing::debug_span!("request", request_id);
    if span.is_disabled() {
        return answering;
    }
    Box::pin(answering.instrument(span))
}

fn check_size(request: &Request<RequestBody>, head: &Head<'_>) -> Result<(), Error> {
    let target_bytes = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    if head.lines_count() > HEADERS_MAX || target_bytes + head.bytes > HEAD_BYTES_MAX {
        return Err(Error::HeadersTooLarge {
            lines_max: HEADERS_MAX,
            bytes_max: HEAD_BYTES_MAX,
        });
    }
    Ok(())
}

/// Refuses methods that would make us a tunnel, or show our token to the client.
fn check_method(method: &Method) -> Result<(), Error> {
    const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Error::MethodNotAllowed { allow: ALLOW });
    }
    Ok(())
}
