//! What a new list costs.

use super::*;

#[test]
fn a_new_list_costs_what_it_changes() {
    let set_up = |how: fn(&mut Vec<(String, u32)>)| {
        move |size: u32| {
            let (mut bench, _) = running_book(size, 1);
            let ask = bench.ask(None, &[&email(0)]);
            drop(ask);
            let mut list = list(size, MAX_JOBS);
            how(&mut list);
            let accounts = list.iter().map(|(email, max)| Account::new(email, *max));
            let snapshot: Snapshot = accounts.collect();
            let change = ListChange::between(bench.pool.list(), &snapshot);
            (bench, Some(change))
        }
    };
    let follow = |(bench, change): &mut (Bench, Option<ListChange>)| {
        let change = change.take().unwrap();
        assert!(bench.pool.follow(change, at(3), &mut bench.rng));
    };
    assert_flat(costs(set_up(|_| ()), follow), 0);
    assert_flat(costs(set_up(|list| list[7].1 = 9), follow), 4);
    assert_flat(costs(set_up(|list| drop(list.remove(7))), follow), 4);
    assert_flat(
        costs(set_up(|list| list.push(("new@x".to_owned(), 1))), follow),
        4,
    );
}

#[test]
fn a_part_of_a_new_list_costs_its_own_entries() {
    const ENTRIES: usize = 50;
    let set_up = |how: fn(&mut Vec<(String, u32)>)| {
        move |size: u32| {
            let (mut bench, _) = running_book(size, 1);
            let mut list = list(size, MAX_JOBS);
            how(&mut list);
            let accounts = list.iter().map(|(email, max)| Account::new(email, *max));
            let snapshot: Snapshot = accounts.collect();
            let change = ListChange::between(bench.pool.list(), &snapshot);
            assert!(bench.pool.begin_list(change, at(3), &mut bench.rng));
            bench
        }
    };
    let follow = |bench: &mut Bench| {
        assert!(bench.pool.follow_list(ENTRIES, at(3), &mut bench.rng));
    };
    // Each entry, and the state that its account is in now.
    let most = 2 * ENTRIES as u64;
    let caps = set_up(|list| list.iter_mut().for_each(|(_, max)| *max += 1));
    assert_flat(costs(caps, follow), most);
    let gone = set_up(Vec::clear);
    assert_flat(costs(gone, follow), most);
    let renamed = set_up(|list| {
        list.iter_mut()
            .for_each(|(email, _)| *email = format!("new-{email}"));
    });
    assert_flat(costs(renamed, follow), most);
}

#[test]
fn an_account_that_left_is_forgotten_at_the_same_cost() {
    let set_up = |size| {
        let mut bench = book(size);
        let lease = take_of(&mut bench, 0, 1, None);
        for account in 1..size {
            take_of(&mut bench, account, 1, None);
        }
        apply(&mut bench, &[], at(2));
        (bench, lease)
    };
    let end = |(bench, lease): &mut (Bench, LeaseId)| {
        assert!(bench.pool.end(*lease, Cause::Released, at(3)));
        assert!(bench.pool.account(&email(0)).is_err());
    };
    assert_flat(costs(set_up, end), 4);
}
