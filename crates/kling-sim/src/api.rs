//! The HTTP surface: from a request to an answer.
//!
//! Every path below [`BASE_PATH`] requires the token. Results require none, and neither do the
//! simulator's own calls (`control`). Every request of the API goes through the same steps: head,
//! fault, body, operation, compression, and what the fault does to the answer.

mod perform;

use std::{sync::Arc, time::Duration};

use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::time::sleep;

use crate::{
    audit::REQUEST_BODY_BYTES_MAX,
    body::{self, Fields},
    call::Call,
    control::{self, CONTROL_PATH},
    encode,
    fault::{Effect, Target},
    head::Head,
    operation::{self, Action, Body, Operation, Selector},
    refusal::Refusal,
    reply::{self, Cut, Reply},
    shared::Shared,
    upload::UPLOAD_BYTES_MAX,
    world::RESULTS_PATH,
};
use perform::perform;

/// The path below which the API lies.
pub(crate) const BASE_PATH: &str = "/v1/kling";

/// Largest body read whole: base64 images in JSON fit, and a test cannot exhaust memory by
/// accident.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers one request, or cuts its connection.
pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Cut> {
    let (head, body) = request.into_parts();
    let reply = route(&shared, &head, body).await?;
    let status = reply.status().as_u16();
    tracing::debug!(
        http.request.method = %head.method,
        url.path = head.uri.path(),
        http.response.status_code = status,
        "request answered"
    );
    Ok(reply)
}

async fn route(shared: &Arc<Shared>, head: &Parts, body: Incoming) -> Result<Reply, Cut> {
    let path = merged(head.uri.path());
    let path = path.as_str();
    if let Some(path) = path.strip_prefix(CONTROL_PATH) {
        return Ok(control::answer(shared, head, path, body).await);
    }
    if let Some(name) = path.strip_prefix(RESULTS_PATH)
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return Ok(result(shared, name));
    }
    let Some(path) = path.strip_prefix(BASE_PATH) else {
        return Ok(Refusal::NoRoute.into());
    };
    let bearer = head.headers.get(AUTHORIZATION).and_then(bearer);
    if bearer != Some(shared.token().as_bytes()) {
        return Ok(Refusal::Unauthorized.into());
    }
    let (operation, segment) = operation::find(head.method.as_str(), path).unzip();
    let segment = percent_decode_str(segment.unwrap_or_default()).decode_utf8_lossy();
    let call = Call::new(Head::of(head), segment.into_owned());
    let target = Target {
        method: &head.method,
        path,
        operation,
        email: email_in_head(operation, &call),
    };
    serve(shared, target, call, body).await
}

/// The path without empty segments, as servers that merge slashes read it.
fn merged(path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.flat_map(|segment| ["/", segment]).collect()
}

/// Takes a request through all its steps.
async fn serve(
    shared: &Arc<Shared>,
    mut target: Target<'_>,
    mut call: Call,
    body: Incoming,
) -> Result<Reply, Cut> {
    let mut fault;
    (call.round, fault) = shared.visit(|world| (world.rounds(), world.interference(&target)));
    if let Some(Effect::EarlyAnswer(answer)) = &fault {
        shared.visit(|world| world.log(&call, false));
        return Ok(reply::closing(answer.reply()));
    }
    let end = receive(&mut call, target.operation, body).await;
    if !target.is_job_start() || end.is_err() {
        shared.visit(|world| world.log(&call, end.is_ok()));
    }
    if let Err(refusal) = end {
        return Ok(reply::closing(refusal.into()));
    }
    if target.email.is_none() {
        target.email = call.email_in_body();
        fault = shared.visit(|world| world.interference_by_account(&target, fault));
    }
    if let Some(effect) = &fault {
        if let Some(outcome) = effect.outcome().filter(|_| target.is_job_start()) {
            shared.visit(|world| world.record_unjudged(&call, outcome));
        }
        if let Some(reply) = effect.before().await? {
            return Ok(reply);
        }
        call.is_disturbed = effect.disturbs();
    }
    let Some(operation) = target.operation else {
        return Ok(Refusal::NoRoute.into());
    };
    let compresses = shared.settings.compresses && encode::accepts_gzip(&call.head.headers);
    let pauses = fault
        .as_ref()
        .map(|effect| shared.visit(|world| world.pauses(effect)));
    // This is a task of its own, since a client that disconnects does not cancel its request.
    let happening = tokio::spawn(happen(Arc::clone(shared), operation, call, pauses));
    let (mut reply, under_way) = happening.await.expect("operations do not panic");
    if compresses {
        reply = encode::gzip(reply).await?;
    }
    if let Some(effect) = &fault {
        reply = effect.after(reply).await?;
    }
    Ok(match under_way {
        Some(under_way) => until_sent(reply, under_way),
        None => reply,
    })
}

