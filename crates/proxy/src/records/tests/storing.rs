//! What is taken for the journal, and what a later run finds in it.

use std::{collections::BTreeMap, net::IpAddr, pin::pin};

use tokio::sync::Notify;

use super::*;
use crate::{
    journal::Table,
    pool::{Claim, Digest, Key, Known},
};

const LIVED: Duration = Duration::from_secs(1000);

/// Records whose changes are written to a journal, and the journal.
struct Run {
    records: Arc<JobRecords>,
    writer: Arc<Notify>,
    journal: BTreeMap<String, String>,
}

impl Run {
    fn first() -> Self {
        Self::after(BTreeMap::new())
    }

    /// A run that has restored nothing yet.
    fn after(journal: BTreeMap<String, String>) -> Self {
        let (records, writer) = (records(), Arc::<Notify>::default());
        records.track(Arc::clone(&writer));
        Self {
            records,
            writer,
            journal,
        }
    }

    /// Commits what has changed. Returns how many records that were.
    fn commit(&mut self, lived: Duration) -> usize {
        let changes = self.records.take_changes(lived);
        for change in &changes {
            assert_eq!(change.table, Table::JobStart);
            match &change.value {
                Some(value) => self.journal.insert(change.name.clone(), value.clone()),
                None => self.journal.remove(&change.name),
            };
        }
        changes.len()
    }

    /// The next run, after a kill. `known`: what its ledger says of leases.
    fn next(self, lived: Duration, known: impl Fn(LeaseId) -> Option<Known>) -> Self {
        let stored = self.journal.iter().map(|(name, value)| {
            let stored = serde_json::from_str(value).unwrap();
            (name.parse().unwrap(), stored)
        });
        let stored = stored.collect();
        let next = Self::after(self.journal);
        next.records.restore(stored, lived, known);
        next
    }

    fn next_knowing_nothing(self, lived: Duration) -> Self {
        self.next(lived, |_| None)
    }

    fn is_woken(&self) -> bool {
        let mut notified = pin!(self.writer.notified());
        notified.as_mut().enable()
    }

    /// What `/jobs` shows, newest first.
    fn shown(&self) -> Vec<String> {
        let listed = self.records.all();
        let shown = listed.iter().map(|(id, it)| {
            format!(
                "{id} {} {:?} {:?} {} {:?} {} {:?} {} {} {:?}",
                it.request_id,
                it.key,
                it.client_name,
                it.body.operation,
                it.email,
                it.outcome.as_str(),
                it.task_id(),
                it.is_delivered(),
                it.at,
                it.result,
            )
        });
        shown.collect()
    }
}

fn new_lease() -> LeaseId {
    LeaseId::random(&mut rand::rng())
}

/// A start that has asked for a lease, and is under way.
fn under_way(run: &Run, arrival: &Arrival) -> (Delivery, UnderWay, LeaseId) {
    let Entered::New(delivery) = run.records.enter(arrival, true) else {
        panic!("there is no other start");
    };
    let lease = new_lease();
    run.records.note_lease(delivery.id(), lease);
    let under_way = run.records.submit(delivery.id());
    (delivery, under_way, lease)
}

/// The client has its answer.
fn use_up(run: &Run, delivery: &Delivery) {
    run.records.note_taken(delivery.to(), State::UsedUp);
}

/// A start with a key, by a client with a name.
fn keyed() -> Arrival {
    Arrival {
        request_id: "named".into(),
        key: Some("k".into()),
        client_name: Some("ann".into()),
        claim: Some(Claim {
            key: Key::new("name:ann POST /v k"),
            fingerprint: Fingerprint::of(["named"]),
        }),
        ..arrival(None)
    }
}

