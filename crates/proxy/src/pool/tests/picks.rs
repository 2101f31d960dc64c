//! What a pick gets, and why it is refused.

use super::*;

#[test]
fn leases_exactly_the_slots_there_are() {
    let mut bench = Bench::new(&[("a@x", 2), ("b@x", 3), ("c@x", 5)]);
    let leases = bench.fill();
    let count = |email| leases.iter().filter(|lease| &*lease.email == email).count();
    assert_eq!((count("a@x"), count("b@x"), count("c@x")), (2, 3, 5));
    assert_eq!(bench.pick(), Err(SATURATED));

    for lease in &leases {
        assert!(bench.release(lease));
        assert_eq!(
            bench.pick().unwrap().email,
            lease.email,
            "only its account has a slot"
        );
        assert_eq!(bench.pick(), Err(SATURATED));
    }
}

#[test]
fn refuses_in_words_that_tell_why() {
    let mut pool = Pool::new(LIMITS);
    let mut rng = SmallRng::seed_from_u64(1);
    let ask = Ask {
        lease_id: LeaseId::random(&mut rng),
        ttl: Some(TTL),
        constraint: Constraint::AnyBut(Excluded::default()),
        caller: Caller::default(),
        operation: None,
        max_jobs: None,
        place: None,
        wait: Duration::ZERO,
        body: None,
        mark: None,
    };
    assert_eq!(pool.pick(&ask, START, &mut rng), Err(Refusal::Learning));
    pool.apply(&Snapshot::default(), START, &mut rng);
    assert_eq!(pool.pick(&ask, START, &mut rng), Err(Refusal::NoAccounts));

    let error = Some("Failed to refresh session".into());
    let broken = Account::new("a@x", 1).with_details(error, None);
    pool.apply(&Snapshot::from_iter([broken]), START, &mut rng);
    assert_eq!(
        pool.pick(&ask, START, &mut rng),
        Err(Refusal::NoUsableAccount)
    );

    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 0)]);
    assert_eq!(
        bench.pick_of(Some("b@x"), &[]),
        Err(Refusal::NoUsableAccount),
        "no wait brings a slot of an account that has none"
    );
    assert_eq!(
        bench.pick_of(None, &["a@x", "b@x", "a@x"]),
        Err(Refusal::NoUsableAccount)
    );
    bench.pool.set_draining("a@x", true, START).unwrap();
    assert_eq!(bench.pick_of(None, &["b@x"]), Err(Refusal::NoUsableAccount));
    assert_eq!(
        bench.pool.constraint(Some("nobody@x"), &[]),
        Err(UnknownAccount)
    );
}

#[test]
fn finds_accounts_exactly_then_ignoring_case_if_one_matches() {
    let bench = Bench::new(&[("Ann@x", 1), ("ann@x", 1), ("Bob@X", 1)]);
    let email = |name| {
        bench
            .pool
            .account(name)
            .map(|account| account.email.to_string())
    };
    assert_eq!(email("ann@x"), Ok("ann@x".to_owned()));
    assert_eq!(email("Ann@x"), Ok("Ann@x".to_owned()));
    assert_eq!(email("ANN@x"), Err(UnknownAccount), "two accounts match");
    assert_eq!(email("bob@x"), Ok("Bob@X".to_owned()));
}

#[test]
fn excluded_accounts_are_never_drawn() {
    let mut bench = Bench::new(&[("a@x", 50), ("b@x", 1), ("c@x", 50)]);
    let lease = bench.pick_of(None, &["A@x", "c@x", "stranger@x"]).unwrap();
    assert_eq!(&*lease.email, "b@x");
    assert_eq!(bench.pick_of(None, &["a@x", "c@x"]), Err(SATURATED));
    let mut bench = Bench::new(&[("Ann@x", 1), ("ann@x", 1)]);
    assert_eq!(
        bench.pick_of(None, &["ANN@x"]),
        Err(Refusal::NoUsableAccount),
        "a name that may mean two excludes both"
    );
}
