//! The page for people: `/dashboard`, with its one script and its one style sheet.
//!
//! All of it is in the binary. It is the same for everyone and tells nothing of the accounts; what it shows, its script
//! asks for at `/status` and `/jobs`, as any client does. The script is written in parts, which lie in the folder
//! `page` and are one module when they are served.

use http::{HeaderValue, StatusCode, header};

use super::reply::{self, Reply};

/// What the page may load and do: its own script and style sheet, calls to where it came from, and nothing else. No
/// markup can be made of a string, should the script ever try. The icon is in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The parts of the script, each of which uses what stands before it.
const SCRIPT: &str = concat!(
    include_str!("page/types.js"),
    include_str!("page/words.js"),
    include_str!("page/dom.js"),
    include_str!("page/rows.js"),
    include_str!("page/sidecar.js"),
    include_str!("page/health.js"),
    include_str!("page/history.js"),
    include_str!("page/durations.js"),
    include_str!("page/accounts.js"),
    include_str!("page/slots.js"),
    include_str!("page/calls.js"),
    include_str!("page/events.js"),
    include_str!("page/app.js"),
);

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFile {
    Document,
    Script,
    Style,
}

impl PageFile {
    fn content(self) -> (&'static str, &'static str) {
        match self {
            Self::Document => ("text/html; charset=utf-8", include_str!("page/page.html")),
            Self::Script => ("text/javascript; charset=utf-8", SCRIPT),
            Self::Style => ("text/css; charset=utf-8", include_str!("page/app.css")),
        }
    }
}

/// Answers with a file of the page.
pub(super) fn file(file: PageFile) -> Reply {
    let (content_type, text) = file.content();
    let mut reply = reply::with_type(StatusCode::OK, content_type, text);
    for (name, value) in [
        // Kept, but asked for again: a new version of the sidecar brings a new page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// Leads from `/` to the page. Not for good, since a browser would remember it for whatever listens there next.
pub(super) fn redirect() -> Reply {
    let mut reply = reply::text(StatusCode::FOUND, "see /dashboard\n");
    let page = HeaderValue::from_static("/dashboard");
    reply.headers_mut().insert(header::LOCATION, page);
    reply
}

/// Tells a client of `/status` what its token opens, so that the page offers nothing that would be refused.
pub(super) fn tell_access(reply: &mut Reply, is_read_only: bool) {
    let access = HeaderValue::from_static(if is_read_only { "read" } else { "full" });
    reply.headers_mut().insert("x-kling-access", access);
}
