use std::{array, collections::BTreeMap};

use super::*;
use crate::kling::references::Reference;

/// Owners and the journal that they are stored in.
struct Run {
    owners: Owners,
    journal: BTreeMap<String, String>,
}

/// Tables of at most so many owners each.
const OWNERS_MAX: usize = 20_000;

fn owners() -> Owners {
    Owners {
        tables: array::from_fn(|_| OwnerTable::with_max(OWNERS_MAX)),
        ..Owners::default()
    }
}

impl Run {
    fn first() -> Self {
        let journal = BTreeMap::new();
        let owners = owners();
        Self { owners, journal }.next()
    }

    /// What a later run knows.
    fn next(self) -> Self {
        let read = |value: &String| serde_json::from_str(value).unwrap();
        let stored = self.journal.iter();
        let stored = stored.map(|(place, value)| (place.clone(), read(value)));
        let owners = owners();
        owners.restore(&stored.collect::<Vec<_>>());
        Self {
            owners,
            journal: self.journal,
        }
    }

    fn learn(&self, kind: ReferenceKind, text: &str, owner: &str) {
        self.owners.learn(kind, text, &owner.into());
    }

    /// The owner, which is used.
    fn owner(&self, kind: ReferenceKind, text: &str) -> Option<String> {
        let reference = Reference::new("f", kind, text).unwrap();
        Some(self.owners.owner(&reference)?.to_string())
    }

    /// Commits once. Returns how many records that wrote.
    fn commit(&mut self) -> usize {
        let changes = self.owners.take_changes();
        for change in &changes {
            assert_eq!(change.table, Table::Owner);
            let value = change.value.clone().unwrap();
            self.journal.insert(change.name.clone(), value);
        }
        changes.len()
    }

    fn commit_all(&mut self) {
        while self.commit() > 0 {}
    }
}

#[test]
fn what_was_learnt_is_known_to_a_later_run() {
    let known = [
        (ReferenceKind::Work, "17"),
        (ReferenceKind::Avatar, "123456789"),
        (ReferenceKind::Element, "u_1"),
        (ReferenceKind::Voice, "u_1"),
        (ReferenceKind::Motion, "motion_1"),
        (ReferenceKind::Upload, "17"),
        (ReferenceKind::Url, "https://cdn/a.png?sign=secret"),
        (ReferenceKind::Task, "-17"),
    ];
    let mut run = Run::first();
    for (idx, (kind, text)) in known.into_iter().enumerate() {
        run.learn(kind, text, "old@x");
        run.learn(kind, text, &format!("{idx}@x"));
    }
    run.commit_all();
    let stored = format!("{:?}", run.journal);
    assert!(
        !stored.contains("cdn") && !stored.contains("secret"),
        "{stored}"
    );
    let run = run.next();
    for (idx, (kind, text)) in known.into_iter().enumerate() {
        assert_eq!(run.owner(kind, text), Some(format!("{idx}@x")), "{kind:?}");
    }
    let with_another_signature = "https://cdn/a.png?sign=other";
    assert_eq!(
        run.owner(ReferenceKind::Url, with_another_signature)
            .as_deref(),
        Some("6@x")
    );
}

