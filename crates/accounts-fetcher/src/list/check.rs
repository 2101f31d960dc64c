//! What must hold for every list, by comparison with what `serde_json` reads.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Entry, List, Remarks};
use crate::{
    email,
    email::Identity,
    error::FetchError,
    limits::{ENTRIES_MAX, ERROR_TEXT_CHARS_MAX, MAX_JOBS_CEILING},
};

/// `data` as a list.
///
/// # Panics
/// If it is read as something else, or a limit does not hold.
pub fn account_list(data: &[u8]) {
    let reference: Option<Value> = serde_json::from_slice(data).ok();
    let list = match (List::parse(data), &reference) {
        (Ok(list), _) => list,
        (Err(FetchError::Parse { .. }), Some(_)) => unreachable!("JSON was refused"),
        (Err(_), _) => return,
    };
    let Remarks {
        rejected,
        merged,
        clamped,
        example,
    } = &list.remarks;
    let is_odd = rejected + merged + clamped > 0;
    assert_eq!(example.is_some(), is_odd, "{:?}", list.remarks);
    assert!(list.entries.len() + merged <= ENTRIES_MAX);
    let identities: HashSet<_> = list.entries.iter().map(|entry| &entry.identity).collect();
    assert_eq!(
        identities.len(),
        list.entries.len(),
        "an account is there twice"
    );
    for Entry { identity, account } in &list.entries {
        let Some(account) = account else { continue };
        assert_eq!(
            (&account.identity(), &Identity::of(&account.email)),
            (identity, identity)
        );
        assert_eq!(email::accept(&account.email), Some(&*account.email));
        assert!(account.max_jobs <= MAX_JOBS_CEILING);
        if let Some(error) = account.error() {
            let is_plain = |c: char| c == ' ' || email::is_visible(c);
            assert!(
                !error.is_empty() && error.chars().all(is_plain),
                "{error:?}"
            );
            assert!(error.chars().count() <= ERROR_TEXT_CHARS_MAX);
        }
    }
    // It takes neither the deepest nesting nor the largest numbers.
    if let Some(reference) = &reference {
        let given = reference.as_object().expect("only an object is a list");
        entries_are_told(&list, given);
    }
}

/// Every account stands in the list with its cap, or with a larger one beside a twin.
fn entries_are_told(list: &List, given: &Map<String, Value>) {
    let accounts = list
        .entries
        .iter()
        .filter_map(|entry| entry.account.as_ref());
    for account in accounts {
        let twins = given.iter().filter(|(key, _)| {
            email::accept(key).is_some_and(|email| Identity::of(email) == account.identity())
        });
        let caps: Vec<_> = twins.filter_map(|(_, entry)| cap(entry)).collect();
        // Of one key that is there twice, the reference shows the last entry only.
        assert!(
            list.remarks.merged > 0 || caps == [f64::from(account.max_jobs)],
            "{account:?} of {caps:?}"
        );
        // A twin may have been rejected for more than its cap.
        if list.remarks.rejected > 0 {
            continue;
        }
        let least = caps
            .iter()
            .copied()
            .fold(f64::from(MAX_JOBS_CEILING), f64::min);
        assert!(
            f64::from(account.max_jobs) <= least,
            "{account:?} of {caps:?}"
        );
    }
    assert!(given.len() >= list.entries.len(), "more accounts than keys");
}

/// The cap that an entry tells.
fn cap(entry: &Value) -> Option<f64> {
    let cap = match entry.as_object()?.get("maxJobs") {
        None | Some(Value::Null) => 1.0,
        Some(cap) => cap.as_f64()?,
    };
    (cap >= 0.0 && cap.fract() == 0.0).then_some(cap.min(f64::from(MAX_JOBS_CEILING)))
}
