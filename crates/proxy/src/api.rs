//! Our own HTTP surface: `/pick`, `/leases`, `/accounts`, `/jobs`, `/events`, the page, health and metrics.
//!
//! Knows requests and answers; asks the [`Ledger`] and does not know its internals. Every call ends
//! in one place, where it is counted and logged.

mod accounts;
mod clients;
mod cors;
mod events;
mod gate;
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

use std::{mem, sync::Arc};

use accounts_fetcher::Listing;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::sync::watch;
use tracing::Instrument;

pub(crate) use clients::Clients;
pub(crate) use gate::Gate;
pub(crate) use reply::Reply;
pub(crate) use starting::while_starting;

use crate::{
    book::BookWatch,
    config::{AccountLabel, Config, Leases, Selection},
    error::Error,
    events::Events,
    forward::{CallOrigin, Forward},
    jobs::Rounds,
    ledger::{Ledger, Statistics},
    metrics::{self, AccountSums, Metrics, Scrape},
    peer::{Client, RequestBody},
    picker::Picker,
};
#[cfg(any(test, feature = "fuzzing"))]
pub use pick::check::params as pick_params;
use request_id::{REQUEST_ID, request_id};
#[cfg(test)]
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

    /// Answers one call.
    ///
    /// Cancel-safe: dropped while a pick waits, it leaves the queue and takes no slot.
    pub(crate) async fn answer(
        &self,
        request: Request<RequestBody>,
        kind: ListenerKind,
        client: &Client,
    ) -> Reply {
        let request_id = request_id(&request);
        let uri = request.uri().clone();
        let route = Route::find(uri.path());
        let route = route.filter(|route| kind == ListenerKind::Main || route.is_monitoring());
        let route_name = route.as_ref().map_or("none", Route::as_str);
        let row = route.as_ref().map(|route| route.row);
        let method = method_name(request.method());
        let count = self.deps.metrics.count_request(route_name, method);
        let origin = self.gate.allowed_origin(request.headers());
        let admitted = async {
            // A browser shows no token before it knows that it may.
            if origin.is_some() && cors::is_preflight(&request) {
                return Ok(cors::preflight(request.headers()));
            }
            // Every connection has room for the future of a call, also while it is idle: most of that is here.
            let admitted = self.admitted(request, route, kind, &request_id, client);
            Box::pin(admitted).await
        };
        let span = tracing::debug_span!("request", request_id = &*request_id);
        let mut reply = match admitted.instrument(span).await {
            Ok(reply) => reply,
            Err(error) => {
                debug_assert!(
                    row.is_none_or(|row| row.may_refuse(method, error.facts().reason)),
                    "{method} {route_name} is refused for {}: ROUTES does not say so",
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
        let elapsed = count.end(status);
        tracing::debug!(
            request_id = &*request_id,
            http.request.method = method,
            http.route = route_name,
            http.response.status_code = status.as_u16(),
            elapsed_ms = elapsed.as_millis(),
            "request answered"
        );
        reply
    }

    async fn admitted(
        &self,
        request: Request<RequestBody>,
        route: Option<Route<'_>>,
        kind: ListenerKind,
        request_id: &Arc<str>,
        client: &Client,
    ) -> Result<Reply, Error> {
        check_head(&request)?;
        check_method(request.method())?;
        let admitted = self.gate.admit(&request, route.as_ref(), kind)?;
        let route = route.ok_or(Error::NoRoute)?;
        route.check(&request)?;
        match route.endpoint() {
            Endpoint::Pick => self.pick(request, admitted.caller, request_id).await,
            Endpoint::Leases => {
                let query = request.uri().query().unwrap_or_default();
                self.list_leases(query).await
            }
            Endpoint::Lease => self.lease(request, &route.name).await,
            Endpoint::Accounts => {
                let query = request.uri().query().unwrap_or_default();
                self.list_accounts(query).await
            }
            Endpoint::Account => self.account(&route.name).await,
            Endpoint::Drain => self.set_draining(&route.name, true).await,
            Endpoint::Resume => self.set_draining(&route.name, false).await,
            Endpoint::Upstream => match &self.deps.upstream {
                Some(upstream) => {
                    let origin = CallOrigin {
                        caller: admitted.caller,
                        client: client.clone(),
                        request_id: Arc::clone(request_id),
                    };
                    // Far larger than the futures of other calls.
                    let carried = Box::pin(upstream.forward.carry(request, &origin));
                    Ok(reply::carried(carried.await?))
                }
                None => Err(Error::NotForwarding),
            },
            Endpoint::Status => {
                let mut reply = self.status(request.headers()).await?;
                page::tell_access(&mut reply, admitted.is_read_only);
                Ok(reply)
            }
            Endpoint::Jobs => {
                let query = request.uri().query().unwrap_or_default();
                self.list_jobs(query).await
            }
            Endpoint::Events => self.read_events(request.headers()),
            Endpoint::Home => Ok(page::redirect()),
            Endpoint::Page(file) => Ok(page::file(file)),
            Endpoint::OpenApi => Ok(openapi::document()),
            Endpoint::Metrics => self.scrape().await,
            Endpoint::Livez => Ok(reply::text(StatusCode::OK, "alive\n")),
            Endpoint::Readyz | Endpoint::Healthz => {
                let query = request.uri().query().unwrap_or_default();
                Ok(self.readiness(query, request_id).await)
            }
        }
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

fn check_head(request: &Request<RequestBody>) -> Result<(), Error> {
    let headers = request.headers();
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    let target_bytes = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    if headers.len() > HEADERS_MAX || target_bytes + lines.sum::<usize>() > HEAD_BYTES_MAX {
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

/// The method as a label: one of a closed set, even if a client invents a method.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => metrics::OTHER,
    }
}
