//! Request buffering: bodies that are read whole, since an e-mail is put into them.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{
    body_memory::{BodyMemory, Charge},
    call::{Call, only},
    email::{EmailBody, EmailError, fields, json, multipart},
    fingerprint::fingerprint,
    growing::GrowingBody,
    patience::Patience,
};
use crate::{
    config,
    error::Error,
    headers::is_encoded,
    kling::references::Reference,
    peer::RequestBody,
    pool::{self, Mark, OperationName},
    upstream::Idle,
};

/// How many lines are added to the head of a request: its length, its host, our token.
const ADDED_LINES: usize = 3;

/// The largest body that goes to the connection in one piece: to copy it costs less than two pieces more.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// The most bytes of a body that are given to a connection at once. More of them might be copied on their way.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// UTF-8's own.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads bodies whole, within their memory.
#[derive(Debug)]
pub(super) struct BodyBuffer {
    memory: BodyMemory,
    body_max: usize,
}

/// A call's body, read whole. Its bytes hold their memory until the last one is written or given up: an upstream may
/// answer and leave the rest unread.
#[derive(Debug)]
pub(super) struct BufferedRequest {
    body: EmailBody,
    in_query: Option<String>,
    /// Whether an e-mail of the client counts as absent.
    ignores_given: bool,
    /// The account that owns what the body refers to, if the client named none.
    owner: Option<Arc<str>>,
}

/// A request as it goes upstream.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    /// The account it names, if it names one.
    pub(super) email: Option<Arc<str>>,
    /// `None`: that of the call.
    pub(super) target: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: OutgoingBody,
}

/// The body of a request that was read whole: what stands before what is put in, that, and what stands behind
/// it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct OutgoingBody([Bytes; 3]);

/// Bytes with the charge for their memory.
struct Held {
    bytes: Bytes,
    _memory: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyBuffer {
    pub(super) fn new(settings: &config::Forward) -> Self {
        Self {
            memory: BodyMemory::new(settings.body_max, settings.buffer_total),
            body_max: settings.body_max,
        }
    }

    /// Reads a body whole, and finds the e-mail in it.
    ///
    /// Nothing is read of a body that is refused by its head, so that a client that asks first
    /// (`Expect`) keeps it. Waits for memory for as long as `patience`, and takes from it what it waited.
    ///
    /// # Errors
    /// What is wrong with the request; [`Error::BufferFull`] or [`Error::ShuttingDown`] if there is no memory for
    /// it.
    pub(super) async fn read(
        &self,
        call: &Call,
        body: RequestBody,
        idle_timeout: Duration,
        patience: &mut Patience,
    ) -> Result<BufferedRequest, Error> {
        let media = media(&call.headers)?;
        if is_encoded(&call.headers) {
            return Err(Error::UnsupportedMedia);
        }
        let bytes = self.collect(body, idle_timeout, patience).await?;
        let body = read_as(&media, bytes)?;
        let in_query = call.query.email().map(str::to_owned);
        if in_query.is_some() && body.email().is_some() {
            return Err(Error::bad_request(
                "email",
                "given in the query and in the body",
            ));
        }
        // Some parsers end a text at a NUL, or drop it.
        let mut given = in_query.iter().map(String::as_str).chain(body.email());
        if given.any(|email| email.contains(|it: char| it.is_ascii_control())) {
            return Err(Error::bad_request(
                "email",
                "expected no control characters",
            ));
        }
        Ok(BufferedRequest {
            body,
            in_query,
            ignores_given: call.ignores_email,
            owner: None,
        })
    }

    async fn collect(
        &self,
        body: RequestBody,
        idle_timeout: Duration,
        patience: &mut Patience,
    ) -> Result<Bytes, Error> {
        let max = self.body_max;
        let hint = body.size_hint();
        let announced = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
        if announced > max {
            return Err(Error::BodyTooLarge { max });
        }
        let longest = if hint.exact().is_some() {
            announced
        } else {
            max
        };
        let mut charge = Charge::default();
        // A client that asks first is told to go on once there is memory for what comes first.
        let first = announced.clamp(1, FRAME_BYTES_MAX);
        self.memory.grow(&mut charge, first, patience).await?;
        let mut bytes = GrowingBody::new();
        let mut body = Idle::paced(body, idle_timeout);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::bad_request("body", error.to_string()))?;
            // Trailers have no place in a body of a known length.
            let data = frame.into_data().unwrap_or_default();
            let length = bytes.len() + data.len();
            if length > max {
                return Err(Error::BodyTooLarge { max });
            }
            self.memory.grow(&mut charge, length, patience).await?;
            bytes.append(&data, longest).map_err(|error| {
                tracing::warn!(%error, "the system has no memory for a body; see forward.buffer_total");
                Error::BufferFull
            })?;
        }
        self.memory.settle(&mut charge, bytes.len());
        Ok(Bytes::from_owner(Held {
            bytes: bytes.into(),
            _memory: charge,
        }))
    }
}

impl BufferedRequest {
    /// The one account that will do: the client's, or the owner of what the body refers to.
    pub(super) fn email(&self) -> Option<&str> {
        let named = self.given().filter(|_| !self.ignores_given);
        named.or(self.owner.as_deref())
    }

    /// The e-mail that the client gave.
    pub(super) fn given(&self) -> Option<&str> {
        self.in_query.as_deref().or(self.body.email())
    }

    /// What identifies this submission of `call`, for `operation`, among others. Cancel-safe.
    pub(super) async fn submitted(&self, call: &Call, operation: OperationName) -> pool::Body {
        let fingerprint = fingerprint(&operation, &call.query, &self.body, self.ignores_given);
        pool::Body {
            fingerprint: fingerprint.await,
            operation,
            prompt: self.body.prompt(),
        }
    }

