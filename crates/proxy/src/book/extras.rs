//! What newer versions of the sidecar keep in records, and this one does not know: it is written back with them.
//!
//! Within one format of the file versions only add members. Those that the types of this version do not read are kept
//! here, by the name of their record, and added each time that it is written. They go with their record, or with the
//! object that they were in; those of an owner stay. So there are never more than the file held at the start.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::journal::{Change, Record, Table};

/// The members that tell objects in an array apart: accounts in a list, tasks that were seen.
const IDENTITIES: [&str; 2] = ["email", "taskId"];

/// A JSON object. Its values stay as they are written.
type Object = BTreeMap<String, Box<RawValue>>;

/// What is not known of all records.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    by_table: HashMap<Table, HashMap<String, Unknown, RandomState>, RandomState>,
    /// A record as this version writes it.
    known: Vec<u8>,
    /// How many records were not as this version writes them.
    #[cfg(test)]
    pub(super) compared_count: usize,
}

/// What is not known of one object.
#[derive(Debug, Default, PartialEq)]
struct Unknown {
    members: BTreeMap<String, String>,
    /// Of the values of those that are known.
    within: BTreeMap<String, Within>,
}

/// What is not known of a value.
#[derive(Debug, PartialEq)]
enum Within {
    Object(Unknown),
    /// Of the objects in an array, by what tells them apart.
    Elements(BTreeMap<String, Unknown>),
}

impl Extras {
    /// Keeps what `row`, which was read from a record, does not have of it.
    ///
    /// Most records were written by this version. So they are only compared, which is cheaper than reading them was.
    pub(super) fn note(&mut self, record: &Record, row: &impl Serialize) {
        self.known.clear();
        let is_written = serde_json::to_writer(&mut self.known, row).is_ok();
        if !is_written || self.known == record.value.as_bytes() {
            return;
        }
        #[cfg(test)]
        {
            self.compared_count += 1;
        }
        let known = str::from_utf8(&self.known).unwrap_or_default();
        let Some(unknown) = Unknown::of(&record.value, known) else {
            return;
        };
        if let Some(name) = identity(record.table, &record.name, &record.value) {
            let of_table = self.by_table.entry(record.table).or_default();
            of_table.insert(name, unknown);
        }
    }

    /// Adds to the records of a batch what is kept of them, and forgets that of records that are gone.
    pub(super) fn add_to(&mut self, batch: &mut [Change]) {
        if self.by_table.is_empty() {
            return;
        }
        for change in batch {
            let Some(of_table) = self.by_table.get_mut(&change.table) else {
                continue;
            };
            let Some(value) = &change.value else {
                of_table.remove(&change.name);
                continue;
            };
            let name = identity(change.table, &change.name, value);
            let unknown = name.and_then(|name| of_table.get_mut(&name));
            if let Some(with_it) = unknown.and_then(|it| it.added_to(value)) {
                change.value = Some(with_it);
            }
        }
    }

    /// How many records have something that is not known.
    pub(super) fn records_count(&self) -> usize {
        self.by_table.values().map(HashMap::len).sum()
    }
}

/// What a record is about. `None` if it cannot be read.
///
/// Places of owners are used again for others: there it is the kind of the place, and the id.
fn identity(table: Table, name: &str, value: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Owned {
        id: String,
    }
    if table != Table::Owner {
        return Some(name.to_owned());
    }
    let (kind, _) = name.rsplit_once('-')?;
    let Owned { id } = serde_json::from_str(value).ok()?;
    Some(format!("{kind} {id}"))
}

impl Unknown {
    /// What the object `found` has and the object `known` has not. `None` if that is nothing.
    fn of(found: &str, known: &str) -> Option<Self> {
        let found: Object = serde_json::from_str(found).ok()?;
        let known: Object = serde_json::from_str(known).ok()?;
        let mut unknown = Self::default();
        for (name, found) in found {
            let Some(known) = known.get(&name) else {
                unknown.members.insert(name, found.get().to_owned());
                continue;
            };
            if let Some(within) = Within::of(found.get(), known.get()) {
                unknown.within.insert(name, within);
            }
        }
        let is_nothing = unknown.members.is_empty() && unknown.within.is_empty();
        (!is_nothing).then_some(unknown)
    }

    /// The object `text` with it. What this version writes itself stays. What has no place in it any more is
    /// forgotten. `None` if there is nothing to add.
    fn added_to(&mut self, text: &str) -> Option<String> {
        let mut object: Object = serde_json::from_str(text).ok()?;
        self.within.retain(|name, within| {
            let value = object.get_mut(name);
            value.is_some_and(|value| match within.added_to(value.get()) {
                Some(text) => replace(value, text),
                None => false,
            })
        });
        for (name, value) in &self.members {
            if !object.contains_key(name)
                && let Ok(value) = RawValue::from_string(value.clone())
            {
                object.insert(name.clone(), value);
            }
        }
        if self.members.is_empty() && self.within.is_empty() {
            return None;
        }
        serde_json::to_string(&object).ok()
    }
}

impl Within {
    fn of(found: &str, known: &str) -> Option<Self> {
        if found == known {
            return None;
        }
        if found.starts_with('{') {
            return Unknown::of(found, known).map(Self::Object);
        }
        let found = elements(found)?;
        let known: BTreeMap<_, _> = elements(known)?.into_iter().collect();
        let unknown = found.into_iter().filter_map(|(identity, found)| {
            let unknown = Unknown::of(found.get(), known.get(&identity)?.get())?;
            Some((identity, unknown))
        });
        let unknown: BTreeMap<_, _> = unknown
            .filter(|(identity, _)| !identity.is_empty())
            .collect();
        (!unknown.is_empty()).then_some(Self::Elements(unknown))
    }

    /// The value `text` with it; see [`Unknown::added_to`].
    fn added_to(&mut self, text: &str) -> Option<String> {
        let of_elements = match self {
            Self::Object(unknown) => return unknown.added_to(text),
            Self::Elements(unknown) => unknown,
        };
        let mut left = mem::take(of_elements);
        let with_it = elements(text)?.into_iter().map(|(identity, mut element)| {
            if let Some(mut unknown) = left.remove(&identity)
                && let Some(text) = unknown.added_to(element.get())
            {
                replace(&mut element, text);
                of_elements.insert(identity, unknown);
            }
            element
        });
        let with_it: Vec<_> = with_it.collect();
        if of_elements.is_empty() {
            return None;
        }
        serde_json::to_string(&with_it).ok()
    }
}

/// The elements of an array, each with what tells it apart, which is empty if nothing does. `None` if it is no array.
fn elements(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    let elements: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
    let told_apart = elements.into_iter().map(|element| {
        let object: Object = serde_json::from_str(element.get()).unwrap_or_default();
        let mut names = IDENTITIES.iter();
        let identity = names.find_map(|name| object.get(*name));
        let identity = identity.map_or_else(String::new, |it| it.get().to_owned());
        (identity, element)
    });
    Some(told_apart.collect())
}

/// False if `text` is no JSON.
fn replace(value: &mut Box<RawValue>, text: String) -> bool {
    let replaced = RawValue::from_string(text).map(|text| *value = text);
    replaced.is_ok()
}
