//! What a new account list changes.

use super::*;

#[test]
fn another_spelling_of_an_account_brings_no_new_slots() {
    let mut bench = Bench::new(&[("Ann@X.com", 2)]);
    bench.fill();
    bench.apply(&[("Ann@x.com", 2)], START);
    let account = bench.pool.account("Ann@x.com").unwrap();
    assert_eq!((account.state, account.held), (AccountState::Full, 2));
    assert_eq!(bench.pick(), Err(SATURATED));
    assert_eq!(bench.pool.accounts().count(), 1);
    assert!(bench.pool.account("ann@X.COM").is_ok());
}

#[test]
fn a_removed_account_drains_and_keeps_its_count_if_it_returns() {
    let mut bench = Bench::new(&[("a@x", 2), ("b@x", 1)]);
    let lease = bench.pick_of(Some("a@x"), &[]).unwrap();
    bench.apply(&[("b@x", 1)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.state, account.held, account.available()),
        (AccountState::Removed, 1, 0)
    );
    assert_eq!(bench.pool.constraint(Some("a@x"), &[]), Err(UnknownAccount));
    assert!(bench.pool.lease(lease.id).is_some(), "its lease lives on");

    bench.apply(&[("b@x", 1), ("a@x", 2)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.state, account.held, account.available()),
        (AccountState::Available, 1, 1)
    );
    let order: Vec<_> = bench
        .pool
        .accounts()
        .map(|account| account.email.to_string())
        .collect();
    assert_eq!(order, ["b@x", "a@x"], "the list's order");

    bench.apply(&[("b@x", 1)], START);
    bench.release(&lease);
    assert!(
        bench.pool.account("a@x").is_err(),
        "forgotten with its last slot"
    );
}

#[test]
fn a_drained_account_stays_drained_while_it_is_off_the_list() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    bench.pool.set_draining("a@x", true, START).unwrap();
    bench.apply(&[("b@x", 1)], START);
    bench.apply(&[("a@x", 1), ("b@x", 1)], START);
    assert_eq!(
        bench.pool.account("a@x").unwrap().state,
        AccountState::Draining
    );
    bench.pool.set_draining("a@x", false, START).unwrap();
    assert_eq!(
        bench.pool.account("a@x").unwrap().state,
        AccountState::Available
    );
}

#[test]
fn a_lowered_cap_preempts_nobody() {
    let mut bench = Bench::new(&[("a@x", 3)]);
    let leases = bench.fill();
    bench.apply(&[("a@x", 1)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.held, account.overcommitted(), account.available()),
        (3, 2, 0)
    );
    bench.release(&leases[0]);
    bench.release(&leases[1]);
    assert_eq!(bench.pick(), Err(SATURATED), "one is still in use");
    bench.release(&leases[2]);
    bench.pick().unwrap();
}
