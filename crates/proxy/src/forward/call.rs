//! The head of a passing call, read once.

use std::{borrow::Cow, mem};

use super::email::{
    EmailError,
    query::{self, Query},
};
use crate::{
    config::{self, ClientEmail, duration},
    error::Error,
    headers::{has_only_chunks, strip_client},
    kling::{
        endpoints::{self, Class, HeadReferences},
        references::{REFERENCES_MAX, Reference},
        shapes::Shape,
    },
    pool::{OperationName, TaskId},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, header::ACCEPT_ENCODING, request, uri::PathAndQuery,
};

/// The prefix of the upstream's paths at our address.
pub(super) const PREFIX: &str = "/v1/kling";
/// Its segments.
const PREFIX_NAMES: [&str; 2] = ["v1", "kling"];
/// The header by which a job start says how long it waits for a slot.
const WAIT: &str = "x-kling-wait";
/// The header by which a call says what its `email` means.
const EMAIL: &str = "x-kling-email";

/// The longest path with its query: URLs here are limited to 64 KiB, and the upstream's own path and an
/// e-mail are added.
const TARGET_BYTES_MAX: usize = 60 * 1024;

/// Room for the target of most calls, with an e-mail: then it is allocated once.
const TARGET_BYTES_USUAL: usize = 128;

/// The only transfer coding that is passed on. The length of such a body is not known before its end.
pub(super) const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Whether `path` leads to the upstream.
pub fn is_upstream(path: &str) -> bool {
    below_prefix(path).is_some()
}

/// What follows [`PREFIX`] in `path`. Clients whose base URL ends in a slash send two, and servers read
/// these as one.
fn below_prefix(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix(PREFIX)
        && rest.starts_with('/')
    {
        return Some(rest);
    }
    let mut rest = path;
    for name in PREFIX_NAMES {
        let segment = rest.strip_prefix('/')?.trim_start_matches('/');
        rest = segment.strip_prefix(name)?;
    }
    rest.starts_with('/').then_some(rest)
}

/// A call of a client to the upstream, without its body.
#[derive(Debug)]
pub(super) struct Call {
    /// Whether the vendor documents `replyRef` in its body.
    pub(super) takes_reply_ref: bool,
    pub(super) method: Method,
    pub(super) class: Class,
    /// The headers for the upstream, without those between the client and us.
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    /// The references in the head.
    pub(super) references: Vec<Reference>,
    /// The shape of the answer, if the answer holds references.
    pub(super) shape: Option<&'static Shape>,
    pub(super) is_chunked: bool,
    /// Whether an `email` of the client counts as absent, or, where nothing else decides, as a wish.
    pub(super) ignores_email: bool,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub(super) asks_first: bool,
    /// How long to wait for a slot, as the client wrote it.
    wait: Option<HeaderValue>,
    /// Path and query below the base URL, as they came.
    target: String,
    /// The same with what was in front of it.
    came: Option<PathAndQuery>,
    path_bytes: usize,
    /// The path, as [`endpoints::plain`] spells it. `None`: it came so.
    respelled: Option<String>,
}

/// What the lines of a head say to us. They are looked at once: most heads have none of these, and to look for each
/// costs a hash.
#[derive(Default)]
struct SaidToUs<'a> {
    is_chunked: bool,
    asks_first: bool,
    wait: Option<&'a HeaderValue>,
    client_email: Option<&'a HeaderValue>,
}

impl<'a> SaidToUs<'a> {
    /// # Errors
    /// [`Error::BadRequest`] if a header of ours is given twice, or if the body comes in another transfer coding than
    /// `chunked`: that is not decoded here, and the header that names it is not passed on.
    fn read(headers: &'a HeaderMap) -> Result<Self, Error> {
        let mut said = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "transfer-encoding" => said.is_chunked = true,
                "expect" => said.asks_first = true,
                WAIT => once(&mut said.wait, WAIT, value)?,
                EMAIL => once(&mut said.client_email, EMAIL, value)?,
                _ => {}
            }
        }
        if said.is_chunked && !has_only_chunks(headers) {
            return Err(Error::bad_request("Transfer-Encoding", "expected chunked"));
        }
        Ok(said)
    }
}

