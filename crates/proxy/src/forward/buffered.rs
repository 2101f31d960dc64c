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
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    call::Call,
    email::{self, EmailError, json, multipart},
};
use crate::{
    config, error::Error, headers::is_encoded, kling::references::Reference, pool, upstream::Idle,
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

/// A call's body, read whole. It holds its memory until it is dropped.
#[derive(Debug)]
pub(super) struct BufferedRequest {
    bytes: Bytes,
    /// The body, if an e-mail can be put into it. `None`: an e-mail goes into the query.
    body: Option<email::EmailBody>,
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
    /// (`Expect`) keeps it.
    pub(super) async fn read(
        &self,
        call: &Call,
        body: Incoming,
        idle_timeout: Duration,
    ) -> Result<BufferedRequest, Error> {
        if is_encoded(&call.headers) {
            return Err(Error::UnsupportedMedia);
        }
        let (bytes, memory) = self.collect(body, idle_timeout).await?;
        let media = media(&call.headers);
        let bytes = match media {
            // RFC 8259 §8.1: a byte order mark may be ignored.
            Media::Json if bytes.starts_with(BYTE_ORDER_MARK) => {
                bytes.slice(BYTE_ORDER_MARK.len()..)
            }
            Media::Json | Media::Form(_) | Media::Other => bytes,
        };
        let body = match media {
            Media::Json => Some(json::read(bytes.clone()).map_err(refusal)?),
            Media::Form(content_type) => {
                Some(multipart::read(bytes.clone(), content_type).map_err(refusal)?)
            }
            Media::Other => None,
        };
        let in_query = call.query.email().map(str::to_owned);
        if in_query.is_some() && body.as_ref().is_some_and(|body| body.email().is_some()) {
            return Err(Error::bad_request(
                "email",
                "given in the query and in the body",
            ));
        }
        Ok(BufferedRequest {
            bytes,
            body,
            in_query,
            ignores_given: call.ignores_email,
            owner: None,
            memory: Arc::new(memory),
        })
    }

    async fn collect(
        &self,
        body: Incoming,
        idle_timeout: Duration,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        let max = self.body_max;
        let announced = body.size_hint().lower();
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        if announced > max {
            return Err(Error::BodyTooLarge { max });
        }
        let mut memory = self.memory(announced)?;
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
                memory.merge(self.memory(length - held)?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), memory))
    }

    fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.pieces).try_acquire_many_owned(pieces);
        memory.map_err(|_full| Error::BufferFull)
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
        let in_body = self.body.as_ref().and_then(email::EmailBody::email);
        self.in_query.as_deref().or(in_body)
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
        match &self.body {
            Some(body) if self.ignores_given => body.hash_without_email(&mut hasher),
            Some(body) => body.hash_content(&mut hasher),
            None => hasher.write(&self.bytes),
        }
        hasher.finish()
    }

    /// What identifies this submission among others.
    pub(super) fn submitted(&self, call: &Call, state: &impl BuildHasher) -> pool::Body {
        pool::Body {
            operation: call.operation(),
            fingerprint: self.fingerprint(call, state),
            prompt: self.body.as_ref().and_then(email::EmailBody::prompt),
        }
    }

    /// Makes `owner` the one account that will do: it owns what the body refers to.
    pub(super) fn bind(&mut self, owner: Arc<str>) {
        self.owner = Some(owner);
    }

    /// The references in the body.
    pub(super) fn references(&self) -> &[Reference] {
        self.body.as_ref().map_or(&[], email::EmailBody::references)
    }

    /// The client's own cap on the jobs of the account.
    pub(super) fn max_jobs(&self) -> Option<NonZeroU32> {
        self.body.as_ref().and_then(email::EmailBody::max_jobs)
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
        let is_misplaced = self.ignores_given && self.in_query.is_some() && self.body.is_some();
        let mut target = call.target().to_owned();
        let mut bytes = self.bytes.clone();
        match (email, &self.body) {
            (None, _) => {}
            (Some(email), _) if self.given() == Some(email) && !is_misplaced => {}
            (Some(email), Some(body)) if self.in_query.is_none() || is_misplaced => {
                bytes = body
                    .with_email(email)
                    .map_err(|error| Error::bad_request("body", error.to_string()))?;
                if is_misplaced {
                    target = call.target_with(email);
                }
            }
            (Some(email), _) => target = call.target_with(email),
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
    Other,
}

fn media(headers: &HeaderMap) -> Media<'_> {
    let named = headers.get(header::CONTENT_TYPE);
    let named = named
        .and_then(|named| named.to_str().ok())
        .unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Media::Json
    } else if essence == "multipart/form-data" {
        Media::Form(named)
    } else {
        Media::Other
    }
}

fn refusal(error: EmailError) -> Error {
    Error::bad_request(error.field(), error.to_string())
}
