//! Model checking of the ledger: shuttle runs the same threads under many schedules, random ones
//! and ones that delay a thread at the worst moment (PCT, Burckhardt et al. 2010). A failing
//! schedule is printed and can be replayed. Shuttle reports a waiter that is never woken as a
//! deadlock.
//!
//! Run with `cargo test -p proxy --features shuttle --test shuttle`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use proxy::{
    ledger::{
        AccountsAfter, FollowList, ListProgress, NewestList, Part, PickRequest, Release,
        local::{Entry, Local},
    },
    pool::{LeaseId, LeaseView, Limits, ListChange},
};
use shuttle::{
    future,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

const SCHEDULES: usize = 20_000;
const PCT_DEPTH: usize = 3;

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(body.clone(), SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, PCT_DEPTH);
}

fn list(max_jobs: u32) -> Snapshot {
    Snapshot::from_iter([Account::new("a@x", max_jobs)])
}

fn local(max_jobs: u32) -> Arc<Local> {
    let job_ttl = Duration::from_secs(3900);
    let local = Local::new(Limits {
        waiters_max: 10,
        job_ttl,
        reconciles: false,
        settle: job_ttl,
        ties_picks: false,
    });
    apply(&local, &list(max_jobs));
    Arc::new(local)
}

fn apply(local: &Local, snapshot: &Snapshot) {
    let change = ListChange::between(local.call(NewestList), snapshot);
    assert_eq!(local.call(FollowList { change }), Some(ListProgress::Whole));
}

fn release(local: &Local, lease: &LeaseView) -> bool {
    local.call(Release { id: lease.id })
}

fn request() -> PickRequest {
    let hour = Duration::from_secs(3600);
    PickRequest {
        ttl: Some(hour),
        wait: hour,
        ..PickRequest::default()
    }
}

fn enter(local: &Local) -> Entry<'_> {
    let id = LeaseId::random(&mut rand::rng());
    local.enter(id, &request()).unwrap()
}

fn lease_or_wait(local: &Local) -> LeaseView {
    match enter(local) {
        Entry::Granted(lease) => *lease,
        Entry::Waiting(mut waiting) => future::block_on(waiting.granted()).unwrap(),
    }
}

fn held(local: &Local) -> u32 {
    let part = Part {
        after: None,
        limit: 1,
    };
    local.call(AccountsAfter(part)).view.rows[0].held
}

fn join_all(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn never_more_holders_than_slots_and_every_waiter_is_served() {
    check(|| {
        let local = local(2);
        let holders = Arc::new(AtomicU32::new(0));
        let threads = (0..4).map(|_| {
            let (local, holders) = (Arc::clone(&local), Arc::clone(&holders));
            thread::spawn(move || {
                let lease = lease_or_wait(&local);
                assert!(holders.fetch_add(1, Ordering::SeqCst) < 2, "over the cap");
                holders.fetch_sub(1, Ordering::SeqCst);
                assert!(release(&local, &lease));
            })
        });
        join_all(threads.collect());
        assert_eq!(held(&local), 0);
    });
}

#[test]
fn a_waiter_that_leaves_in_the_instant_of_the_hand_over_leaks_nothing() {
    check(|| {
        let local = local(1);
        let first = lease_or_wait(&local);
        let leaver = {
            let local = Arc::clone(&local);
            thread::spawn(move || match enter(&local) {
                Entry::Granted(lease) => assert!(release(&local, &lease)),
                Entry::Waiting(waiting) => drop(waiting),
            })
        };
        let stayer = {
            let local = Arc::clone(&local);
            thread::spawn(move || {
                let lease = lease_or_wait(&local);
                assert!(release(&local, &lease));
            })
        };
        assert!(release(&local, &first));
        join_all(vec![leaver, stayer]);
        assert_eq!(held(&local), 0);
    });
}

#[test]
fn a_waiter_whose_time_is_up_has_the_slot_or_it_does_not() {
    check(|| {
        let local = local(1);
        let first = lease_or_wait(&local);
        let late = {
            let local = Arc::clone(&local);
            thread::spawn(move || {
                let lease = match enter(&local) {
                    Entry::Granted(lease) => Some(*lease),
                    Entry::Waiting(waiting) => waiting.give_up().ok(),
                };
                if let Some(lease) = lease {
                    assert_eq!(held(&local), 1, "a slot of its own");
                    assert!(release(&local, &lease));
                }
            })
        };
        assert!(release(&local, &first));
        late.join().unwrap();
        assert_eq!(held(&local), 0);
    });
}

#[test]
fn a_list_that_changes_under_way_strands_no_waiter() {
    check(|| {
        let local = local(1);
        let threads = (0..3).map(|_| {
            let local = Arc::clone(&local);
            thread::spawn(move || {
                let lease = lease_or_wait(&local);
                assert!(release(&local, &lease));
            })
        });
        let threads: Vec<_> = threads.collect();
        apply(&local, &list(2));
        apply(&local, &list(1));
        join_all(threads);
        assert_eq!(held(&local), 0);
    });
}
