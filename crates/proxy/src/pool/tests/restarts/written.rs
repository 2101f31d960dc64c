//! What is written of a pool, and what is known after a restart of what was not.

use super::*;

#[test]
fn a_lost_submission_whose_name_was_not_written_is_known_by_it() {
    let mut stage = Stage::new();
    let lost = stage.submit("a@x", None, "cat", 1);
    stage.journal.commit(&mut stage.bench.pool);
    stage.lose(lost, "cat", 2);
    // NameLost is the next operation; the batch was taken before it.
    stage.crash(3);
    assert_eq!(
        stage.bench.pool.known_of(lost),
        Some(Known::InUse(Vec::new()))
    );
    assert_eq!(
        stage.bench.pool.recall(&Claim::of_lost(lost)),
        Some(Known::InUse(Vec::new()))
    );
}

#[test]
fn a_tie_names_no_job_to_a_record() {
    let mut stage = Stage::new();
    let lost = stage.submit("a@x", None, "cat", 1);
    stage.round(2, &[("a@x", 77)]); // a second tool's: stands for it
    stage.journal.commit(&mut stage.bench.pool);
    stage.lose(lost, "cat", 3);
    stage.crash(4);
    let k = stage.bench.pool.known_of(lost);
    assert!(!matches!(k, Some(Known::Job { .. })), "{k:?}");
}

#[test]
fn nothing_is_rewritten_at_a_start_that_changes_nothing() {
    let mut stage = Stage::new();
    let lease = stage.submit("b@x", None, "runs", 1);
    let email = Name::new("b@x");
    let settlement = Settlement::Accepted {
        task_id: task(1),
        task_type: None,
    };
    stage
        .bench
        .pool
        .settle(lease, Some(&email), Some(body("runs")), settlement, at(2));
    stage.round(3, &[("b@x", 1), ("a@x", 9)]);
    stage.crash(4);
    let names: Vec<_> = stage.bench.pool.take_changed().names().collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_tie_that_was_undone_leaves_no_history_to_read() {
    let mut stage = Stage::new();
    let lost = stage.submit("a@x", Some("key"), "cat", 1);
    let email = Name::new("a@x");
    stage.lose(lost, "cat", 2);
    stage.round(3, &[("a@x", 5)]);
    assert!(stage.bench.pool.lease(lost).unwrap().task_id.is_some());
    // Its true owner names it.
    let other = stage.submit("a@x", None, "dog", 2);
    accept(&mut stage, other, 5, "dog", 4);
    assert!(stage.bench.pool.lease(lost).unwrap().task_id.is_none());
    let history = History {
        rows: vec![row(5, "dog")],
        is_whole: true,
        has_unreadable: false,
    };
    stage
        .bench
        .pool
        .decide_by_history(&email, &history, at(5), at(5));
    assert!(
        stage.bench.pool.undecided().is_empty(),
        "{:?}",
        stage.bench.pool.undecided()
    );
}

#[test]
fn a_lease_tells_after_a_restart_who_asked_for_it_and_which_run_granted_it() {
    let mut stage = Stage::new();
    let caller = Caller {
        client: Some("ann".into()),
        request_id: "r-1".into(),
    };
    let ask = Ask {
        caller: caller.clone(),
        ..stage.bench.ask(Some("a@x"), &[])
    };
    let Bench { pool, rng } = &mut stage.bench;
    pool.session = Some("5e551".into());
    let id = pool.pick(&ask, at(1), rng).unwrap().id;
    let bound = pool.pick(
        &Ask {
            lease_id: LeaseId::random(rng),
            ..ask
        },
        at(1),
        rng,
    );
    let bound = bound.unwrap().id;
    pool.bind(bound, task(1), at(1)).unwrap();
    stage.crash(2);
    let pool = &mut stage.bench.pool;
    assert_eq!(pool.lease(id).unwrap().caller, caller);
    let name = RecordName::Lease(id);
    let record = serde_json::to_value(pool.record(&name).unwrap()).unwrap();
    assert_eq!(
        (&record["client"], &record["requestId"], &record["session"]),
        (&"ann".into(), &"r-1".into(), &"5e551".into())
    );
    // Jobs are counted since the start.
    assert_eq!(stage.account("a@x").tally, Tally::default());
    stage.learn(3, &[("a@x", 1)]);
    let pool = &mut stage.bench.pool;
    pool.job_untracked(&task(1), at(4));
    let tally = stage.account("a@x").tally;
    assert_eq!((tally.started, tally.ended(JobEnd::Unknown)), (0, 1));
}

#[test]
fn a_lease_of_an_earlier_version_tells_of_no_caller() {
    let record = r#"{"account":"a@x","createdAt":5,"state":"reserved","ttl":{"length":60000,"endsAt":60005}}"#;
    let lease: LeaseRecord = serde_json::from_str(record).unwrap();
    let saved = Saved {
        leases: vec![("0".repeat(32).parse().unwrap(), lease)],
        ..Saved::default()
    };
    let pool = Pool::restored(RECONCILING, saved, None, at(1));
    assert_eq!(pool.leases()[0].caller, Caller::default());
}
