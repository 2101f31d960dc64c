//! `/events`: what happens, as Server-Sent Events (WHATWG HTML, "Server-sent events").

use http::HeaderMap;

use super::{
    Api,
    reply::{self, Reply},
};
use crate::error::Error;

/// The id of the last event that a reader has.
const LAST_EVENT_ID: &str = "last-event-id";

impl Api {
    /// Answers with a stream of events that ends with the process.
    ///
    /// # Errors
    /// If there are as many readers as may be, or the last id is none.
    pub(super) fn read_events(&self, headers: &HeaderMap) -> Result<Reply, Error> {
        let after = last_event_id(headers)?;
        let readers_max = self.deps.event_readers_max;
        let subscription = self.deps.events.subscribe(after, readers_max);
        let subscription = subscription.ok_or(Error::TooManyReaders)?;
        Ok(reply::events(subscription))
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut given = headers.get_all(LAST_EVENT_ID).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    let digits = first
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let id = digits.and_then(|digits| digits.parse().ok());
    match (id, given.next()) {
        (Some(id), None) => Ok(Some(id)),
        _ => Err(Error::bad_request(
            "Last-Event-ID",
            "expected the id of an event, once: a whole number; 0 asks for all events that are kept",
        )),
    }
}