/// Performs an operation, at once or between two pauses.
async fn happen(
    shared: Arc<Shared>,
    operation: &'static Operation,
    call: Call,
    pauses: Option<(Duration, Duration)>,
) -> (Reply, Option<UnderWay>) {
    let (before, after) = pauses.unwrap_or_default();
    if before > Duration::ZERO {
        sleep(before).await;
    }
    let done = shared.visit(|world| perform(world, operation, &call, shared.settings.mcp_pause));
    if after > Duration::ZERO {
        sleep(after).await;
    }
    let is_list = matches!(operation.action, Action::ListAccounts);
    let under_way = is_list.then(|| UnderWay(Arc::clone(&shared)));
    (done.unwrap_or_else(Reply::from), under_way)
}

/// The account that a request names before its body arrives.
fn email_in_head(operation: Option<&Operation>, call: &Call) -> Option<String> {
    match operation {
        Some(row) if row.path.ends_with("{email}") => Some(call.segment.clone()),
        Some(row) if row.selector == Selector::Body => None,
        Some(_) | None => call.head.query("email"),
    }
}

/// Reads the body of a request, as far as its operation needs it.
///
/// An operation happens only when its request is complete. The beginning of the body is kept for
/// every request that is logged, including a request for an unknown operation.
async fn receive(
    call: &mut Call,
    operation: Option<&Operation>,
    body: Incoming,
) -> Result<(), Refusal> {
    let (bytes_max, kept_max) = match operation.map(|row| row.body) {
        Some(Body::Fields) => (BODY_BYTES_MAX as u64, BODY_BYTES_MAX),
        Some(Body::Ignored) => (BODY_BYTES_MAX as u64, REQUEST_BODY_BYTES_MAX),
        Some(Body::Upload) | None => (UPLOAD_BYTES_MAX, REQUEST_BODY_BYTES_MAX),
    };
    let read = body::read(body, bytes_max, kept_max).await;
    (call.body, call.byte_count) = (read.kept, read.byte_count);
    if let Some(operation) = operation.filter(|row| row.body == Body::Fields) {
        let fields = Fields::parse(&call.head.headers, &call.body).await;
        call.fields = fields.and_then(|fields| fields.require(operation.required));
    }
    read.end
}

/// A `GET /accounts` under way; dropping it ends it.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.visit(|world| world.listing.end());
    }
}

/// An answer whose body owns the guard: the request is under way until the last byte of the answer
/// is handed over.
fn until_sent(reply: Reply, under_way: UnderWay) -> Reply {
    reply.map(|body| {
        body.map_err(move |cut| {
            let _held = &under_way;
            cut
        })
        .boxed()
    })
}

/// The file of a result, for every client that has its URL.
fn result(shared: &Shared, name: &str) -> Reply {
    let name = percent_decode_str(name).decode_utf8_lossy();
    match shared.visit(|world| world.result(&name)) {
        Ok(media) => reply::whole(StatusCode::OK, media.content_type(), media.file()),
        Err(refusal) => refusal.into(),
    }
}

/// The credential of `Authorization: Bearer …`.
fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    header.as_bytes().strip_prefix(b"Bearer ")
}