/// A start of a client that is known by its address.
fn from_afar(fingerprint: u64) -> Arrival {
    let mut arrival = arrival(Some(fingerprint));
    if let Some(twin) = &mut arrival.twin {
        (twin.scope, twin.ip) = ("token:1".into(), Some(ip("192.0.2.7")));
    }
    arrival
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn task(text: &str) -> TaskId {
    text.parse().unwrap()
}

#[test]
fn a_later_run_shows_the_same_jobs() {
    let mut run = Run::first();
    for (fingerprint, task_id, is_used_up) in [(1, "7", false), (2, "8", true), (5, "11", false)] {
        let (delivery, accepting, _) = under_way(&run, &arrival(Some(fingerprint)));
        accepting.settle(Fate {
            email: Some("a@x".into()),
            ..accepted(task_id)
        });
        if is_used_up {
            use_up(&run, &delivery);
        }
    }
    under_way(&run, &keyed()).1.settle(accepted("-9"));
    run.records.note_result(&task("11"), JobResult::Failed);
    run.records.note_result(&task("8"), JobResult::Succeeded);
    for (fingerprint, outcome) in [
        (6, Outcome::Refused("full")),
        (7, Outcome::Unsent),
        (8, Outcome::Uncertain(Error::TimedOut)),
    ] {
        let (delivery, ended, _) = under_way(&run, &arrival(Some(fingerprint)));
        ended.settle(Fate::of(outcome));
        use_up(&run, &delivery);
    }
    let shown = run.shown();
    assert_eq!((shown.len(), run.commit(LIVED)), (7, 7));
    assert_eq!(run.commit(LIVED), 0, "each change is taken once");
    let run = run.next_knowing_nothing(LIVED);
    assert_eq!(run.shown(), shown);
    // Neither those that are used up nor one that has failed is anybody's answer.
    for fingerprint in [2, 5, 6, 7, 8] {
        drop(enter(&run.records, Some(fingerprint)));
    }
    promised(&run.records, 1);
}

#[test]
fn an_answer_that_a_client_missed_is_delivered_once_over_all_runs() {
    let mut run = Run::first();
    under_way(&run, &arrival(Some(1))).1.settle(Fate {
        email: Some("a@x".into()),
        ..accepted("7")
    });
    under_way(&run, &from_afar(4)).1.settle(accepted("10"));
    run.commit(LIVED);

    let mut run = run.next_knowing_nothing(LIVED);
    let promise = promised(&run.records, 1);
    let record = run.records.get(promise.delivery.id()).unwrap();
    assert_eq!(
        (record.task_id(), record.email.as_deref()),
        (Some(&task("7")), Some("a@x"))
    );
    use_up(&run, &promise.delivery);
    let is_promised =
        |run: &Run| matches!(run.records.enter(&from_afar(4), true), Entered::Twin(_));
    let poll = |text| {
        run.records
            .note_polled(&task("10"), "token:1", Some(ip(text)))
    };
    poll("192.0.2.8");
    assert!(is_promised(&run), "another client has polled it");
    poll("192.0.2.7");
    assert!(!is_promised(&run));
    assert_eq!(run.commit(LIVED), 2);

    let run = run.next_knowing_nothing(LIVED);
    drop(enter(&run.records, Some(1)));
    assert!(!is_promised(&run));
}

#[tokio::test]
async fn an_answer_that_was_just_written_at_a_clean_end_is_delivered_unless_its_client_has_left() {
    for has_left in [false, true] {
        for is_clean in [false, true] {
            let mut run = Run::first();
            let (_client, theirs) = taken(&run.records).await;
            let _theirs = (!has_left).then_some(theirs);
            if is_clean {
                run.records.trust_written();
            }
            run.commit(LIVED);
            let run = run.next_knowing_nothing(LIVED);
            let entered = run.records.enter(&arrival(Some(1)), true);
            let is_missed = matches!(entered, Entered::Twin(_));
            assert_eq!(
                is_missed,
                has_left || !is_clean,
                "{has_left} {is_clean} {entered:?}"
            );
        }
    }
}

#[test]
fn a_lost_submission_is_asked_for_under_the_same_name_in_a_later_run() {
    let mut run = Run::first();
    let (_delivery, lost, lease) = under_way(&run, &arrival(Some(9)));
    let claim = Claim::of_lost(lease);
    lost.settle(Fate {
        lease: Some(lease),
        claim: Some(claim.clone()),
        ..Fate::of(Outcome::Uncertain(Error::OutcomeUnknown))
    });
    run.commit(LIVED);
    let run = run.next(LIVED, |_| unreachable!("the ledger is asked later"));
    let lost = promised(&run.records, 9).delivery.id();
    let lost = run.records.get(lost).unwrap();
    assert_eq!((lost.lease, lost.claim), (Some(lease), Some(claim)));
}

#[test]
fn submissions_that_were_under_way_are_asked_for_by_their_leases() {
    let mut run = Run::first();
    let mut unkeyed = arrival(Some(1));
    unkeyed.body.prompt = Some(Digest::of("a boat"));
    let kept = [under_way(&run, &unkeyed), under_way(&run, &keyed())];
    let first = kept[0].2;
    // Its lease was granted, and it was not told so yet.
    let third = new_lease();
    let waiting = enter(&run.records, Some(3));
    run.records.note_lease(waiting.id(), third);
    assert_eq!(run.commit(LIVED), 3);
    let run = run.next(LIVED, |_| Some(Known::InUse(Vec::new())));
    let records = run.records.all();
    let mut claims: Vec<_> = records.iter().map(|(_, it)| it.claim.clone()).collect();
    claims.reverse();
    let expected = [
        Claim::of_lost(first),
        keyed().claim.unwrap(),
        Claim::of_lost(third),
    ];
    assert_eq!(claims, expected.map(Some));
    for (_, record) in run.records.all() {
        assert_eq!(record.outcome, Outcome::Uncertain(Error::OutcomeUnknown));
    }
    let record = promised(&run.records, 1).delivery.id();
    let record = run.records.get(record).unwrap();
    assert_eq!(record.claim, Some(Claim::of_lost(first)));
}

#[test]
fn a_submission_that_was_under_way_becomes_what_the_ledger_knows() {
    let mut run = Run::first();
    let accepted = under_way(&run, &arrival(Some(1)));
    let refused = under_way(&run, &arrival(Some(2)));
    run.commit(LIVED);
    let mut run = run.next(LIVED, |lease| {
        (lease == accepted.2).then(|| Known::Job {
            task_id: task("7"),
            email: Some("a@x".into()),
            lease,
        })
    });
    let record = promised(&run.records, 1).delivery.id();
    let record = run.records.get(record).unwrap();
    assert_eq!(
        (record.task_id(), record.email.as_deref()),
        (Some(&task("7")), Some("a@x"))
    );
    assert_eq!(record.lease, Some(accepted.2));
    drop(enter(&run.records, Some(2)));
    run.commit(LIVED);
    assert_eq!(run.journal.len(), 1, "the one that is no job is gone");
    drop((accepted.0, refused));
}

#[test]
fn a_call_without_a_lease_is_not_stored_and_one_that_got_none_is_gone() {
    let mut run = Run::first();
    let (first, second) = (enter(&run.records, Some(1)), enter(&run.records, Some(2)));
    assert_eq!(run.commit(LIVED), 0);
    for delivery in [&first, &second] {
        run.records.note_lease(delivery.id(), new_lease());
    }
    assert!(!run.is_woken(), "whoever writes the grant writes this, too");
    drop(first);
    assert_eq!(run.commit(LIVED), 1);
    assert!(!run.is_woken());
    drop(second);
    assert!(run.is_woken());
    assert_eq!((run.commit(LIVED), run.journal.len()), (1, 0));
}

#[test]
fn a_call_that_waited_again_is_shown_as_it_was_refused() {
    let mut run = Run::first();
    let (delivery, refused, _) = under_way(&run, &arrival(Some(1)));
    refused.settle(Fate::of(Outcome::Refused("full")));
    run.records.wait_again(delivery.id());
    run.records.note_lease(delivery.id(), new_lease());
    run.commit(LIVED);
    let run = run.next_knowing_nothing(LIVED);
    let (_, record) = run.records.all().pop().unwrap();
    assert_eq!(record.outcome, Outcome::Refused("full"));
}

#[test]
fn a_call_that_waits_again_after_it_was_sent_without_a_slot_is_shown_as_it_was_refused() {
    let mut run = Run::first();
    let delivery = enter(&run.records, Some(1));
    run.records.note_unlisted(delivery.id(), new_lease());
    let refused = run.records.submit(delivery.id());
    refused.settle(Fate::of(Outcome::Refused("full")));
    run.records.wait_again(delivery.id());
    run.commit(LIVED);
    let run = run.next_knowing_nothing(LIVED);
    let (_, record) = run.records.all().pop().unwrap();
    assert_eq!(record.outcome, Outcome::Refused("full"));
}

#[test]
fn a_submission_without_a_slot_is_uncertain_though_the_ledger_knows_nothing_of_it() {
    let mut run = Run::first();
    let delivery = enter(&run.records, Some(1));
    let lease = new_lease();
    run.records.note_unlisted(delivery.id(), lease);
    // It is sent as soon as this is written.
    run.commit(LIVED);
    let _under_way = run.records.submit(delivery.id());
    assert_eq!(run.commit(LIVED), 0);
    let run = run.next(LIVED, |_| None);
    let promise = promised(&run.records, 1);
    let record = run.records.get(promise.delivery.id()).unwrap();
    assert_eq!(record.outcome, Outcome::Uncertain(Error::OutcomeUnknown));
}

#[test]
fn ages_count_lived_time_alone() {
    for (minutes, is_promised) in [(9, true), (10, false)] {
        let mut run = Run::first();
        under_way(&run, &arrival(Some(1))).1.settle(accepted("7"));
        run.commit(LIVED);
        let run = run.next_knowing_nothing(LIVED + Duration::from_secs(60 * minutes));
        let entered = run.records.enter(&arrival(Some(1)), true);
        assert_eq!(
            matches!(entered, Entered::Twin(_)),
            is_promised,
            "{entered:?}"
        );
        assert_eq!(run.records.all().len(), 2 - usize::from(is_promised));
    }
    let mut run = Run::first();
    under_way(&run, &arrival(Some(1))).1.settle(accepted("7"));
    run.commit(LIVED);
    let mut run = run.next_knowing_nothing(LIVED + Duration::from_secs(24 * 3600));
    assert_eq!(run.shown().len(), 0);
    assert_eq!((run.commit(LIVED), run.journal.len()), (1, 0));
}

#[test]
fn what_is_stored_and_what_is_taken_at_once_is_bounded() {
    let mut run = Run::first();
    let store = |run: &Run| {
        let deliveries = (0..RECORDS_MAX).map(|_| {
            let delivery = enter(&run.records, None);
            run.records.note_lease(delivery.id(), new_lease());
            delivery
        });
        deliveries.collect::<Vec<_>>()
    };
    let first = store(&run);
    assert_eq!(run.commit(LIVED), RECORDS_MAX);
    let second = store(&run);
    drop(first);
    assert_eq!(run.commit(LIVED), 2 * RECORDS_MAX);
    assert_eq!(run.journal.len(), RECORDS_MAX);
    let mut more = run.journal.clone();
    let stored = run
        .journal
        .values()
        .next()
        .unwrap()
        .replace("waiting", "unsent");
    more.values_mut()
        .for_each(|value| value.clone_from(&stored));
    more.insert("1000000".to_owned(), stored);
    let mut next = Run::after(more).next_knowing_nothing(LIVED);
    assert_eq!(next.records.all().len(), RECORDS_MAX);
    assert_eq!((next.commit(LIVED), next.journal.len()), (1, RECORDS_MAX));
    assert_eq!(
        enter(&next.records, None).id(),
        1_000_001,
        "newer than all that are stored"
    );
    drop(second);
}

#[test]
fn without_a_journal_nothing_is_noted() {
    let records = records();
    let delivery = enter(&records, Some(1));
    records.note_lease(delivery.id(), new_lease());
    records.submit(delivery.id()).settle(accepted("7"));
    assert_eq!(records.take_changes(LIVED), []);
}

#[test]
fn records_of_other_versions_are_read() {
    let body = r#"{"operation":"/v","fingerprint":"0000000000000000000000000000000000000000000000000000000000000001"}"#;
    let stored = [
        format!(
            r#"{{"requestId":"a","client":"ann","body":{body},"outcome":"accepted","taskId":"7","at":"2026-01-02T03:04:05Z",
            "arrivedMs":1000,"settledMs":2000,"result":"failed","twin":{{"scope":"name:ann"}},"isUsedUp":true,"of":"later"}}"#
        ),
        format!(
            r#"{{"requestId":"b","body":{body},"outcome":"moon","at":"","arrivedMs":1000,"isUsedUp":false}}"#
        ),
    ];
    let names = ["1", "2"].map(str::to_owned);
    let run = Run::after(names.into_iter().zip(stored).collect());
    let run = run.next_knowing_nothing(LIVED);
    let shown = run.shown();
    let expected = r#"1 a None Some("ann") /v None accepted Some(TaskId("7")) true 2026-01-02T03:04:05Z Some(Failed)"#;
    assert_eq!(shown[1], expected);
    assert!(shown[0].contains(" refused "), "{shown:?}");
    assert_eq!(shown.len(), 2);
}
