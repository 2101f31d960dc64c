//! One request, read and understood, before anything was done about it.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::{Serialize, Serializer};

use crate::body::Fields;
use crate::refusal::Refusal;

/// The header by which a second tool on the same accounts makes itself known, with any value.
///
/// Requests without it come from the program under test.
pub const TOOL_HEADER: &str = "x-sim-tool";

/// Who started something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The program under test.
    Ours,
    /// A second tool on the same accounts; see [`TOOL_HEADER`].
    Foreign,
}

/// The head of a request, without its credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The method.
    #[serde(serialize_with = "as_text")]
    pub method: Method,
    /// The path as it came, from the root on.
    pub path: String,
    /// The query as it came, without the `?`.
    pub query: Option<String>,
    /// All headers but `Authorization`. JSON shows them as pairs, in order.
    #[serde(serialize_with = "as_pairs")]
    pub headers: HeaderMap,
}

impl Head {
    pub(crate) fn of(parts: &Parts) -> Self {
        let mut headers = parts.headers.clone();
        headers.remove(AUTHORIZATION);
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers,
        }
    }

    /// The first `field` of the query; an empty one counts as absent.
    pub(crate) fn query(&self, field: &str) -> Option<String> {
        let query = self.query.as_deref()?.as_bytes();
        let (_, value) = form_urlencoded::parse(query).find(|(name, _)| name == field)?;
        (!value.is_empty()).then(|| value.into_owned())
    }

    /// Who sent it.
    pub(crate) fn origin(&self) -> Origin {
        if self.headers.contains_key(TOOL_HEADER) {
            Origin::Foreign
        } else {
            Origin::Ours
        }
    }
}

fn as_text<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

fn as_pairs<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = headers.iter();
    serializer.collect_seq(pairs.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str(), value)
    }))
}

/// A request whose body has come.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) head: Head,
    /// What stands for the `{…}` of the operation's path, decoded.
    pub(crate) segment: String,
    /// The body, or its beginning if it is an upload.
    pub(crate) body: Bytes,
    pub(crate) byte_count: u64,
    /// What the operation reads in the body.
    pub(crate) fields: Result<Fields, Refusal>,
    /// How many rounds had been answered when it arrived.
    pub(crate) round: u64,
    /// Whether a script has its hands in it, so that nobody knows what the client will get.
    pub(crate) is_disturbed: bool,
}

impl Call {
    /// A request without its body.
    pub(crate) fn new(head: Head, segment: String) -> Self {
        Self {
            head,
            segment,
            body: Bytes::new(),
            byte_count: 0,
            fields: Ok(Fields::default()),
            round: 0,
            is_disturbed: false,
        }
    }

    /// Whether the answer tells the program under test what it says.
    pub(crate) fn tells_us(&self) -> bool {
        self.head.origin() == Origin::Ours && self.head.method == Method::GET && !self.is_disturbed
    }

    /// The account named in the body, if that can be read.
    pub(crate) fn email_in_body(&self) -> Option<String> {
        self.fields.as_ref().ok()?.text("email").ok()?
    }
}
