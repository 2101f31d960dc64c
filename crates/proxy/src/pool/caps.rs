//! The caps that a round shows, by account: for every account of the upstream. The next round is compared with them, for
//! which a hash of each suffices.

use std::{cmp::Ordering, hash::BuildHasher};

use foldhash::quality::FixedState;

use super::{AccountCap, name::Name};

/// Caps by e-mail.
#[derive(Debug, Default)]
pub(super) struct Caps {
    /// The e-mails, behind each other.
    text: Box<str>,
    /// In the order of names: those that differ in ASCII case only are neighbours.
    rows: Box<[Row]>,
}

#[derive(Debug)]
struct Row {
    /// Where its e-mail ends in the text. It begins where that of the row before ends.
    end: u32,
    cap: u32,
}

/// Which caps a round showed of which e-mails.
#[derive(Debug, Default)]
pub(super) struct ShownCaps {
    /// The hashes of all e-mails with their caps, in ascending order.
    hashes: Box<[u64]>,
}

impl ShownCaps {
    fn have(&self, email: &str, cap: u32) -> bool {
        self.hashes.binary_search(&hash(email, cap)).is_ok()
    }
}

/// The same in every run. One of a hundred thousand caps that were shown has the hash of another one once in 10^14 changes.
/// Then that one does not count before the upstream or the list changes it again.
fn hash(email: &str, cap: u32) -> u64 {
    FixedState::default().hash_one((email, cap))
}

impl Caps {
    /// Of two caps of one e-mail the later one counts.
    pub(super) fn of(mut caps: Vec<AccountCap>) -> Self {
        caps.reverse();
        caps.sort_by(|one, other| compare(&one.email, &other.email));
        caps.dedup_by(|one, other| one.email == other.email);
        let mut text = String::new();
        let mut rows = Vec::with_capacity(caps.len());
        for AccountCap { email, max_jobs } in caps {
            // No answer is that long.
            let Ok(end) = u32::try_from(text.len() + email.len()) else {
                break;
            };
            text.push_str(&email);
            rows.push(Row { end, cap: max_jobs });
        }
        Self {
            text: text.into(),
            rows: rows.into(),
        }
    }

    /// The cap of the account `name`: of exactly this spelling, else the only one that differs just
    /// in ASCII case.
    pub(super) fn of_name(&self, name: &Name) -> Option<u32> {
        let first = self.first_not_before(|email| fold(email).lt(fold(name.folded())));
        let alike = self.from(first);
        let alike = alike.take_while(|(email, _)| email.eq_ignore_ascii_case(name.folded()));
        let mut others = None;
        for (nth, (email, cap)) in alike.enumerate() {
            if *email == **name.given() {
                return Some(cap);
            }
            others = (nth == 0).then_some(cap);
        }
        others
    }

    /// Those that were not shown before.
    pub(super) fn changed_since<'a>(
        &'a self,
        before: &'a ShownCaps,
    ) -> impl Iterator<Item = (&'a str, u32)> {
        self.from(0)
            .filter(|(email, cap)| !before.have(email, *cap))
    }

    /// What is to be kept to compare the next round with.
    pub(super) fn shown(&self) -> ShownCaps {
        let mut hashes: Box<[u64]> = self.from(0).map(|(email, cap)| hash(email, cap)).collect();
        hashes.sort_unstable();
        ShownCaps { hashes }
    }

    /// The rows from one on.
    fn from(&self, first: usize) -> impl Iterator<Item = (&str, u32)> {
        (first..self.rows.len()).map(|nth| (self.email(nth), self.rows[nth].cap))
    }

    fn email(&self, nth: usize) -> &str {
        let begin = nth.checked_sub(1).map_or(0, |before| self.rows[before].end);
        &self.text[begin as usize..self.rows[nth].end as usize]
    }

    /// The first row whose e-mail does not come before something.
    fn first_not_before(&self, is_before: impl Fn(&str) -> bool) -> usize {
        let (mut first, mut end) = (0, self.rows.len());
        while first < end {
            let middle = first.midpoint(end);
            if is_before(self.email(middle)) {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        first
    }
}

/// The order of names: by their lower case, then as they are spelled.
fn compare(one: &str, other: &str) -> Ordering {
    fold(one).cmp(fold(other)).then_with(|| one.cmp(other))
}

fn fold(email: &str) -> impl Iterator<Item = u8> {
    email.bytes().map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn caps(told: &[(String, u32)]) -> Caps {
        let caps = told.iter().map(|(email, max_jobs)| AccountCap {
            email: email.clone(),
            max_jobs: *max_jobs,
        });
        Caps::of(caps.collect())
    }

    fn told() -> impl Strategy<Value = Vec<(String, u32)>> {
        prop::collection::vec(("[aAbB\u{e9}]{0,2}@x", 0..3_u32), 0..30)
    }

    proptest! {
        #[test]
        fn caps_are_those_of_a_map_by_name(one in told(), other in told(), asked in "[aAbB\u{e9}]{0,2}@x") {
            let map = |told: &[(String, u32)]| -> BTreeMap<Name, u32> {
                told.iter().map(|(email, cap)| (Name::new(email), *cap)).collect()
            };
            let (known, new) = (map(&one), map(&other));
            let changed: Vec<_> = new.iter().filter(|(name, cap)| known.get(name) != Some(cap)).collect();
            let (one, other) = (caps(&one), caps(&other));
            let told: Vec<_> = other.changed_since(&one.shown()).map(|(email, cap)| (Name::new(email), cap)).collect();
            prop_assert!(told.iter().map(|(name, cap)| (name, cap)).eq(changed));
            let asked = Name::new(&asked);
            let alike: Vec<_> = new.iter()
                .filter(|(name, _)| name.folded() == asked.folded())
                .collect();
            let expected = match (new.get(&asked), &alike[..]) {
                (Some(cap), _) => Some(*cap),
                (None, [(_, cap)]) => Some(**cap),
                (None, _) => None,
            };
            prop_assert_eq!(other.of_name(&asked), expected);
        }
    }
}
