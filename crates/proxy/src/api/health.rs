//! `/livez` and `/readyz`: the process is up; picks can be granted.

use accounts_fetcher::FetchResult;
use http::StatusCode;

use super::{
    Api,
    reply::{self, Reply},
};
use crate::{error::Error, pool::Refusal};

impl Api {
    pub(super) async fn readiness(&self, query: &str, request_id: &str) -> Reply {
        let standing = self.standing().await;
        let is_verbose = query
            .split('&')
            .any(|pair| pair == "verbose" || pair == "verbose=true");
        match standing {
            standing if is_verbose => self.verbose(standing.err()),
            Ok(()) => reply::text(StatusCode::OK, "ready\n"),
            Err(error) => reply::error(&error, request_id),
        }
    }

    /// Whether picks can be granted. All slots in use is no outage: they come back.
    async fn standing(&self) -> Result<(), Error> {
        if self.shutdown.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        match self.ledger.outage().await {
            Some(refusal) => Err(self.explain(refusal.into())),
            None => Ok(()),
        }
    }

    /// Says why there is no list, where the fetcher knows.
    pub(super) fn explain(&self, error: Error) -> Error {
        if error != Error::Refused(Refusal::Learning) {
            return error;
        }
        let last_result = self.listing.borrow().last_result;
        match last_result {
            Some(FetchResult::Unauthorized) => Error::TokenRejected,
            Some(FetchResult::EmptyHeld | FetchResult::Empty | FetchResult::NotConfigured) => {
                Refusal::NoAccounts.into()
            }
            _ => error,
        }
    }

    fn verbose(&self, outage: Option<Error>) -> Reply {
        let listing = self.listing.borrow().clone();
        let last_result = listing.last_result.map_or("none yet", FetchResult::as_str);
        let is_fetched = matches!(
            listing.last_result,
            Some(FetchResult::Ok | FetchResult::Partial | FetchResult::Empty)
        );
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
        let picks = match &outage {
            None => "can be granted".to_owned(),
            Some(error) => format!("{}: {}", error.reason(), error.message()),
        };
        let mark = |is_good: bool| if is_good { "[+]" } else { "[-]" };
        let text = format!(
            "{} list: {list}\n{} last fetch: {last_result}{rejected}\n{} picks: {picks}\n",
            mark(listing.snapshot.is_some()),
            mark(is_fetched),
            mark(outage.is_none()),
        );
        let status = match &outage {
            None => StatusCode::OK,
            Some(error) => error.status(),
        };
        reply::text(status, text)
    }
}