impl Call {
    /// Reads a head whose path leads to the upstream.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if it names two accounts, or two times to wait, if a header of ours cannot be
    /// read, or if its body comes in another transfer coding than `chunked`.
    pub(super) fn read(head: request::Parts, settings: &config::Forward) -> Result<Self, Error> {
        let mut headers = head.headers;
        let said = SaidToUs::read(&headers)?;
        let (is_chunked, asks_first, wait) = (said.is_chunked, said.asks_first, said.wait.cloned());
        let client_email = match said.client_email {
            None => settings.client_email,
            Some(word) => client_email(word)?,
        };
        strip_client(&mut headers);
        let path = head.uri.path();
        let path = below_prefix(path).unwrap_or(path);
        let text = head.uri.query();
        if path.len() + text.map_or(0, str::len) > TARGET_BYTES_MAX {
            let expected = format!("expected at most {TARGET_BYTES_MAX} bytes with the query");
            return Err(Error::bad_request("path", expected));
        }
        let refused = |error: EmailError| Error::bad_request(error.field(), error.to_string());
        let mut query = query::read(text).map_err(refused)?;
        let encoded = query.without_plus();
        if encoded.is_some() {
            query = query::read(encoded.as_deref()).map_err(refused)?;
        }
        let text = encoded.as_deref().or(text);
        let plain = endpoints::plain(path);
        let endpoint = endpoints::lookup(&head.method, &plain, &settings.extra_jobs);
        let shape = endpoint.answer_shape(|name, value| query.has(name, value));
        if shape.is_some() || is_read_here(endpoint.class, &plain) {
            // A gateway would compress `task.id` away.
            headers.insert(ACCEPT_ENCODING, IDENTITY);
        }
        Ok(Self {
            class: endpoint.class,
            takes_reply_ref: endpoint.takes_reply_ref,
            headers,
            references: references(endpoint.references, &plain, &query),
            shape,
            query,
            is_chunked,
            ignores_email: client_email == ClientEmail::Ignore
                && endpoint.class.takes_any_account(),
            asks_first,
            wait,
            target: text.map_or_else(|| path.to_owned(), |text| [path, "?", text].concat()),
            path_bytes: path.len(),
            came: head.uri.path_and_query().cloned(),
            respelled: match plain {
                Cow::Borrowed(_) => None,
                Cow::Owned(plain) => Some(plain),
            },
            method: head.method,
        })
    }

    /// Path and query below the base URL, as they came.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The whole target, as it came.
    pub(super) fn came(&self) -> Option<&PathAndQuery> {
        self.came.as_ref()
    }

    /// The path below the base URL, as it came.
    pub(super) fn path(&self) -> &str {
        &self.target[..self.path_bytes]
    }

    /// The path below the base URL, as [`endpoints::plain`] spells it.
    fn plain(&self) -> &str {
        self.respelled.as_deref().unwrap_or(self.path())
    }

    /// The operation of the job that the call starts.
    pub(super) fn operation(&self) -> OperationName {
        self.plain().into()
    }

    /// Path and query below the base URL, with `email` in the query.
    pub(super) fn target_with(&self, email: &str) -> String {
        let mut target = String::with_capacity(TARGET_BYTES_USUAL);
        target.push_str(self.path());
        target.push('?');
        self.query.write_with_email(email, &mut target);
        target
    }

    /// The task in the last segment of the path.
    pub(super) fn task_id(&self) -> Option<TaskId> {
        last_segment(self.plain()).parse().ok()
    }

    /// The headers for the upstream, of a call that is passed on once: the map as it came has room for what is added on its
    /// way, and a copy has not.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        mem::take(&mut self.headers)
    }

    /// The account that the client names in the query, unless that counts as absent.
    pub(super) fn named(&self) -> Option<&str> {
        self.query.email().filter(|_| !self.ignores_email)
    }

    /// How long the client wants to wait for a slot.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if that is no duration.
    pub(super) fn wait(&self) -> Result<Option<std::time::Duration>, Error> {
        let read = |wait: &HeaderValue| {
            let text = String::from_utf8_lossy(wait.as_bytes());
            duration(&text).map_err(|expected| Error::bad_request(WAIT, expected))
        };
        self.wait.as_ref().map(read).transpose()
    }

    /// Whether the call only reads.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether the call adds, changes or removes accounts.
    pub(super) fn changes_accounts(&self) -> bool {
        let path = self.plain();
        !self.is_read() && (path == "/accounts" || path.starts_with("/accounts/"))
    }
}

/// Notes the `value` of a header that must not be given twice.
fn once<'a>(
    noted: &mut Option<&'a HeaderValue>,
    name: &'static str,
    value: &'a HeaderValue,
) -> Result<(), Error> {
    match noted.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::bad_request(name, "given twice")),
    }
}

/// What follows the last slash of `path`.
fn last_segment(path: &str) -> &str {
    let slash = memchr::memrchr(b'/', path.as_bytes());
    slash.map_or(path, |slash| &path[slash + 1..])
}

/// The one value of a header that must not be given twice.
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Error> {
    // In a head of a few lines a look at each costs less than the lookup by a hash.
    let mut values = headers.iter().filter(|(it, _)| **it == name).map(|it| it.1);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Error::bad_request(name.as_str(), "given twice")),
    }
}

fn client_email(word: &HeaderValue) -> Result<ClientEmail, Error> {
    let mut words = ClientEmail::WORDS.iter();
    let known = words.find(|(known, _)| word.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
    let (_, client_email) =
        known.ok_or_else(|| Error::bad_request(EMAIL, "expected respect or ignore"))?;
    Ok(*client_email)
}

/// The references in a head.
fn references(source: HeadReferences, path: &str, query: &Query) -> Vec<Reference> {
    match source {
        HeadReferences::None => Vec::new(),
        HeadReferences::LastSegment(kind) => {
            Vec::from_iter(Reference::new("path", kind, last_segment(path)))
        }
        HeadReferences::QueryList(field, kind) => {
            let ids = query.list(field).take(REFERENCES_MAX);
            ids.filter_map(|id| Reference::new(field, kind, &id))
                .collect()
        }
    }
}

/// Whether we read the answer, even if it holds no references.
fn is_read_here(class: Class, path: &str) -> bool {
    match class {
        Class::JobStart | Class::Task | Class::Untrack => true,
        Class::Read | Class::Download | Class::Upload | Class::Create | Class::Other => {
            path.starts_with("/tasks") || path.starts_with("/scheduler")
        }
    }
}
