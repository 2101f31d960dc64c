//! The HTTP surface: which request means what.
//!
//! Everything below [`BASE_PATH`] wants the token. `GET /_sim/audit` is the simulator's own, for
//! black-box tests, and wants none.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use crate::list::ListAnswer;
use crate::operation::{self, Operation};
use crate::refusal::Refusal;
use crate::reply::{self, Reply};
use crate::world::{TaskId, World};

/// Where the API begins.
pub(crate) const BASE_PATH: &str = "/v1/kling";

/// Largest body read: base64 images in JSON fit, and a test cannot exhaust memory by accident.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The world behind its lock, with the clock that moves it.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    started: Instant,
    token: String,
}

impl Shared {
    pub(crate) fn new(world: World, token: String) -> Self {
        Self {
            world: Mutex::new(world),
            started: Instant::now(),
            token,
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Visits the world as it is now.
    pub(crate) fn visit<T>(&self, visit: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock();
        // Read under the lock, so that time never runs backwards between two visits.
        world.advance_to(self.started.elapsed());
        visit(&mut world)
    }
}

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let reply = route(&shared, request).await.unwrap_or_else(Reply::from);
    let status = reply.status().as_u16();
    tracing::debug!(
        http.request.method = %method,
        url.path = uri.path(),
        http.response.status_code = status,
        "request answered"
    );
    Ok(reply)
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    if head.method == Method::GET && path == "/_sim/audit" {
        return Ok(audit(shared));
    }
    let path = path.strip_prefix(BASE_PATH).ok_or(Refusal::NoRoute)?;
    let bearer = head.headers.get(AUTHORIZATION).and_then(bearer);
    if bearer != Some(shared.token.as_bytes()) {
        return Err(Refusal::Unauthorized);
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (head.method.as_str(), segments.as_slice()) {
        ("GET", ["accounts"]) => Ok(list_accounts(shared)),
        ("GET", ["accounts", email]) => {
            let email = percent_decode_str(email).decode_utf8_lossy();
            shared
                .visit(|world| world.account(&email))
                .map(|shown| reply::ok(&shown))
        }
        ("GET", ["tasks", id]) => {
            let (id, email) = (task_id(id)?, query(head.uri.query(), "email"));
            shared
                .visit(|world| world.task(id, email.as_deref()))
                .map(|shown| reply::ok(&shown))
        }
        ("GET", ["scheduler"]) => Ok(reply::ok(&shared.visit(|world| world.scheduler()))),
        ("GET", ["scheduler", "available"]) => Ok(reply::ok(
            &shared.visit(|world| world.scheduler_available()),
        )),
        ("DELETE", ["scheduler", id]) => {
            let id = task_id(id)?;
            shared
                .visit(|world| world.stop_tracking(id))
                .map(|()| reply::no_content())
        }
        ("POST", _) => {
            let operation = operation::job_start(path).ok_or(Refusal::NoRoute)?;
            start_job(shared, operation, body).await
        }
        _ => Err(Refusal::NoRoute),
    }
}

/// `GET /accounts`, as scripted.
fn list_accounts(shared: &Arc<Shared>) -> Reply {
    let (answer, is_configured, list) = shared.visit(|world| {
        (
            world.listing.begin(),
            world.is_configured(),
            world.account_list(),
        )
    });
    let under_way = UnderWay(Arc::clone(shared));
    let reply = match answer {
        ListAnswer::Fault(fault) => fault.reply(list),
        ListAnswer::Normal if is_configured => reply::json_text(StatusCode::OK, list),
        ListAnswer::Normal => Refusal::NotConfigured.into(),
    };
    // The body owns the guard: the request is under way until its last byte is handed over.
    reply.map(|body| {
        body.map_err(move |cut| {
            let _held = &under_way;
            cut
        })
        .boxed()
    })
}

/// A `GET /accounts` under way; dropping it ends it.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.visit(|world| world.listing.end());
    }
}

/// Reads the whole body first: a job starts only when its request is complete.
async fn start_job(
    shared: &Shared,
    operation: &'static Operation,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => {
            // The rest of the body is not read, so the connection cannot serve another request.
            let mut reply = Reply::from(refusal);
            reply
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(reply);
        }
    };
    shared.visit(|world| {
        let started = world.submit(operation, body)?;
        Ok(reply::ok(&world.started(&started)))
    })
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = Refusal::BodyTooLarge {
        limit: BODY_BYTES_MAX,
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large);
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large),
        Err(_) => Err(Refusal::BodyUnreadable),
    }
}

fn audit(shared: &Shared) -> Reply {
    let audit = shared.visit(|world| world.audit());
    let json = serde_json::to_vec(&audit).expect("an audit is strings and numbers");
    reply::json_text(StatusCode::OK, json)
}

/// The credential of `Authorization: Bearer …`.
fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    header.as_bytes().strip_prefix(b"Bearer ")
}

fn task_id(segment: &str) -> Result<TaskId, Refusal> {
    segment
        .parse()
        .map(u64::into)
        .or(Err(Refusal::TaskIdInvalid))
}

/// The first `field` of a query; an empty one counts as absent.
fn query(query: Option<&str>, field: &str) -> Option<String> {
    let (_, value) = form_urlencoded::parse(query?.as_bytes()).find(|(name, _)| name == field)?;
    (!value.is_empty()).then(|| value.into_owned())
}
