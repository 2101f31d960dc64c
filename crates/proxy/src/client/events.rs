//! `kling-balancer events`: what happens, as it happens.

use std::{io::Write, time::Duration};

use accounts_fetcher::Chain;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use tokio::time;

use super::{
    answers::Event,
    call::{Client, DEADLINE},
    error::ClientError,
    summary,
};
use crate::{
    events::HEARTBEAT_INTERVAL,
    terminal::{shown, shown_json},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Before the sidecar is asked again: it says the same in its stream.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// A connection on which nothing comes for so long is gone: three of the sidecar's heartbeats.
const SILENCE_MAX: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);
/// The longest line of a stream: an event is some hundred bytes, a change of a long list a few thousand.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Which events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that the sidecar keeps, and then those that happen.
    All,
    /// All that it keeps.
    Kept,
    /// Those that happen from now on.
    New,
}

/// Writes events to `out`, and to `err` if the connection is lost and found again.
pub(super) async fn follow(
    client: Client<'_>,
    wanted: Wanted,
    is_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ClientError> {
    let newest = match wanted {
        Wanted::All => None,
        Wanted::Kept | Wanted::New => Some(client.newest_event().await?),
    };
    let (mut after, until) = match wanted {
        Wanted::All => (0, None),
        Wanted::Kept => (0, newest),
        Wanted::New => (newest.unwrap_or(0), None),
    };
    if until == Some(0) {
        return Ok(());
    }
    let mut write = |text: &str| -> Result<u64, ClientError> {
        let event: Event = serde_json::from_str(text).map_err(|error| client.unexpected(error))?;
        let line = if is_json {
            shown_json(text)
        } else {
            summary::event(&event).written(false)
        };
        writeln!(out, "{line}").and_then(|()| out.flush())?;
        Ok(event.id)
    };
    let mut was_connected = false;
    let mut is_lost = false;
    loop {
        let followed = async {
            let stream = client.events(after).await?;
            was_connected = true;
            if is_lost {
                is_lost = false;
                let place = client.place();
                writeln!(err, "kling-balancer: connected to {place} again")?;
            }
            read(client, stream, |text| {
                after = write(text)?;
                Ok(until.is_some_and(|until| after >= until))
            })
            .await
        };
        match followed.await {
            Ok(()) => return Ok(()),
            Err(error) if was_connected && error.may_pass() => {
                if !is_lost {
                    is_lost = true;
                    let problem = Chain(&error).to_string();
                    let problem = shown(&problem);
                    writeln!(err, "kling-balancer: {problem}; trying to connect again")?;
                }
            }
            Err(error) => return Err(error),
        }
        time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Reads the stream until `is_enough` says so of an event.
async fn read(
    client: Client<'_>,
    stream: Response<Incoming>,
    mut is_enough: impl FnMut(&str) -> Result<bool, ClientError>,
) -> Result<(), ClientError> {
    let mut body = stream.into_body();
    let mut decoder = Decoder::default();
    loop {
        let frame = time::timeout(SILENCE_MAX, body.frame()).await;
        let frame = frame.map_err(|_elapsed| ClientError::Silent {
            place: client.place(),
            silence: SILENCE_MAX,
        })?;
        let frame = frame.ok_or_else(|| client.lost("the stream of events ended"))?;
        let frame = frame.map_err(|error| client.lost(error))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        decoder.take(bytes);
        while let Some(event) = decoder.event() {
            if is_enough(&event)? {
                return Ok(());
            }
        }
        if decoder.bytes.len() > LINE_BYTES_MAX {
            return Err(client.unexpected("a line of its stream of events is too long"));
        }
    }
}

impl Client<'_> {
    /// The id of the newest event that is kept; 0 if there is none.
    async fn newest_event(&self) -> Result<u64, ClientError> {
        let status = self.status(None).await?;
        let events = status.map(|it| it.status.events).unwrap_or_default();
        Ok(events.iter().map(|event| event.id).max().unwrap_or(0))
    }

    /// The events after this one.
    async fn events(&self, after: u64) -> Result<Response<Incoming>, ClientError> {
        let header = Some((LAST_EVENT_ID, HeaderValue::from(after)));
        let opened = time::timeout(DEADLINE, self.open(Method::GET, "/events", header)).await;
        let stream = opened.map_err(|_elapsed| ClientError::TimedOut(self.place()))??;
        if stream.status().is_success() {
            return Ok(stream);
        }
        let refused = time::timeout(DEADLINE, self.collected(stream)).await;
        let refused = refused.map_err(|_elapsed| ClientError::TimedOut(self.place()))??;
        match self.accepted(refused) {
            Ok(_) => Err(self.unexpected("it answers no stream of events")),
            Err(error) => Err(error),
        }
    }
}

/// Takes a stream of events apart, see <https://html.spec.whatwg.org/multipage/server-sent-events.html>. Of an event only
/// its data counts: it says what the other fields say.
#[derive(Debug, Default)]
struct Decoder {
    bytes: Vec<u8>,
    data: String,
}

impl Decoder {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The data of the next event that is whole.
    fn event(&mut self) -> Option<String> {
        let mut begin = 0;
        let mut event = None;
        while let Some(length) = memchr::memchr(b'\n', &self.bytes[begin..]) {
            let line = String::from_utf8_lossy(&self.bytes[begin..begin + length]);
            begin += length + 1;
            let line = line.trim_end_matches('\r');
            if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data += data.strip_prefix(' ').unwrap_or(data);
            } else if line.is_empty() && !self.data.is_empty() {
                event = Some(std::mem::take(&mut self.data));
                break;
            }
        }
        self.bytes.drain(..begin);
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let stream = ": hello\nretry: 1000\n\nid: 1\nevent: ready\ndata: {\"id\":1}\n\n:\n\n\
                      id: 2\r\ndata:{\r\ndata: \"id\":2}\r\n\r\ndata: {\"id\"";
        for size in [1, 2, 7, stream.len()] {
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for bytes in stream.as_bytes().chunks(size) {
                decoder.take(bytes);
                events.extend(std::iter::from_fn(|| decoder.event()));
            }
            assert_eq!(events, ["{\"id\":1}", "{\n\"id\":2}"]);
        }
    }
}
