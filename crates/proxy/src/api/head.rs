//! The header lines that decide about a call, found in one pass.

use http::{HeaderMap, HeaderName, HeaderValue, header::GetAll};

/// The header lines of a request that decide about every call.
///
/// They are found in one pass over all lines: looked up by their names, each would cost about as much as the pass over
/// the few lines that most requests have.
#[derive(Debug)]
pub(super) struct Head<'a> {
    headers: &'a HeaderMap,
    /// How long all names and values are.
    pub(super) bytes: usize,
    pub(super) host: Lines<'a>,
    pub(super) origin: Lines<'a>,
    pub(super) authorization: Lines<'a>,
    /// `x-request-id`.
    pub(super) request_id: Lines<'a>,
    /// `traceparent`, of W3C Trace Context.
    pub(super) trace_parent: Lines<'a>,
    /// Whether a browser says what the request is for, by W3C Fetch Metadata: `sec-fetch-…`.
    pub(super) has_fetch_metadata: bool,
}

/// The lines of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines<'a> {
    /// The value of the first one.
    pub(super) first: Option<&'a HeaderValue>,
    pub(super) are_many: bool,
}

impl<'a> Head<'a> {
    /// Looks through the lines of a request.
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut head = Self {
            headers,
            bytes: 0,
            host: Lines::default(),
            origin: Lines::default(),
            authorization: Lines::default(),
            request_id: Lines::default(),
            trace_parent: Lines::default(),
            has_fetch_metadata: false,
        };
        for (name, value) in headers {
            let name = name.as_str();
            head.bytes += name.len() + value.len();
            match name {
                "host" => head.host.add(value),
                "origin" => head.origin.add(value),
                "authorization" => head.authorization.add(value),
                "x-request-id" => head.request_id.add(value),
                "traceparent" => head.trace_parent.add(value),
                "sec-fetch-site" | "sec-fetch-mode" | "sec-fetch-dest" => {
                    head.has_fetch_metadata = true;
                }
                _ => {}
            }
        }
        head
    }

    /// How many lines there are.
    pub(super) fn lines_count(&self) -> usize {
        self.headers.len()
    }

    /// All values of any header.
    pub(super) fn all(&self, name: &HeaderName) -> GetAll<'a, HeaderValue> {
        self.headers.get_all(name)
    }
}

impl<'a> Lines<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.are_many = self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    /// The value, if there is one line.
    pub(super) fn only(self) -> Option<&'a HeaderValue> {
        self.first.filter(|_| !self.are_many)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*, sample};

    use super::*;

    const NAMES: [&str; 10] = [
        "host",
        "origin",
        "authorization",
        "x-request-id",
        "traceparent",
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
        "accept",
        "x-other",
    ];

    proptest! {
        #[test]
        fn what_is_found_in_a_pass_is_what_a_look_up_finds(
            lines in collection::vec((sample::select(&NAMES[..]), "[a-z]{0,9}"), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(*name, value.parse().unwrap());
            }
            let head = Head::of(&headers);
            let looked_up = |name: &str| Lines {
                first: headers.get(name),
                are_many: headers.get_all(name).iter().count() > 1,
            };
            assert_eq!(head.host, looked_up("host"));
            assert_eq!(head.origin, looked_up("origin"));
            assert_eq!(head.authorization, looked_up("authorization"));
            assert_eq!(head.request_id, looked_up("x-request-id"));
            assert_eq!(head.trace_parent, looked_up("traceparent"));
            let is_fetch = |(name, _): &(&str, String)| name.starts_with("sec-fetch-");
            assert_eq!(head.has_fetch_metadata, lines.iter().any(is_fetch));
            let bytes = lines.iter().map(|(name, value)| name.len() + value.len());
            assert_eq!(head.bytes, bytes.sum::<usize>());
            assert_eq!(head.lines_count(), lines.len());
        }
    }
}
