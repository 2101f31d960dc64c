//! Owners as they stand in the journal, so that a restart need not search for them.
//!
//! Each kind has as many places in the journal as its table has owners. What is learnt takes the place after that of
//! what was learnt before it, and a full ring begins anew: so what is least recently used is overwritten, and nothing
//! has to be removed. An owner that is used while it is in the old generation of its table counts as learnt again.
//!
//! Owners are stored late and may be lost: they can be searched for.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Owners, table::OwnerTable};
use crate::{
    journal::{Change, Table},
    kling::references::ReferenceKind,
};

/// The most owners that are stored with one commit, so that none becomes slow.
const TAKEN_MAX: usize = 1000;
/// The most of one kind: a flood of one delays no other.
const TAKEN_OF_KIND_MAX: usize = TAKEN_MAX / ReferenceKind::ALL.len();
/// The most ids of one kind that wait to be stored, 50 bytes each. The oldest give way: a journal that takes none for
/// a while holds up nothing.
const WAITING_MAX: usize = 10_000;

/// The ids of one kind whose owners are to be stored.
#[derive(Debug)]
pub(super) struct OwnerLog {
    waiting: Mutex<Waiting>,
    places: u64,
}

#[derive(Debug)]
struct Waiting {
    /// In the order in which they were learnt.
    ids: VecDeque<Box<str>>,
    /// Counts those that were stored, over all runs.
    next: u64,
}

/// An owner, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    id: String,
    owner: Arc<str>,
    /// A larger one was learnt later.
    seq: u64,
}

impl OwnerLog {
    /// The log of a table with so many places. `next` is the number of the next owner.
    fn new(places: usize, next: u64) -> Self {
        let ids = VecDeque::new();
        Self {
            waiting: Mutex::new(Waiting { ids, next }),
            places: places.max(1) as u64,
        }
    }

    /// The owner of this id is new, or has changed.
    pub(super) fn note(&self, id: &str) {
        let mut waiting = self.waiting.lock();
        if waiting.ids.len() >= WAITING_MAX {
            waiting.ids.pop_front();
        }
        waiting.ids.push_back(id.into());
    }

    /// The next ids, and the number of the first one.
    fn take(&self) -> (Vec<Box<str>>, u64) {
        let mut waiting = self.waiting.lock();
        let first = waiting.next;
        let count = waiting.ids.len().min(TAKEN_OF_KIND_MAX);
        let ids: Vec<_> = waiting.ids.drain(..count).collect();
        waiting.next += ids.len() as u64;
        (ids, first)
    }
}

impl Owners {
    /// What was learnt since the last calls and is to be stored now. More may be left.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        let kinds = ReferenceKind::ALL.into_iter();
        kinds
            .flat_map(|kind| changes(kind, self.table(kind)))
            .collect()
    }

    /// Puts back what was stored, by its places, before the first call is answered. From now on what is learnt is noted.
    pub(crate) fn restore(&self, stored: &[(String, Stored)]) {
        // Most things have the same few owners.
        let mut owners = HashMap::<Arc<str>, Arc<str>>::new();
        for kind in ReferenceKind::ALL {
            let of_kind = stored.iter().filter(|(place, _)| is_of(kind, place));
            let mut of_kind: Vec<_> = of_kind.map(|(_, stored)| stored).collect();
            of_kind.sort_unstable_by_key(|it| it.seq);
            let table = self.table(kind);
            for Stored { id, owner, .. } in &of_kind {
                let owner = owners
                    .entry(Arc::clone(owner))
                    .or_insert_with(|| Arc::clone(owner));
                table.learn(id, owner);
            }
            let next = of_kind
                .last()
                .map_or(0, |newest| newest.seq.saturating_add(1));
            table.begin_log(OwnerLog::new(table.max(), next));
        }
    }
}

fn changes(kind: ReferenceKind, table: &OwnerTable) -> Vec<Change> {
    let Some(log) = table.log() else {
        return Vec::new();
    };
    let (ids, first) = log.take();
    let changes = ids.into_iter().zip(first..).filter_map(|(id, seq)| {
        // It may have changed once more, or have been forgotten.
        let owner = table.peek(&id)?;
        let stored = Stored {
            id: id.into(),
            owner,
            seq,
        };
        Some(Change {
            table: Table::Owner,
            name: format!("{}{}", prefix(kind), seq % log.places),
            value: Some(serde_json::to_string(&stored).ok()?),
        })
    });
    changes.collect()
}

fn is_of(kind: ReferenceKind, place: &str) -> bool {
    let place = place.strip_prefix(prefix(kind));
    place.is_some_and(|place| place.parse::<u64>().is_ok())
}

/// What the names of a kind begin with. It never changes.
fn prefix(kind: ReferenceKind) -> &'static str {
    match kind {
        ReferenceKind::Work => "work-",
        ReferenceKind::Avatar => "avatar-",
        ReferenceKind::Element => "element-",
        ReferenceKind::Voice => "voice-",
        ReferenceKind::Motion => "motion-",
        ReferenceKind::Upload => "upload-",
        ReferenceKind::Url => "url-",
        ReferenceKind::Task => "task-",
    }
}

#[cfg(test)]
mod tests;
