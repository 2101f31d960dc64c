//! The head of a request as the simulator keeps it: everything except the credential.

use http::{HeaderMap, Method, header::AUTHORIZATION, request::Parts};
use serde::{Serialize, Serializer};

use crate::origin::{Origin, TOOL_HEADER};

/// The head of a request, without its credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The method.
    #[serde(serialize_with = "as_text")]
    pub method: Method,
    /// The whole path as it came.
    pub path: String,
    /// The query as it came, without the `?`.
    pub query: Option<String>,
    /// All headers except `Authorization`. JSON shows them as pairs, in order.
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
