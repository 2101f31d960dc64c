//! `/status`: everything a person wants at a glance, rendered once for all who ask.
//!
//! A page that asks each second gets 304 while nothing happens, and then neither the accounts nor the ledger's lock is
//! touched. What changes is rendered at most so often that renderings take a small part of one processor, whatever the
//! number of accounts and of those who ask.

mod board;
mod body;
mod history;
mod restart;

use std::{future, sync::Arc};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use rand::RngExt;
use tokio::join;

pub(super) use board::{Board, SharedText};
pub(super) use history::History;

use super::{
    Api,
    reply::{self, Reply},
};
use crate::error::Error;

/// What `/status` needs beside the other parts.
#[derive(Debug)]
pub(super) struct Status {
    /// Names this sidecar among others.
    instance: String,
    up_since: Timestamp,
    /// Whether it counts what the upstream runs: then a restart finds running jobs again.
    reconciles: bool,
    pub(super) history: History,
    board: Board<Seen>,
}

/// Everything that a rendering shows, by its versions: as long as they are equal, so is the rendering, but for the
/// forecasts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Of the ledger.
    ledger: u64,
    /// The newest event.
    event: u64,
    /// How many points the history has had.
    points: u64,
    /// The list, and how it was fetched.
    list: (Option<Timestamp>, Option<String>),
    /// When the newest round was sent, and why there is none that is newer.
    round: (Option<Timestamp>, Option<String>),
    is_reachable: bool,
    /// Why nothing is picked, whatever the ledger says.
    stop: Option<Error>,
    is_state_failing: bool,
    missed_answers: usize,
}

impl Status {
    pub(super) fn new(instance: String, reconciles: bool) -> Self {
        Self {
            instance,
            up_since: Timestamp::now(),
            reconciles,
            history: History::default(),
            board: Board::new(rand::rng().random()),
        }
    }
}

impl Api {
    /// Answers with everything at a glance, or with 304 if the client has it already.
    pub(super) async fn status(&self, headers: &HeaderMap) -> Result<Reply, Error> {
        let board = &self.status.board;
        let text = board
            .newest(|| self.seen(), || self.render_status())
            .await?;
        let tag = text.tag().clone();
        let mut reply = if is_known(headers, &tag) {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            reply::shared("application/json", text)
        };
        let headers = reply.headers_mut();
        headers.insert(header::ETAG, tag);
        // It may be kept, and is asked for again each time: that costs nothing while nothing happens.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(reply)
    }

    /// Keeps what is shown of the past: how busy it was, and how jobs ended. Runs until dropped.
    pub(crate) async fn keep_past(&self) {
        let ledger = &self.deps.ledger;
        let results = async {
            match &self.deps.upstream {
                Some(upstream) => upstream.forward.records().follow_results(ledger).await,
                None => future::pending().await,
            }
        };
        join!(self.status.history.keep(ledger), results);
    }

    /// What is to be shown now. Neither the accounts nor the ledger's lock is touched.
    fn seen(&self) -> Seen {
        let (ledger, upstream) = (&self.deps.ledger, self.deps.upstream.as_ref());
        // Let go before anything is called that may look at the listing, too: between two looks of one thread at a
        // channel the fetcher may wait for it, and then neither goes on.
        let list = {
            let listing = self.deps.listing.borrow();
            (listing.fetched_at, body::list_error(&listing))
        };
        let counts = upstream.and_then(|it| it.rounds.as_ref());
        let counts = counts.map(|rounds| rounds.counts());
        Seen {
            ledger: ledger.shown_version(),
            event: self.deps.events.newest_id(),
            points: self.status.history.points_count(),
            list,
            round: (
                counts.and_then(|counts| counts.last_sent()),
                counts.and_then(|counts| counts.last_failure()),
            ),
            is_reachable: self.is_upstream_reachable(),
            stop: self.deps.picker.stop(),
            is_state_failing: ledger.is_failing(),
            missed_answers: upstream.map_or(0, |it| it.forward.records().missed_count()),
        }
    }
}

/// Whether the client says that it has the text with this tag: RFC 9110 §13.1.2, whose comparison is the weak one.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    // Our tags hold no comma.
    let mut known = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    known.any(|known| {
        let known = known.trim_ascii();
        known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
    })
}

/// The reply's text, shared by all who read it.
pub(super) type StatusText = Arc<board::Text>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_every_form_of_the_header() {
        let tag = HeaderValue::from_static("\"1f-2\"");
        for (lines, knows) in [
            (&["\"1f-2\""][..], true),
            (&["W/\"1f-2\""], true),
            (&["*"], true),
            (&["\"0\" ,\t\"1f-2\""], true),
            (&["\"0\"", "\"1f-2\""], true),
            (&["\"1f-3\""], false),
            (&["1f-2"], false),
            (&[], false),
        ] {
            let lines = lines.iter().map(|line| {
                let line = HeaderValue::from_static(line);
                (header::IF_NONE_MATCH, line)
            });
            let mut headers = HeaderMap::new();
            for (name, line) in lines {
                headers.append(name, line);
            }
            assert_eq!(is_known(&headers, &tag), knows, "{headers:?}");
        }
    }
}
