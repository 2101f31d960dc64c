//! Model checking of the ledger: shuttle runs the same threads under many schedules, random ones
//! and ones that delay a thread at the worst moment (PCT, Burckhardt et al. 2010). A failing
//! schedule is printed and can be replayed. A waiter that is never woken is a deadlock to it.
//!
//! Run with `cargo test -p proxy --features shuttle --test shuttle`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use proxy::{
    ledger::{
        PickRequest,
        memory::{Entry, Memory},
    },
    pool::{Cause, LeaseView, Limits},
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
    Snapshot {
        accounts: vec![Account::new("a@x", max_jobs)],
    }
}

fn memory(max_jobs: u32) -> Arc<Memory> {
    let job_ttl = Duration::from_secs(3900);
    let memory = Memory::new(Limits {
        waiters_max: 10,
        job_ttl,
        reconciles: false,
        settle: job_ttl,
        ties_picks: false,
    });
    memory.apply(&list(max_jobs));
    Arc::new(memory)
}

fn request() -> PickRequest {
    let hour = Duration::from_secs(3600);
    PickRequest {
        email: None,
        exclude: Vec::new(),
        ttl: Some(hour),
        wait: hour,
        operation: None,
        max_jobs: None,
    }
}

fn lease_or_wait(memory: &Memory) -> LeaseView {
    match memory.enter(&request()).unwrap() {
        Entry::Granted(lease) => lease,
        Entry::Waiting(mut waiting) => future::block_on(waiting.granted()).unwrap(),
    }
}

fn held(memory: &Memory) -> u32 {
    memory.accounts()[0].held
}

fn join_all(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn never_more_holders_than_slots_and_every_waiter_is_served() {
    check(|| {
        let memory = memory(2);
        let holders = Arc::new(AtomicU32::new(0));
        let threads = (0..4).map(|_| {
            let (memory, holders) = (Arc::clone(&memory), Arc::clone(&holders));
            thread::spawn(move || {
                let lease = lease_or_wait(&memory);
                assert!(holders.fetch_add(1, Ordering::SeqCst) < 2, "over the cap");
                holders.fetch_sub(1, Ordering::SeqCst);
                assert!(memory.end(lease.id, Cause::Released));
            })
        });
        join_all(threads.collect());
        assert_eq!(held(&memory), 0);
    });
}

#[test]
fn a_waiter_that_leaves_in_the_instant_of_the_hand_over_leaks_nothing() {
    check(|| {
        let memory = memory(1);
        let first = lease_or_wait(&memory);
        let leaver = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || match memory.enter(&request()).unwrap() {
                Entry::Granted(lease) => assert!(memory.end(lease.id, Cause::Released)),
                Entry::Waiting(waiting) => drop(waiting),
            })
        };
        let stayer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let lease = lease_or_wait(&memory);
                assert!(memory.end(lease.id, Cause::Released));
            })
        };
        assert!(memory.end(first.id, Cause::Released));
        join_all(vec![leaver, stayer]);
        assert_eq!(held(&memory), 0);
    });
}

#[test]
fn a_waiter_whose_time_is_up_has_the_slot_or_it_does_not() {
    check(|| {
        let memory = memory(1);
        let first = lease_or_wait(&memory);
        let late = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let lease = match memory.enter(&request()).unwrap() {
                    Entry::Granted(lease) => Some(lease),
                    Entry::Waiting(waiting) => waiting.give_up().ok(),
                };
                if let Some(lease) = lease {
                    assert_eq!(held(&memory), 1, "a slot of its own");
                    assert!(memory.end(lease.id, Cause::Released));
                }
            })
        };
        assert!(memory.end(first.id, Cause::Released));
        late.join().unwrap();
        assert_eq!(held(&memory), 0);
    });
}

#[test]
fn a_list_that_changes_under_way_strands_no_waiter() {
    check(|| {
        let memory = memory(1);
        let threads = (0..3).map(|_| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let lease = lease_or_wait(&memory);
                assert!(memory.end(lease.id, Cause::Released));
            })
        });
        let threads: Vec<_> = threads.collect();
        memory.apply(&list(2));
        memory.apply(&list(1));
        join_all(threads);
        assert_eq!(held(&memory), 0);
    });
}