#[test]
fn the_newest_word_about_an_owner_counts_in_a_later_run() {
    let mut run = Run::first();
    let learn_others = |run: &Run, ids: std::ops::Range<u32>| {
        for id in ids {
            run.learn(ReferenceKind::Task, &id.to_string(), "a@x");
        }
    };
    learn_others(&run, 10..15);
    run.learn(ReferenceKind::Task, "1", "a@x");
    run.commit_all();
    let mut run = run.next();
    learn_others(&run, 15..25);
    run.learn(ReferenceKind::Task, "1", "b@x");
    run.commit_all();
    // A journal has no order: by its name, the newer record comes first here.
    let places = run
        .journal
        .iter()
        .filter(|(_, value)| value.contains(r#""id":"1","#));
    let places: Vec<_> = places.map(|(name, _)| name.as_str()).collect();
    assert_eq!(places, ["task-16", "task-5"]);
    assert_eq!(
        run.next().owner(ReferenceKind::Task, "1").as_deref(),
        Some("b@x")
    );
}

#[test]
fn what_was_known_is_not_stored_again() {
    let mut run = Run::first();
    run.learn(ReferenceKind::Task, "1", "a@x");
    assert_eq!(run.commit(), 1);
    let mut run = run.next();
    run.learn(ReferenceKind::Task, "1", "a@x");
    run.owner(ReferenceKind::Task, "1");
    assert_eq!(run.commit(), 0);
}

#[test]
fn a_commit_has_a_bounded_share_for_each_kind_and_keeps_their_order() {
    let mut run = Run::first();
    for id in 1..=2 * TAKEN_MAX {
        run.learn(ReferenceKind::Task, &id.to_string(), "a@x");
    }
    run.learn(ReferenceKind::Work, "1", "a@x");
    assert_eq!(run.commit(), TAKEN_OF_KIND_MAX + 1);
    assert_eq!(run.commit(), TAKEN_OF_KIND_MAX);
    let run = run.next();
    let is_known = |id: usize| run.owner(ReferenceKind::Task, &id.to_string()).is_some();
    assert!(is_known(1) && is_known(2 * TAKEN_OF_KIND_MAX));
    assert!(
        !is_known(2 * TAKEN_OF_KIND_MAX + 1),
        "it was not stored yet"
    );
    assert!(run.owner(ReferenceKind::Work, "1").is_some());
}

#[test]
fn what_waits_to_be_stored_is_bounded_and_the_oldest_gives_way() {
    let mut run = Run::first();
    for id in 1..=WAITING_MAX + 1 {
        run.learn(ReferenceKind::Task, &id.to_string(), "a@x");
    }
    run.commit_all();
    assert_eq!(run.journal.len(), WAITING_MAX);
    let run = run.next();
    assert_eq!(run.owner(ReferenceKind::Task, "1"), None);
    assert!(run.owner(ReferenceKind::Task, "2").is_some());
}

#[test]
fn the_journal_holds_as_many_as_the_table_and_keeps_what_is_used() {
    let mut run = Run::first();
    run.learn(ReferenceKind::Task, "7", "used@x");
    for id in 0..3 * OWNERS_MAX / 2 {
        run.learn(ReferenceKind::Work, &(id + 100).to_string(), "a@x");
        run.learn(ReferenceKind::Task, &(id + 100).to_string(), "a@x");
        if id % 1000 == 0 {
            assert!(run.owner(ReferenceKind::Task, "7").is_some());
            run.commit_all();
        }
    }
    run.commit_all();
    assert_eq!(run.journal.len(), 2 * OWNERS_MAX);
    let run = run.next();
    assert_eq!(
        run.owner(ReferenceKind::Task, "7").as_deref(),
        Some("used@x")
    );
    assert_eq!(run.owner(ReferenceKind::Task, "100"), None);
    let newest = 3 * OWNERS_MAX / 2 + 99;
    assert!(
        run.owner(ReferenceKind::Work, &newest.to_string())
            .is_some()
    );
}

#[test]
fn nothing_is_noted_without_a_journal_and_what_cannot_be_read_is_passed_over() {
    let owners = owners();
    owners.learn(ReferenceKind::Task, "1", &"a@x".into());
    assert_eq!(owners.take_changes(), []);
    let stored = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let journal = [
        stored("task-0", r#"{"id":"1","owner":"a@x","seq":0,"of":"later"}"#),
        stored("moon-1", r#"{"id":"2","owner":"a@x","seq":1}"#),
        stored("task-x", r#"{"id":"3","owner":"a@x","seq":2}"#),
    ];
    let run = Run {
        owners,
        journal: journal.into(),
    };
    let run = run.next();
    let owner = |id| run.owner(ReferenceKind::Task, id);
    assert_eq!(
        ["1", "2", "3"].map(owner),
        [Some("a@x".to_owned()), None, None]
    );
}
