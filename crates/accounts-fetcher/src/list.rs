//! Parses the bytes of a list into entries.
//!
//! Three steps, each with a failure of its own: the text is JSON; it has the shape of a list; each
//! entry, alone, is an account. A bad entry is rejected without touching its neighbours.
//!
//! Invariant: work and memory are linear in the text and the stack is constant, however deep the
//! text nests, since values are first skipped, then parsed only where they are expected to be flat.
//! The judge decides which list to believe.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
mod entry;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map},
    fmt,
};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    Account, Alias,
    email::{self, Identity},
    error::FetchError,
    limits::ENTRIES_MAX,
};

/// One parsed list. It is empty only if the upstream's list is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    /// In the upstream's order, each identity once.
    pub(crate) entries: Vec<Entry>,
    pub(crate) remarks: Remarks,
}

/// One key of the list; no account when its value was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) account: Option<Account>,
}

/// What is odd about a list that is still usable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// Entries with an unacceptable key or an unusable value.
    pub(crate) rejected: usize,
    /// Entries merged into an earlier one of the same identity.
    pub(crate) merged: usize,
    /// Entries whose `maxJobs` was lowered to the ceiling.
    pub(crate) clamped: usize,
    /// The alias of the first entry concerned.
    pub(crate) example: Option<Alias>,
}

impl Remarks {
    fn concern(&mut self, email: &str) {
        self.example.get_or_insert_with(|| Alias::of(email));
    }
}

impl List {
    /// Parses the JSON in `text`.
    pub(crate) fn parse(text: &[u8]) -> Result<List, FetchError> {
        let json: &RawValue = serde_json::from_slice(text).map_err(into_parse_error)?;
        let Ok(Pairs(pairs)) = serde_json::from_str(json.get()) else {
            return Err(FetchError::Schema);
        };
        if pairs.len() > ENTRIES_MAX {
            return Err(FetchError::TooLarge {
                limit: ENTRIES_MAX,
                unit: "entries",
            });
        }
        let list = List::from_pairs(&pairs);
        let has_account = list.entries.iter().any(|entry| entry.account.is_some());
        if has_account || pairs.is_empty() {
            Ok(list)
        } else {
            Err(FetchError::Schema)
        }
    }

    fn from_pairs(pairs: &[(&RawValue, &RawValue)]) -> List {
        let mut list = List::default();
        let mut places = HashMap::new();
        for &(key, value) in pairs {
            list.add(key, value, &mut places);
        }
        list
    }

    /// Adds one entry: at the end, or merged into an earlier one of the same identity.
    fn add(&mut self, key: &RawValue, value: &RawValue, places: &mut HashMap<Identity, usize>) {
        // A key that is no valid string (a lone surrogate) is treated like any other hostile key.
        let key: String = serde_json::from_str(key.get()).unwrap_or_default();
        let Some(email) = email::accept(&key) else {
            self.remarks.rejected += 1;
            self.remarks.concern(&key);
            return;
        };
        let account = match entry::parse(email, value) {
            Some(entry::Parsed {
                account,
                is_clamped,
            }) => {
                if is_clamped {
                    self.remarks.clamped += 1;
                    self.remarks.concern(email);
                }
                Some(account)
            }
            None => {
                self.remarks.rejected += 1;
                self.remarks.concern(email);
                None
            }
        };
        // An account shares it: no block of memory comes and goes between those that stay.
        let identity = account.as_ref().map(Account::identity);
        let identity = identity.unwrap_or_else(|| Identity::of(email));
        match places.entry(identity.clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(self.entries.len());
                self.entries.push(Entry { identity, account });
            }
            hash_map::Entry::Occupied(place) => {
                self.remarks.merged += 1;
                self.remarks.concern(email);
                let first = &mut self.entries[*place.get()].account;
                *first = match (first.take(), account) {
                    (Some(first), Some(twin)) => Some(merge(first, twin)),
                    (first, twin) => first.or(twin),
                };
            }
        }
    }
}

/// Two entries that mean one account: the smaller limit wins, and an error of either is kept, since
/// a limit that is too low is safe and one that is too high is not. Limits are never summed.
fn merge(first: Account, twin: Account) -> Account {
    let error = first.error().or(twin.error()).cloned();
    let ends_at = first.session_expires_at();
    let ends_at = ends_at.or(twin.session_expires_at()).cloned();
    let mut merged = first.with_details(error, ends_at);
    merged.max_jobs = merged.max_jobs.min(twin.max_jobs);
    merged
}

fn into_parse_error(error: serde_json::Error) -> FetchError {
    FetchError::Parse {
        line: error.line(),
        column: error.column(),
    }
}

/// The top level: keys and values in order, with duplicates, and not parsed further.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object keyed by e-mail")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        // One pair beyond the limit is kept, to show that there are too many.
        while pairs.len() <= ENTRIES_MAX {
            match map.next_entry()? {
                Some(pair) => pairs.push(pair),
                None => return Ok(Pairs(pairs)),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Pairs(pairs))
    }
}
