//! The caps that a round shows, by account: for every account of the upstream, and kept from round to round. So the
//! e-mails lie behind each other in one text, and take no memory beside it.

use std::cmp::Ordering;

use super::{AccountCap, name::Name};

/// Caps by e-mail.
#[derive(Debug, Default)]
pub(super) struct Caps {
    /// The e-mails.
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

    /// Those that `old` does not show.
    pub(super) fn changed_since<'a>(
        &'a self,
        old: &'a Self,
    ) -> impl Iterator<Item = (&'a str, u32)> {
        let mut old = old.from(0).peekable();
        self.from(0).filter(move |row| {
            let is_before = |(email, _): &(&str, u32)| compare(email, row.0).is_lt();
            while old.next_if(is_before).is_some() {}
            old.peek() != Some(row)
        })
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
            let told: Vec<_> = other.changed_since(&one).map(|(email, cap)| (Name::new(email), cap)).collect();
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
