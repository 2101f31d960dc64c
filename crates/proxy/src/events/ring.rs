//! The newest events, and their ids.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

/// How many events are kept for readers that come later, or come again: some minutes of a busy sidecar, days of a
/// quiet one.
pub const EVENTS_MAX: usize = 1000;
/// The most bytes of them. An event has some 400; texts of the upstream and long lists of accounts may make it more.
pub const EVENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    id: u64,
    kind: &'static str,
    /// As Server-Sent Events have it.
    frame: Bytes,
    /// Where its JSON begins there. It ends two bytes before the end.
    json_at: usize,
}

impl Event {
    /// `members`: a JSON object without the id.
    fn new(id: u64, kind: &'static str, members: &str) -> Self {
        let rest = members.strip_prefix('{').unwrap_or(members);
        let head = format!("id: {id}\nevent: {kind}\ndata: ");
        let json_at = head.len();
        let frame = format!("{head}{{\"id\":{id},{rest}\n\n").into();
        Self {
            id,
            kind,
            frame,
            json_at,
        }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The event with its id and type, as Server-Sent Events have it. It ends with an empty line.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The event as a JSON object.
    pub fn json(&self) -> &str {
        let json = &self.frame[self.json_at..self.frame.len() - 2];
        str::from_utf8(json).unwrap_or("{}")
    }
}

/// Its JSON. Only `serde_json` writes it.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_str(self.json()).map_err(S::Error::custom)?;
        json.serialize(serializer)
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    /// Their ids follow each other; the last one is before `next_id`.
    events: VecDeque<Event>,
    bytes: usize,
    next_id: u64,
}

impl Ring {
    /// An empty one, whose first event gets the id `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            next_id: first.max(1),
        }
    }

    pub(super) fn push(&mut self, kind: &'static str, members: &str) {
        let event = Event::new(self.next_id, kind, members);
        self.next_id += 1;
        self.bytes += event.frame.len();
        self.events.push_back(event);
        // The newest one is kept, whatever its size.
        while self.events.len() > EVENTS_MAX
            || self.bytes > EVENTS_BYTES_MAX && self.events.len() > 1
        {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.frame.len());
        }
    }

    pub(super) fn newest_id(&self) -> u64 {
        self.next_id - 1
    }

    /// The id of the oldest event, or that of the next one.
    pub(super) fn oldest_id(&self) -> u64 {
        self.events.front().map_or(self.next_id, Event::id)
    }

    /// Where a reader goes on that has seen all up to `after`; without it, the next event.
    pub(super) fn place_after(&self, after: Option<u64>) -> u64 {
        match after {
            None => self.next_id,
            Some(after) if after < self.next_id => self.oldest_id().max(after + 1),
            Some(_) => self.oldest_id(),
        }
    }

    /// The event of this id, if it is kept.
    pub(super) fn get(&self, id: u64) -> Option<&Event> {
        let place = id.checked_sub(self.oldest_id())?;
        self.events.get(usize::try_from(place).ok()?)
    }

    pub(super) fn recent(&self, count: usize) -> Vec<Event> {
        let skipped = self.events.len().saturating_sub(count);
        self.events.range(skipped..).cloned().collect()
    }
}
