//! `/livez` and `/readyz`: the process is up; picks can be granted.

use accounts_fetcher::FetchResult;
use http::StatusCode;

use super::{
    Api,
    reply::{self, Reply},
};
use crate::error::Error;

impl Api {
    pub(super) async fn readiness(&self, query: &str, request_id: &str) -> Reply {
        let refusal = self.deps.picker.unavailable_reason().await;
        let is_verbose = query
            .split('&')
            .any(|pair| pair == "verbose" || pair == "verbose=true");
        match refusal {
            refusal if is_verbose => self.verbose(refusal),
            None => reply::text(StatusCode::OK, "ready\n"),
            Some(error) => reply::error(&error, request_id),
        }
    }

    /// Why no pick can be granted now, in words; nothing if picks can be granted.
    pub(super) async fn reasons(&self) -> Vec<String> {
        let refusal = self.deps.picker.unavailable_reason().await;
        refusal.iter().map(Error::message).collect()
    }

    /// Whether the last connections to the upstream could be opened.
    pub(super) fn is_upstream_reachable(&self) -> bool {
        let upstream = self.deps.upstream.as_ref();
        upstream.is_none_or(|it| it.forward.is_reachable())
    }

    fn verbose(&self, refusal: Option<Error>) -> Reply {
        let listing = self.deps.listing.borrow().clone();
        let last_result = match listing.last_result {
            None => "none yet".to_owned(),
            Some(result) => match result.advice() {
                None => result.as_str().to_owned(),
                Some(advice) => format!("{} ({advice})", result.as_str()),
            },
        };
        let is_fetched = listing.last_result.is_some_and(FetchResult::is_believed);
        let list = match (&listing.snapshot, listing.fetched_at) {
            (Some(snapshot), Some(at)) => {
                format!("{} accounts, fetched {at:.0}", snapshot.accounts.len())
            }
            _ => "not known yet".to_owned(),
        };
        let rejected = match listing.entries_rejected {
            0 => String::new(),
            count => format!(", {count} entries rejected"),
        };
        let picks = match &refusal {
            None => "can be granted".to_owned(),
            Some(error) => format!("{}: {}", error.facts().reason, error.message()),
        };
        let rounds = self.rounds_line();
        let connections = if self.is_upstream_reachable() {
            "[+] connections: ok"
        } else {
            "[-] connections: the last ones failed; calls are refused until one can be opened"
        };
        let mark = |is_good: bool| if is_good { "[+]" } else { "[-]" };
        let text = format!(
            "{} list: {list}\n{} last fetch: {last_result}{rejected}\n{rounds}\n{connections}\n{}\n{} picks: {picks}\n",
            mark(listing.snapshot.is_some()),
            mark(is_fetched),
            self.state_line(),
            mark(refusal.is_none()),
        );
        let mut reply = reply::text(StatusCode::OK, text);
        if let Some(error) = refusal {
            reply::refuse(&mut reply, error.facts());
        }
        reply
    }

    fn state_line(&self) -> String {
        let book = self.deps.book.borrow();
        if !book.is_kept() {
            return "[+] state: in memory, it ends with the process".to_owned();
        }
        match (book.kind, book.committed_at) {
            _ if self.deps.ledger.is_failing() => {
                "[-] state: it cannot be written; the log says why".to_owned()
            }
            (kind, Some(at)) => format!("[+] state: on {kind}, written {at:.0}"),
            (kind, None) => format!("[+] state: on {kind}"),
        }
    }

    fn rounds_line(&self) -> String {
        let Some(rounds) = self
            .deps
            .upstream
            .as_ref()
            .and_then(|it| it.rounds.as_ref())
        else {
            return "[+] rounds: off".to_owned();
        };
        let problem = match (rounds.counts().health(), rounds.are_grants_stale()) {
            (Ok(()), false) if rounds.is_fresh() => return "[+] rounds: ok".to_owned(),
            (Ok(()), false) => {
                return "[+] rounds: ok; the next pick waits for a newer one".to_owned();
            }
            (Ok(()), true) => "the list of running jobs does not come in time".to_owned(),
            (Err(problem), _) => format!("the list of running jobs is not known: {problem}"),
        };
        match rounds.counts().last_success() {
            Some(at) if rounds.are_grants_stale() => {
                format!("[-] rounds: {problem}; slots are granted on the list of {at:.0}")
            }
            _ => format!("[-] rounds: {problem}"),
        }
    }
}
