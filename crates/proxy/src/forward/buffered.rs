//! Request buffering: bodies that are read whole, since an e-mail is put into them.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    call::{Call, only},
    email::{EmailBody, EmailError, fields, json, multipart},
};
use crate::{
    config, error::Error, headers::is_encoded, kling::references::Reference, peer::RequestBody,
    pool, upstream::Idle,
};

/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 1024;

/// UTF-8's own.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The memory for buffered bodies.
#[derive(Debug)]
pub(super) struct BodyBuffer {
    pieces: Arc<Semaphore>,
    body_max: usize,
}

/// How long a call may wait.
#[derive(Debug)]
pub(super) struct Patience {
    /// What is left of it.
    pub(super) left: Duration,
    /// Ends it for a call that is refused from then on.
    pub(super) shutdown: CancellationToken,
}

impl Patience {
    /// That of a call that is served in a shutdown, too.
    pub(super) fn of(wait: Duration) -> Self {
        Self {
            left: wait,
            shutdown: CancellationToken::new(),
        }
    }
}

/// A call's body, read whole. It holds its memory until it is dropped.
#[derive(Debug)]
pub(super) struct BufferedRequest {
    body: EmailBody,
    in_query: Option<String>,
    /// Whether an e-mail of the client counts as absent.
    ignores_given: bool,
    /// The account that owns what the body refers to, if the client named none.
    owner: Option<Arc<str>>,
    memory: Arc<OwnedSemaphorePermit>,
}

/// A request as it goes upstream.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    /// The account it names, if it names one.
    pub(super) email: Option<String>,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// Holds its memory until its last byte is written or given up: an upstream may answer and leave
    /// the rest unread.
    pub(super) body: Bytes,
}

/// Bytes with the permit for their memory.
struct Held {
    bytes: Bytes,
    _memory: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyBuffer {
    pub(super) fn new(settings: &config::Forward) -> Self {
        let pieces = settings.buffer_total.div_ceil(PIECE_BYTES);
        Self {
            pieces: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))),
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
        let (bytes, memory) = self.collect(body, idle_timeout, patience).await?;
        let body = match media {
            Media::Json => json::read(without_mark(bytes)).map_err(refusal)?,
            Media::Form(content_type) => multipart::read(bytes, content_type).map_err(refusal)?,
            // curl names this type unless it is told another one.
            Media::Fields if !is_like_object(&bytes) => fields::read(bytes).map_err(refusal)?,
            // Handlers that read JSON whatever the type says find an e-mail in it.
            Media::Fields | Media::Other => {
                if matches!(media, Media::Fields) {
                    fields::refuse_in_json(&bytes).map_err(refusal)?;
                }
                let read = json::read(without_mark(bytes));
                read.map_err(|error| match error.field() {
                    "email" => refusal(error),
                    _ => Error::UnsupportedMedia,
                })?
            }
        };
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
            memory: Arc::new(memory),
        })
    }

    async fn collect(
        &self,
        body: RequestBody,
        idle_timeout: Duration,
        patience: &mut Patience,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        let max = self.body_max;
        let announced = body.size_hint().lower();
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        if announced > max {
            return Err(Error::BodyTooLarge { max });
        }
        let mut memory = self.memory(announced, patience).await?;
        let mut bytes = BytesMut::with_capacity(announced);
        let mut body = Idle::new(body, idle_timeout);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::bad_request("body", error.to_string()))?;
            // Trailers have no place in a body of a known length.
            let data = frame.into_data().unwrap_or_default();
            let length = bytes.len() + data.len();
            if length > max {
                return Err(Error::BodyTooLarge { max });
            }
            let held = memory.num_permits() * PIECE_BYTES;
            if length > held {
                memory.merge(self.memory(length - held, patience).await?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), memory))
    }

    async fn memory(
        &self,
        bytes: usize,
        patience: &mut Patience,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        if let Ok(memory) = Arc::clone(&self.pieces).try_acquire_many_owned(pieces) {
            return Ok(memory);
        }
        let begun = Instant::now();
        let memory = Arc::clone(&self.pieces).acquire_many_owned(pieces);
        let memory = select! {
            biased;
            memory = timeout(patience.left, memory) => memory,
            () = patience.shutdown.cancelled() => return Err(Error::ShuttingDown),
        };
        patience.left = patience.left.saturating_sub(begun.elapsed());
        match memory {
            Ok(Ok(memory)) => Ok(memory),
            Ok(Err(_closed)) => Err(Error::BufferFull),
            Err(_elapsed) => Err(Error::BufferFull),
        }
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

    /// A hash that tells this request from others of the same operation, and is the same for each attempt: what
    /// clients draw anew, such as boundaries, is left out.
    fn fingerprint(&self, call: &Call, state: &impl BuildHasher) -> u64 {
        let mut hasher = state.build_hasher();
        call.operation().hash(&mut hasher);
        // An e-mail that counts as absent makes no other request.
        if self.ignores_given {
            call.query.with_email("").hash(&mut hasher);
        } else {
            call.query.as_str().hash(&mut hasher);
        }
        if self.ignores_given {
            self.body.hash_without_email(&mut hasher);
        } else {
            self.body.hash_content(&mut hasher);
        }
        hasher.finish()
    }

    /// What identifies this submission among others.
    pub(super) fn submitted(&self, call: &Call, state: &impl BuildHasher) -> pool::Body {
        pool::Body {
            operation: call.operation(),
            fingerprint: self.fingerprint(call, state),
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

    /// The request that goes upstream: for the account `email`, for the one that will do, or as it
    /// came.
    pub(super) fn outgoing(
        &self,
        call: &Call,
        email: Option<&str>,
    ) -> Result<OutgoingRequest, Error> {
        let email = email.or(self.email());
        // An e-mail that counts as absent does not say where the upstream looks for one: it is in the body.
        let is_misplaced = self.ignores_given && self.in_query.is_some();
        let mut target = call.target().to_owned();
        let mut bytes = self.body.bytes().clone();
        let is_new = |email: &&str| self.given() != Some(email) || is_misplaced;
        if let Some(email) = email.filter(is_new) {
            if self.in_query.is_none() || is_misplaced {
                let body = self.body.with_email(email);
                bytes = body.map_err(|error| Error::bad_request("body", error.to_string()))?;
            }
            if self.in_query.is_some() {
                target = call.target_with(email);
            }
        }
        let mut headers = call.headers.clone();
        headers.remove(header::TRAILER);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let email = email.map(str::to_owned);
        let held = Held {
            bytes,
            _memory: Arc::clone(&self.memory),
        };
        Ok(OutgoingRequest {
            email,
            target,
            headers,
            body: Bytes::from_owner(held),
        })
    }
}

/// The type of a body.
enum Media<'a> {
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
fn media(headers: &HeaderMap) -> Result<Media<'_>, Error> {
    let named = only(headers, header::CONTENT_TYPE.as_str())?;
    let named = named
        .and_then(|named| named.to_str().ok())
        .unwrap_or_default();
    let (essence, parameters) = named.split_once(';').unwrap_or((named, ""));
    let essence = essence.trim().to_ascii_lowercase();
    if !multipart::has_ascii_charset(parameters) {
        return Err(Error::UnsupportedMedia);
    }
    Ok(match essence.as_str() {
        "multipart/form-data" => Media::Form(named),
        "application/x-www-form-urlencoded" => Media::Fields,
        essence if essence == "application/json" || essence.ends_with("+json") => Media::Json,
        _ => Media::Other,
    })
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
