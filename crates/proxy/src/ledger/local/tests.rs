//! The lock around the pool: what is logged, what is taken back, which waiter is told.

use std::{
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{
    ledger::{
        GlanceNow, KnowsKey, LeasesAfter, Ledger, Part, ROWS_MAX, Release, SetDraining,
        tests::{any_account, held, ledger_of, pick},
    },
    pool::{Blame, Body, Claim, Fingerprint, Key, Limits, Name, Settlement},
    telemetry::tests::{child, lines, what_to_do},
};

/// Lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock();
        lines.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn new_id() -> LeaseId {
    LeaseId::random(&mut rand::rng())
}

fn settle(lease: LeaseId, settlement: Settlement) -> Settle {
    Settle {
        lease,
        email: Some(Name::new("a@x")),
        body: None,
        settlement,
        refusal: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_changes_with_its_version_only() {
    let ledger = ledger_that_lets_wait();
    let Ledger::Local(local) = &*ledger;
    let shown = async || {
        let mut accounts = Vec::new();
        let each = ledger.each_account(|account| accounts.push(format!("{account:?}")));
        each.await.unwrap();
        let leases = ledger.call(LeasesAfter(Part {
            after: None,
            limit: ROWS_MAX,
        }));
        let glance = ledger.call(GlanceNow).await.unwrap().view;
        format!("{accounts:?} {:?} {glance:?}", leases.await.unwrap().view)
    };
    let text = shown().await;
    let mut before = (ledger.shown_version(), text);
    let mut changed = async |what: &str, is_change: bool| {
        // What came back, and what is due, is done by the next call; the loop that keeps the time makes one.
        let text = shown().await;
        let after = (ledger.shown_version(), text);
        assert_eq!(before.0 != after.0, is_change, "{what}");
        assert_eq!(before.1 != after.1, is_change, "{what}");
        before = after;
    };
    changed("looking", false).await;
    let picked = pick(&ledger, &any_account()).await.unwrap();
    changed("a pick", true).await;
    let waits = PickRequest {
        wait: any_account().ttl.unwrap(),
        ..any_account()
    };
    assert!(pick(&ledger, &any_account()).await.is_err());
    changed("a refusal", false).await;
    let Ok(Entry::Waiting(waiting)) = local.enter(new_id(), &waits) else {
        panic!("no slot is free");
    };
    changed("a waiter", true).await;
    drop(waiting);
    changed("a waiter that leaves", true).await;
    drop(picked);
    changed("a slot that comes back", true).await;
    let submitted = pick(&ledger, &PickRequest::default()).await.unwrap();
    let lease = submitted.lease().id;
    let body = Body {
        operation: "/videos".into(),
        fingerprint: Fingerprint::of(["1"]),
        prompt: None,
    };
    drop(submitted.submit(body));
    changed("a lost submission", true).await;
    local.call(settle(lease, Settlement::Refused(Blame::SessionBroken)));
    changed("a quarantine", true).await;
    for is_draining in [true, false] {
        let name = Name::new("a@x");
        let drained = ledger.call(SetDraining { name, is_draining }).await;
        drained.unwrap().unwrap();
        changed("the operator's switch", true).await;
    }
    let kept = pick(&ledger, &any_account()).await.unwrap();
    kept.keep();
    changed("a pick that is kept", true).await;
    time::advance(any_account().ttl.unwrap()).await;
    changed("its end", true).await;
}

#[test]
fn what_becomes_of_an_account_is_logged_once() {
    let lines = Lines::default();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines.clone());
    tracing::subscriber::with_default(log.finish(), || {
        let ledger = ledger_of(2);
        let Ledger::Local(local) = &*ledger;
        let leases = [new_id(), new_id()];
        for lease in leases {
            assert!(matches!(
                local.enter(lease, &any_account()),
                Ok(Entry::Granted(_))
            ));
        }
        for lease in leases {
            local.call(settle(lease, Settlement::Refused(Blame::SessionBroken)));
        }
        let resume = SetDraining {
            name: Name::new("a@x"),
            is_draining: false,
        };
        local.call(resume).unwrap();
    });
    let text = lines.0.lock().clone();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for (line, words) in text.lines().zip([
        ["ERROR", "account is quarantined", "POST /accounts"],
        ["INFO", "account is available again", "from=\"quarantined\""],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        assert!(!line.contains("a@x"), "accounts have aliases: {line}");
    }
}

#[tokio::test]
async fn the_same_lease_id_again_gets_the_same_grant() {
    let ledger = ledger_of(2);
    let id = new_id();
    let first = ledger
        .pick(id, &any_account(), Instant::now())
        .await
        .unwrap();
    let again = ledger
        .pick(id, &any_account(), Instant::now())
        .await
        .unwrap();
    assert_eq!(first.lease().view, again.lease().view);
    assert_eq!(held(&ledger).await, 1);
    first.keep();
    again.keep();
    assert!(ledger.call(Release { id }).await.unwrap());
    assert!(!ledger.call(Release { id }).await.unwrap(), "it was one");
}

/// One account with one slot, and a queue of two.
fn ledger_that_lets_wait() -> Arc<Ledger> {
    let hour = Duration::from_secs(3600);
    let ledger = ledger_of(1);
    let Ledger::Local(local) = &*ledger;
    local.lock().pool = Pool::new(Limits {
        waiters_max: 2,
        job_ttl: hour,
        reconciles: false,
        settle: hour,
        ties_picks: false,
    });
    let account = accounts_fetcher::Account::new("a@x", 1);
    let snapshot = accounts_fetcher::Snapshot::from_iter([account]);
    local.change(|state, now| state.pool.apply(&snapshot, now, &mut rand::rng()));
    ledger
}

fn wait(local: &Local, id: LeaseId, claim: Option<Claim>) -> Waiting<'_> {
    let request = PickRequest {
        wait: Duration::from_secs(3600),
        claim,
        ..any_account()
    };
    match local.enter(id, &request).unwrap() {
        Entry::Waiting(waiting) => waiting,
        Entry::Granted(lease) => panic!("{lease:?}"),
    }
}

#[tokio::test]
async fn a_waiter_that_is_gone_when_its_slot_comes_leaves_no_key_in_use() {
    let ledger = ledger_that_lets_wait();
    let Ledger::Local(local) = &*ledger;
    let slot = pick(&ledger, &any_account()).await.unwrap();
    let key = Key::new("k");
    let claim = Claim {
        key: key.clone(),
        fingerprint: Fingerprint::of(["1"]),
    };
    let waiting = wait(local, new_id(), Some(claim));
    let id = slot.lease().view.id;
    slot.keep();
    assert!(local.call(Release { id }));
    // Its client hangs up in the moment in which the slot was handed over.
    drop(waiting);
    assert!(!local.call(KnowsKey { key }), "nothing was sent");
    assert_eq!(held(&ledger).await, 0);
}

#[tokio::test]
async fn a_call_that_comes_again_keeps_its_slot_when_the_first_one_is_dropped() {
    let ledger = ledger_that_lets_wait();
    let Ledger::Local(local) = &*ledger;
    let slot = pick(&ledger, &any_account()).await.unwrap();
    let id = new_id();
    let waiting = wait(local, id, None);
    let held_before = slot.lease().view.id;
    slot.keep();
    assert!(local.call(Release { id: held_before }));
    let again = ledger
        .pick(id, &any_account(), Instant::now())
        .await
        .unwrap();
    drop(waiting);
    assert_eq!(held(&ledger).await, 1, "the second call has it");
    again.keep();
}

#[tokio::test]
async fn a_call_that_waits_and_comes_again_keeps_its_place() {
    let ledger = ledger_that_lets_wait();
    let Ledger::Local(local) = &*ledger;
    let wait = |id| wait(local, id, None);
    let slot = pick(&ledger, &any_account()).await.unwrap();
    let (first, second) = (new_id(), new_id());
    let gone = wait(first);
    let other = wait(second);
    let mut again = wait(first);
    // The connection of the first try breaks, but the second try has its place by now.
    drop(gone);
    drop(slot);
    // The task that keeps time takes back what was dropped.
    tokio::select! {
        granted = again.granted() => assert_eq!(granted.unwrap().id, first),
        () = local.keep_time() => unreachable!("it has no end"),
    }
    drop(other);
}

#[tokio::test]
async fn what_is_dropped_takes_effect_before_the_next_operation() {
    let ledger = ledger_of(1);
    for is_sent in [false, true] {
        let slot = pick(&ledger, &any_account()).await.unwrap();
        if is_sent {
            let body = Body {
                operation: "/videos".into(),
                fingerprint: Fingerprint::of(["1"]),
                prompt: None,
            };
            drop(slot.submit(body));
            let account = crate::ledger::tests::first_account(&ledger).await;
            assert_eq!(account.uncertain, 1, "it is unknown whether it was sent");
        } else {
            drop(slot);
            assert_eq!(held(&ledger).await, 0);
        }
    }
}

#[test]
fn a_panic_under_the_lock_is_logged_and_ends_the_process() {
    let name = "ledger::local::tests::a_panic_under_the_lock_is_logged_and_ends_the_process";
    if what_to_do().is_some() {
        let ledger = ledger_of(1);
        let Ledger::Local(local) = &*ledger;
        let broken = panic::catch_unwind(AssertUnwindSafe(|| {
            local.change(|_, _| panic!("on purpose"));
        }));
        assert!(broken.is_err());
        local.change(|_, _| ());
        unreachable!("the ledger may be half changed");
    }
    let output = child(name, "panic");
    assert!(!output.status.success(), "{output:?}");
    let panics = lines(&output, "on purpose");
    assert_eq!(panics.len(), 1, "{output:?}");
    let location = panics[0]["fields"]["location"].as_str().unwrap();
    assert!(location.contains("local/tests.rs:"), "{location}");
    assert_eq!(lines(&output, "half changed").len(), 1, "{output:?}");
}