    /// Makes `owner` the one account that will do: it owns what the body refers to.
    pub(super) fn bind(&mut self, owner: Arc<str>) {
        self.owner = Some(owner);
    }

    /// The references in the body.
    pub(super) fn references(&self) -> &[Reference] {
        self.body.references()
    }

    /// The client's own cap on the jobs of the account.
    pub(super) fn max_jobs(&self) -> Option<NonZeroU32> {
        self.body.max_jobs()
    }

    /// Whether a mark may be put in: the client has no use of its own for what the upstream does with that.
    pub(super) fn takes_mark(&self, call: &Call) -> bool {
        call.takes_reply_ref && self.body.takes_mark() && !call.query.may_have_reply()
    }

    /// The request that goes upstream: for the account `email`, for the one that will do, or as it
    /// came; with a mark, if it gets one.
    pub(super) fn outgoing(
        &self,
        call: &Call,
        email: Option<&Arc<str>>,
        mark: Option<Mark>,
    ) -> Result<OutgoingRequest, Error> {
        let email = email.cloned();
        let email = email.or_else(|| self.email().map(Arc::from));
        // An e-mail that counts as absent does not say where the upstream looks for one: it is in the body.
        let is_misplaced = self.ignores_given && self.in_query.is_some();
        let (mut target, mut in_body) = (None, None);
        let is_new = |email: &&str| self.given() != Some(email) || is_misplaced;
        if let Some(email) = email.as_deref().filter(is_new) {
            if self.in_query.is_none() || is_misplaced {
                in_body = Some(email);
            }
            if self.in_query.is_some() {
                target = Some(call.target_with(email));
            }
        }
        let pieces = self.body.around(in_body, mark);
        let pieces = pieces.map_err(|error| Error::bad_request("body", error.to_string()))?;
        // Not a plain copy, which has no room for what is added on its way: it would be moved then.
        let mut headers = HeaderMap::with_capacity(call.headers.len() + ADDED_LINES);
        for (name, value) in &call.headers {
            if *name != header::TRAILER && *name != header::CONTENT_LENGTH {
                headers.append(name, value.clone());
            }
        }
        let body = OutgoingBody::of(pieces);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.byte_count()));
        Ok(OutgoingRequest {
            email,
            target,
            headers,
            body,
        })
    }
}

impl OutgoingBody {
    fn of(pieces: [Bytes; 3]) -> Self {
        let body = Self(pieces);
        if body.byte_count() > JOINED_BYTES_MAX as u64 {
            return body;
        }
        Self([body.0.concat().into(), Bytes::new(), Bytes::new()])
    }

    fn byte_count(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.iter_mut().find(|piece| !piece.is_empty());
        Poll::Ready(next.map(|piece| {
            let bytes = piece.len().min(FRAME_BYTES_MAX);
            Ok(Frame::data(piece.split_to(bytes)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.byte_count())
    }
}

/// The type of a body.
pub(super) enum Media<'a> {
    Json,
    Form(&'a str),
    Fields,
    /// None, or one that the upstream may ignore.
    Other,
}

/// The type of the body that `headers` belong to.
///
/// # Errors
/// [`Error::BadRequest`] if there are two; [`Error::UnsupportedMedia`] for text in a charset in which ASCII
/// bytes mean something else than in UTF-8, as in UTF-7.
pub(super) fn media(headers: &HeaderMap) -> Result<Media<'_>, Error> {
    let named = only(headers, header::CONTENT_TYPE)?;
    let named = named
        .and_then(|named| named.to_str().ok())
        .unwrap_or_default();
    let (essence, parameters) = named.split_once(';').unwrap_or((named, ""));
    if !multipart::has_ascii_charset(parameters) {
        return Err(Error::UnsupportedMedia);
    }
    let essence = essence.trim();
    let is = |media: &str| essence.eq_ignore_ascii_case(media);
    let suffix = essence.rsplit_once('+').map(|(_, suffix)| suffix);
    Ok(if is("multipart/form-data") {
        Media::Form(named)
    } else if is("application/x-www-form-urlencoded") {
        Media::Fields
    } else if is("application/json") || suffix.is_some_and(|it| it.eq_ignore_ascii_case("json")) {
        Media::Json
    } else {
        Media::Other
    })
}

/// Reads a body of this type.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_as(media: &Media<'_>, bytes: Bytes) -> Result<EmailBody, Error> {
    match media {
        Media::Json => json::read(without_mark(bytes)).map_err(refusal),
        Media::Form(content_type) => multipart::read(bytes, content_type).map_err(refusal),
        // curl names this type unless it is told another one.
        Media::Fields if !is_like_object(&bytes) => fields::read(bytes).map_err(refusal),
        // Handlers that read JSON whatever the type says find an e-mail in it.
        Media::Fields | Media::Other => {
            if matches!(media, Media::Fields) {
                fields::refuse_in_json(&bytes).map_err(refusal)?;
            }
            let read = json::read(without_mark(bytes));
            read.map_err(|error| match error.field() {
                "email" => refusal(error),
                _ => Error::UnsupportedMedia,
            })
        }
    }
}

/// Whether `bytes` begin as a JSON object does, and no field of a form: that would encode the brace.
fn is_like_object(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"{")
}

/// `bytes` without a byte order mark, which may be ignored, RFC 8259 §8.1.
fn without_mark(bytes: Bytes) -> Bytes {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.slice(BYTE_ORDER_MARK.len()..)
    } else {
        bytes
    }
}

fn refusal(error: EmailError) -> Error {
    Error::bad_request(error.field(), error.to_string())
}
