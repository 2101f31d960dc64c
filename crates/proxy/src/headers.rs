//! Headers: which ones pass, by RFC 9110 §7.6.1 and by our own rules, and what they say about a body.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of one connection, whatever `Connection` says: RFC 9110 §7.6.1 and the older
/// `Keep-Alive` and `Proxy-Connection`. Framing is made anew from the body we pass on.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The most lines of an answer's head that are passed on. Python's and Rust's clients read no answer of more
/// than 100, and a client that cannot read the answer to a job start loses a paid job; the rest is room for
/// ours.
pub(crate) const ANSWER_LINES_MAX: usize = 90;

/// The prefix of headers between a client and us.
const OURS: &str = "x-kling-";

/// Prefixes of headers that a client says to us, or that an edge in front of us says of the client. An upstream
/// behind the same edge refuses them, and they tell where clients are.
const OF_CLIENTS_PREFIXES: [&str; 4] = [OURS, "proxy-", "cf-", "x-forwarded-"];
/// The same: credentials, how to read the method, and single names of an edge.
const OF_CLIENTS: [&str; 8] = [
    "authorization",
    "expect",
    "cookie",
    "x-http-method-override",
    "cdn-loop",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
];

/// Removes the headers of one connection, those that any `Connection` line names, and the `others`.
fn strip(headers: &mut HeaderMap, others: impl Fn(&str) -> bool) {
    // Most heads have none of them. To see that, one look at each name costs less than a lookup of a few.
    let mut unwanted = Vec::new();
    for name in headers.keys() {
        if *name == header::CONNECTION {
            unwanted.extend(named_by_connection(headers));
        }
        if is_hop_by_hop(name.as_str()) || others(name.as_str()) {
            unwanted.push(name.clone());
        }
    }
    for name in &unwanted {
        headers.remove(name);
    }
}

/// The headers that any `Connection` line names.
fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
}

/// Whether there is a header `name`: in a head of a few lines a look at each costs less than the lookup by a hash.
fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|it| it == name)
}

/// Removes what a client says to us and not to the upstream: its credentials, its options
/// (`x-kling-…`), what an edge says of it, and `Expect`, which is answered here. Many servers read `_` in a name as
/// `-`, so such a name goes as well. `Host` stays: with each request the upstream's own takes its place.
pub(crate) fn strip_client(headers: &mut HeaderMap) {
    strip(headers, |name| {
        if name.bytes().any(|byte| byte == b'_') {
            is_of_client(&name.replace('_', "-"))
        } else {
            is_of_client(name)
        }
    });
}

fn is_of_client(name: &str) -> bool {
    let mut prefixes = OF_CLIENTS_PREFIXES.iter();
    OF_CLIENTS.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}

/// Removes from an answer the headers of its connection, and those that only we set. One plain length is
/// left of several equal ones.
pub(crate) fn strip_answer(headers: &mut HeaderMap) {
    settle_length(headers);
    strip(headers, |name| name.starts_with(OURS));
    shorten(headers);
}

/// Leaves one length that every client reads. A body in chunks has none, whatever its head says: RFC 9112
/// §6.1; neither has one of several lengths, which only an answer without a body can have.
fn settle_length(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else {
        return;
    };
    let is_one = lines.next().is_none() && !first.as_bytes().contains(&b',');
    let is_chunked = has(headers, &header::TRANSFER_ENCODING);
    if is_one && !is_chunked {
        return;
    }
    let lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = lengths.next().unwrap_or_default().trim_ascii();
    let are_equal = lengths.all(|other| other.trim_ascii() == first);
    let only = HeaderValue::from_bytes(first).ok();
    headers.remove(header::CONTENT_LENGTH);
    if let Some(only) = only.filter(|_| are_equal && !is_chunked) {
        headers.insert(header::CONTENT_LENGTH, only);
    }
}

/// Leaves at most [`ANSWER_LINES_MAX`] lines: the first ones, and what says how to read the answer.
fn shorten(headers: &mut HeaderMap) {
    if headers.len() <= ANSWER_LINES_MAX {
        return;
    }
    tracing::debug!(
        line_count = headers.len(),
        "the head of an answer was shortened"
    );
    let needed = [header::RETRY_AFTER, header::LOCATION, header::DATE];
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    let is_needed =
        |name: &HeaderName| needed.contains(name) || name.as_str().starts_with("content-");
    for name in names.iter().rev().filter(|name| !is_needed(name)) {
        if headers.len() <= ANSWER_LINES_MAX {
            break;
        }
        headers.remove(name);
    }
}

/// Whether the body has no transfer coding but `chunked`, which is decoded and encoded again. Any other
/// coding would be passed on without its name, RFC 9112 §7.
pub(crate) fn has_only_chunks(headers: &HeaderMap) -> bool {
    if !has(headers, &header::TRANSFER_ENCODING) {
        return true;
    }
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    lines.all(|line| {
        line.as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    })
}

/// Whether the body is encoded, RFC 9110 §8.4: then its text cannot be read as it is.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    // In a head of a few lines a look at each costs less than the lookup by a hash.
    let mut lines = headers.iter();
    lines.any(|(name, value)| {
        *name == header::CONTENT_ENCODING && !value.as_bytes().eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_connection_line_counts() {
        let mut headers = headers(&[
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
        ]);
        strip(&mut headers, |_| false);
        assert_eq!(names(&headers), ["x-three"]);
    }

    #[test]
    fn what_a_client_says_to_us_stays_here() {
        let mut headers = headers(&[
            ("authorization", "Bearer client"),
            ("cookie", "a=b"),
            ("proxy-anything", "x"),
            ("x-kling-wait", "5s"),
            ("x-kling-", ""),
            ("expect", "100-continue"),
            ("host", "localhost"),
            ("content-type", "application/json"),
            ("cf-connecting-ip", "1.2.3.4"),
            ("cf-ray", "1"),
            ("cdn-loop", "cloudflare"),
            ("true-client-ip", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4"),
            ("x-http-method-override", "DELETE"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x_http-method_override", "DELETE"),
            ("x_kling_email", "a@x"),
            ("user-agent", "curl"),
            ("x-custom_name", "1"),
            ("forwarded-by", "1"),
        ]);
        strip_client(&mut headers);
        assert_eq!(
            names(&headers),
            [
                "content-type",
                "forwarded-by",
                "host",
                "user-agent",
                "x-custom_name"
            ]
        );
    }

    #[test]
    fn an_answer_has_one_length_or_none() {
        for (lines, expected) in [
            (&[("content-length", "3")][..], Some("3")),
            (
                &[("content-length", "3"), ("content-length", "3")],
                Some("3"),
            ),
            (&[("content-length", "3, 3 ,3")], Some("3")),
            (&[("content-length", "3"), ("content-length", "4")], None),
            (&[("content-length", "3,4")], None),
            (
                &[("content-length", "3"), ("transfer-encoding", "chunked")],
                None,
            ),
            (&[], None),
        ] {
            let mut headers = headers(lines);
            strip_answer(&mut headers);
            let lengths: Vec<_> = headers.get_all("content-length").iter().collect();
            assert_eq!(lengths, Vec::from_iter(expected), "{lines:?}");
        }
    }
}
