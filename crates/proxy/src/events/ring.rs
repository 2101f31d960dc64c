//! The newest events, and their ids.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

use super::{
    fact::{self, Fact},
    words,
};

/// How many events are kept for readers that come later, or come again: some minutes of a busy sidecar, days of a
/// quiet one.
pub const EVENTS_MAX: usize = 1000;
/// The most bytes of them. An event has some 400; texts of the upstream and long lists of accounts may make it more.
pub const EVENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an event of a job takes at most beside its texts: as a fact, and written.
const JOB_EVENT_BYTES: usize = 800;

/// Something that happened, and its place among the events. Cheap to clone.
///
/// That a job started or ended is written when it is first read: no reader asks for most such events, and to write
/// one took 12,000 instructions of a job start.
#[derive(Clone, Debug)]
pub struct Event(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    id: u64,
    kind: &'static str,
    /// What it is written of, unless it was written when it happened.
    fact: Option<(Timestamp, Fact)>,
    written: OnceLock<Written>,
}

/// An event, ready to be sent.
#[derive(Debug)]
struct Written {
    /// As Server-Sent Events have it.
    frame: Bytes,
    /// Where its JSON begins there. It ends two bytes before the end.
    json_at: usize,
}

/// An event as JSON.
#[derive(Serialize)]
struct Told<'a> {
    id: u64,
    #[serde(serialize_with = "fact::time")]
    at: Timestamp,
    message: String,
    #[serde(flatten)]
    fact: &'a Fact,
}

impl Event {
    fn new(id: u64, at: Timestamp, fact: &Fact) -> Self {
        let is_of_job = matches!(fact, Fact::JobStarted(_) | Fact::JobEnded { .. });
        Self(Arc::new(Kept {
            id,
            kind: fact.kind(),
            fact: is_of_job.then(|| (at, fact.clone())),
            written: if is_of_job {
                OnceLock::new()
            } else {
                Written::of(id, at, fact).into()
            },
        }))
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    /// The event with its id and type, as Server-Sent Events have it. It ends with an empty line.
    pub fn frame(&self) -> &Bytes {
        &self.written().frame
    }

    /// The event as a JSON object.
    pub fn json(&self) -> &str {
        let Written { frame, json_at } = self.written();
        let json = &frame[*json_at..frame.len() - 2];
        str::from_utf8(json).unwrap_or("{}")
    }

    #[cfg(test)]
    pub(super) fn is_written(&self) -> bool {
        self.0.written.get().is_some()
    }

    fn written(&self) -> &Written {
        let Kept {
            id, fact, written, ..
        } = &*self.0;
        written.get_or_init(|| match fact {
            Some((at, fact)) => Written::of(*id, *at, fact),
            None => unreachable!("it was written when it happened"),
        })
    }

    /// How many bytes it takes; of a job, at most.
    fn bytes(&self) -> usize {
        let job = self.0.fact.as_ref().and_then(|(_, fact)| fact.job());
        match job {
            Some(job) => JOB_EVENT_BYTES + 2 * job.text_bytes(),
            None => self.frame().len(),
        }
    }
}

impl Written {
    fn of(id: u64, at: Timestamp, fact: &Fact) -> Self {
        let told = Told {
            id,
            at,
            message: words::message(fact),
            fact,
        };
        let json = serde_json::to_string(&told)
            .expect("events have string keys and no parts that fail to be written");
        let head = format!("id: {id}\nevent: {}\ndata: ", fact.kind());
        Self {
            json_at: head.len(),
            frame: [&head, &json, "\n\n"].concat().into(),
        }
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

    pub(super) fn push(&mut self, at: Timestamp, fact: &Fact) {
        let event = Event::new(self.next_id, at, fact);
        self.next_id += 1;
        self.bytes += event.bytes();
        self.events.push_back(event);
        // The newest one is kept, whatever its size.
        while self.events.len() > EVENTS_MAX
            || self.bytes > EVENTS_BYTES_MAX && self.events.len() > 1
        {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.bytes());
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
