//! When a name comes to mean another account, jobs, caps and exclusions follow it.

use super::{
    rounds::{RECONCILING, at, learned},
    *,
};

#[test]
fn a_waiter_takes_an_account_that_its_exclusion_no_longer_means() {
    let mut bench = Bench::new(&[("Ann@x", 1), ("b@x", 1)]);
    bench.pick_of(Some("b@x"), &[]).unwrap();
    let waiter = bench.wait_for(None, &["ann@x"]);
    bench.apply(&[("Ann@x", 1), ("b@x", 1), ("ann@x", 0)], START);
    assert_eq!(bench.handed_over(), [(waiter, "Ann@x".to_owned())]);
}

#[test]
fn jobs_of_an_account_that_is_spelled_anew_count() {
    let (composed, decomposed) = ("\u{e9}@x", "e\u{301}@x");
    let mut bench = learned(RECONCILING, &[(composed, 1)]);
    bench.round(1, &[(11, composed)]);
    bench.round(2, &[(11, decomposed)]);
    bench.apply(&[(decomposed, 1)], at(3));
    assert_eq!(bench.pool.account(decomposed).unwrap().in_flight(), 1);
    bench.round(10, &[(11, decomposed)]);
    bench.round(20, &[(11, decomposed)]);
    assert_eq!(bench.pool.account(decomposed).unwrap().in_flight(), 1);
}

#[test]
fn a_job_counts_on_the_namesake_that_joins_later() {
    let mut bench = learned(RECONCILING, &[("Ann@x", 1)]);
    bench.round(1, &[(11, "ann@x")]);
    bench.apply(&[("Ann@x", 1), ("ann@x", 1)], at(2));
    assert_eq!(bench.pool.account("ann@x").unwrap().in_flight(), 1);
    bench.round(10, &[(11, "ann@x")]);
    bench.round(20, &[(11, "ann@x")]);
    assert_eq!(bench.pool.account("ann@x").unwrap().in_flight(), 1);
}

#[test]
fn a_job_counts_where_the_newest_round_spells_it() {
    let mut bench = learned(RECONCILING, &[("Ann@x", 1), ("ann@x", 1)]);
    bench.round(1, &[(11, "Ann@x")]);
    bench.round(10, &[(11, "ann@x")]);
    assert_eq!(bench.pool.account("ann@x").unwrap().in_flight(), 1);
}

#[test]
fn a_job_counts_once_its_name_means_one_account() {
    let mut bench = learned(RECONCILING, &[("Ann@x", 1), ("ann@x", 1)]);
    bench.round(1, &[(11, "ANN@x")]);
    bench.apply(&[("Ann@x", 1)], at(2));
    assert_eq!(bench.pool.account("Ann@x").unwrap().in_flight(), 1);
    bench.round(10, &[(11, "ANN@x")]);
    bench.round(20, &[(11, "ANN@x")]);
    assert_eq!(bench.pool.account("Ann@x").unwrap().in_flight(), 1);
}

impl Bench {
    fn tell_caps(&mut self, seconds: u64, caps: &[(&str, u32)]) {
        let caps = caps.iter().map(|(email, max_jobs)| AccountCap {
            email: (*email).to_owned(),
            max_jobs: *max_jobs,
        });
        let round = Round {
            sent_at: at(seconds),
            caps: caps.collect(),
            ..Round::default()
        };
        self.pool.reconcile(&round, at(seconds), &mut self.rng);
    }

    fn cap(&self, email: &str) -> u32 {
        self.pool.account(email).unwrap().max_jobs
    }
}

#[test]
fn caps_of_namesakes_are_told_apart() {
    let mut bench = learned(RECONCILING, &[("Ann@x", 5), ("ann@x", 5)]);
    bench.tell_caps(1, &[("Ann@x", 5), ("ann@x", 5)]);
    bench.tell_caps(2, &[("Ann@x", 2), ("ann@x", 5)]);
    assert_eq!((bench.cap("Ann@x"), bench.cap("ann@x")), (2, 5));
}

#[test]
fn a_cap_counts_for_an_account_that_is_spelled_in_another_case() {
    let mut bench = learned(RECONCILING, &[("b@x", 5)]);
    bench.tell_caps(1, &[("ANN@x", 2)]);
    bench.apply(&[("b@x", 5), ("ann@x", 5)], at(2));
    bench.tell_caps(3, &[("ANN@x", 2)]);
    assert_eq!(bench.cap("ann@x"), 2);
}

#[test]
fn caps_count_for_all_accounts_that_joined_however_many() {
    let mut bench = learned(RECONCILING, &[("old@x", 5)]);
    // No news: the list stands.
    bench.tell_caps(1, &[("old@x", 2)]);
    let emails: Vec<_> = (0..20).map(|nth| format!("{nth}@x")).collect();
    for joining in [1, 20] {
        let joining = || emails[..joining].iter().map(String::as_str);
        let list: Vec<_> = joining().chain(["old@x"]).map(|email| (email, 5)).collect();
        bench.apply(&list, at(2));
        let caps: Vec<_> = joining().chain(["old@x"]).map(|email| (email, 2)).collect();
        bench.tell_caps(3, &caps);
        assert!(joining().all(|email| bench.cap(email) == 2));
        assert_eq!(bench.cap("old@x"), 5);
    }
}
