//! What is known of leases, accounts and jobs beyond what decides about slots.

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

const VIDEO: &str = "/videos/text2video";

fn caller(name: &str) -> Caller {
    Caller {
        client: Some(name.into()),
        request_id: format!("r-{name}").into(),
    }
}

impl Bench {
    /// A submission of `name` on `a@x`.
    fn sent_by(&mut self, name: &str, seconds: u64) -> LeaseId {
        let ask = Ask {
            ttl: None,
            caller: caller(name),
            operation: Some(VIDEO.into()),
            ..self.ask(Some("a@x"), &[])
        };
        let picked = self.pool.pick(&ask, at(seconds), &mut self.rng);
        picked.unwrap().id
    }

    fn settled(&mut self, id: LeaseId, settlement: Settlement, seconds: u64) {
        let email = Name::new("a@x");
        self.pool
            .settle(id, Some(&email), None, settlement, at(seconds));
    }

    /// A submission that the upstream takes as this job.
    fn started_by(&mut self, name: &str, id: u64, seconds: u64) -> LeaseId {
        let lease = self.sent_by(name, seconds);
        self.settled(lease, accepted(id), seconds);
        lease
    }

    fn tally(&self) -> Tally {
        self.pool.account("a@x").unwrap().tally
    }

    /// Jobs that were started, and those that ended: succeeded, failed, unknown.
    fn jobs(&self) -> (u64, [u64; 3]) {
        let tally = self.tally();
        (tally.started, tally.ended)
    }

    /// What is told of jobs since the last call.
    fn told_of_jobs(&mut self) -> Vec<String> {
        let changes = self.pool.take_job_changes().into_iter();
        let words = changes.map(|change| match change {
            JobChange::Started(job) => {
                format!("{} started by {}", named(&job), job.caller.request_id)
            }
            JobChange::Ended { job, end, took } => {
                format!("{} {} after {}s", named(&job), end.as_str(), took.as_secs())
            }
        });
        words.collect()
    }

    /// Since when `a@x` is in its state.
    fn standing_since(&self) -> (AccountState, u64) {
        let account = self.pool.account("a@x").unwrap();
        (account.state, account.since.as_secs())
    }
}

fn named(job: &JobFacts) -> String {
    format!("{}/{}", job.email, job.task_id.as_str())
}

fn accepted(id: u64) -> Settlement {
    Settlement::Accepted {
        task_id: task(id),
        task_type: None,
    }
}

const UNCERTAIN: Settlement = Settlement::Uncertain {
    sent_ago: Duration::ZERO,
};

#[test]
fn a_lease_tells_who_asked_for_it_even_if_they_had_to_wait() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let first = bench.sent_by("ann", 1);
    assert_eq!(bench.pool.lease(first).unwrap().caller, caller("ann"));
    let ask = Ask {
        caller: caller("bob"),
        ..bench.ask(None, &[])
    };
    let waits = bench.pool.pick_or_wait(ask, at(2), &mut bench.rng).unwrap();
    let Admission::Queued(waiter) = waits else {
        panic!("{waits:?}");
    };
    assert_eq!(waiter.since(), at(2));
    assert_eq!(bench.pool.oldest_waits_for(at(5)), Some(at(3)));
    bench.settled(first, Settlement::NotSent, 6);
    let handover = bench.pool.next_handover().unwrap();
    assert_eq!(
        (handover.lease.caller, handover.lease.operation),
        (caller("bob"), None)
    );
    assert_eq!(bench.pool.oldest_waits_for(at(9)), None);
}

#[test]
fn a_state_lasts_since_the_operation_that_showed_it_first() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    assert_eq!(bench.standing_since(), (AccountState::Available, 0));
    let first = bench.sent_by("ann", 3);
    assert_eq!(bench.standing_since(), (AccountState::Full, 3));
    let ask = bench.ask(None, &[]);
    let waits = bench.pool.pick_or_wait(ask, at(4), &mut bench.rng);
    assert!(matches!(waits, Ok(Admission::Queued(_))));
    // The slot goes to the waiter at once: it is never shown as free.
    bench.settled(first, Settlement::NotSent, 5);
    assert_eq!(bench.standing_since(), (AccountState::Full, 3));
    let second = bench.pool.next_handover().unwrap().lease.id;
    assert!(bench.pool.release(second, at(7)));
    assert_eq!(bench.standing_since(), (AccountState::Available, 7));
    let third = bench.sent_by("ann", 8);
    let retry_after = Some(at(10));
    let refused = Settlement::Refused(Blame::PushedBack { retry_after });
    bench.settled(third, refused, 9);
    assert_eq!(bench.standing_since(), (AccountState::Cooling, 9));
    bench.pool.expire(at(25), &mut bench.rng);
    assert_eq!(bench.standing_since(), (AccountState::Available, 25));
    bench.pool.set_draining("a@x", true, at(30)).unwrap();
    assert_eq!(bench.standing_since(), (AccountState::Draining, 30));
    bench.apply(&[("b@x", 1)], at(31));
    bench.apply(&[("a@x", 2)], at(33));
    assert_eq!(
        bench.standing_since(),
        (AccountState::Draining, 33),
        "it was away"
    );
    bench.apply(&[("a@x", 3)], at(35));
    assert_eq!(bench.standing_since(), (AccountState::Draining, 33));
}

#[test]
fn each_job_ends_once_with_what_is_known_when_its_slot_comes_free() {
    let mut bench = learned(RECONCILING, &[("a@x", 4)]);
    let listed = [(1, "a@x"), (2, "a@x"), (3, "a@x"), (4, "a@x")];
    for (id, _) in listed {
        bench.started_by("ann", id, 1);
    }
    bench.round(2, &listed);
    assert_eq!(bench.jobs(), (4, [0, 0, 0]));
    bench.told_of_jobs();
    // A client reads that it is over; the history shows that another one is.
    bench.pool.note_result(&task(1), JobResult::Succeeded);
    bench.pool.job_over(&task(1), at(11));
    let row = HistoryRow {
        task_id: task(2),
        task_type: None,
        prompt: None,
        created_ms: None,
        result: Some(JobResult::Failed),
    };
    let history = History {
        rows: vec![row],
        ..History::default()
    };
    let email = Name::new("a@x");
    bench
        .pool
        .decide_by_history(&email, &history, at(12), at(12));
    bench.pool.job_over(&task(2), at(13));
    assert_eq!(bench.jobs(), (4, [0, 0, 0]), "their slots are still in use");
    bench.round(21, &listed[2..]);
    assert_eq!(bench.jobs(), (4, [1, 1, 0]));
    // The account no longer has the third; the fourth is given up by its client.
    bench.round(22, &[(4, "a@x")]);
    bench.pool.job_over(&task(3), at(23));
    bench.round(24, &[(4, "a@x")]);
    let fourth = bench.pool.leases()[0].id;
    assert!(bench.pool.release(fourth, at(25)));
    assert_eq!(bench.jobs(), (4, [1, 1, 2]));
    // What becomes known afterwards changes nothing.
    bench.pool.note_result(&task(4), JobResult::Succeeded);
    bench.pool.job_over(&task(4), at(26));
    bench.round(27, &[]);
    assert_eq!(bench.jobs(), (4, [1, 1, 2]));
    let told = [
        "a@x/1 succeeded after 10s",
        "a@x/2 failed after 12s",
        "a@x/3 unknown after 22s",
        "a@x/4 unknown after 24s",
    ];
    assert_eq!(bench.told_of_jobs(), told);
}

#[test]
fn a_job_that_a_round_gave_to_another_lease_is_started_once() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lost = bench.sent_by("ann", 1);
    let other = bench.sent_by("bob", 2);
    bench.settled(lost, UNCERTAIN, 3);
    bench.round(4, &[(7, "a@x"), (8, "a@x")]);
    let guessed = bench.job_of(lost).unwrap();
    assert_eq!(bench.jobs().0, 1);
    // The reply of the other submission names it.
    bench.settled(other, accepted(guessed.parse().unwrap()), 5);
    let tasks: Vec<_> = bench
        .pool
        .leases()
        .into_iter()
        .map(|it| it.task_id)
        .collect();
    assert!(tasks.iter().all(Option::is_some), "{tasks:?}");
    assert_eq!(bench.jobs(), (2, [0, 0, 0]));
    bench.round(6, &[(7, "a@x")]);
    bench.pool.job_over(&task(8), at(7));
    bench.round(8, &[(7, "a@x")]);
    assert_eq!(bench.jobs(), (2, [0, 0, 1]));
}

#[test]
fn a_job_that_a_round_gave_to_a_refused_submission_is_not_counted() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lost = bench.sent_by("ann", 1);
    bench.settled(lost, UNCERTAIN, 2);
    bench.round(3, &[(7, "a@x")]);
    assert_eq!(
        (bench.job_of(lost).as_deref(), bench.jobs().0),
        (Some("7"), 1)
    );
    bench.settled(lost, Settlement::Refused(Blame::Request), 4);
    assert_eq!(bench.jobs(), (0, [0, 0, 0]));
}

#[test]
fn a_submission_is_counted_once_by_what_its_answer_says() {
    let mut bench = learned(RECONCILING, &[("a@x", 20)]);
    let retry_after = Some(Duration::ZERO);
    let mut expected = [0; SubmissionOutcome::ALL.len()];
    for (settlement, outcome) in [
        (accepted(1), SubmissionOutcome::Accepted),
        (
            Settlement::Refused(Blame::Request),
            SubmissionOutcome::Refused,
        ),
        (Settlement::Refused(Blame::Token), SubmissionOutcome::Token),
        (Settlement::NotSent, SubmissionOutcome::Unsent),
        (UNCERTAIN, SubmissionOutcome::Uncertain),
        (
            Settlement::Refused(Blame::PushedBack { retry_after }),
            SubmissionOutcome::Full,
        ),
        (
            Settlement::Refused(Blame::SessionBroken),
            SubmissionOutcome::Session,
        ),
        (
            Settlement::Refused(Blame::NoCredit),
            SubmissionOutcome::Credit,
        ),
    ] {
        bench.pool.set_draining("a@x", false, at(1)).unwrap();
        let lease = bench.sent_by("ann", 1);
        bench.settled(lease, settlement.clone(), 2);
        bench.settled(lease, settlement, 3);
        expected[outcome as usize] = 1;
        assert_eq!(bench.tally().submissions, expected, "{outcome:?}");
    }
    // A slot that its client never learnt of is no submission.
    bench.pool.set_draining("a@x", false, at(1)).unwrap();
    let lease = bench.sent_by("ann", 4);
    bench.settled(lease, Settlement::Undelivered, 5);
    assert_eq!(bench.tally().submissions, expected);
}

#[test]
fn the_words_of_the_last_refusal_are_kept_with_its_time() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.sent_by("ann", 1);
    bench
        .pool
        .note_refusal(lease, 429, "too many".into(), at(3));
    bench.settled(lease, Settlement::Refused(Blame::NoCredit), 3);
    let expected = LastRefusal {
        at: at(3),
        status: 429,
        text: "too many".into(),
    };
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(account.last_refusal.as_deref(), Some(&expected));
    let told = bench.pool.take_state_changes();
    let change = told.last().unwrap();
    assert_eq!((&*change.email, change.to), ("a@x", AccountState::Parked));
    assert_eq!(change.until, account.until);
    assert_eq!(change.reason.as_deref(), account.reason());
}

#[test]
fn the_counts_of_an_account_outlive_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let name = |idx: usize| format!("{idx}@x");
    let names: Vec<_> = (0..=SERIES_MAX).map(name).collect();
    let mut list: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    list.insert(0, ("a@x", 2));
    bench.apply(&list, at(1));
    let moved = |bench: &mut Bench, email: &str| bench.pool.note_moved(&Name::new(email));
    // One of the first, and two that have no series of their own.
    let (one, last) = (names[0].clone(), names[SERIES_MAX].clone());
    for email in ["a@x", &one, &last, &last] {
        moved(&mut bench, email);
    }
    let has_series = |bench: &Bench, email: &str| bench.pool.account(email).unwrap().has_series;
    assert!(has_series(&bench, "a@x") && has_series(&bench, &one));
    assert!(!has_series(&bench, &last));
    let sums = |bench: &Bench| {
        let tallies = bench.pool.tallies();
        (tallies.all.moved, tallies.others.moved)
    };
    assert_eq!(sums(&bench), (4, 2));
    // All leave but the last one, which is still counted with the others.
    bench.apply(&[(&last, 1)], at(2));
    moved(&mut bench, &last);
    assert_eq!(sums(&bench), (5, 3));
    let departed = bench.pool.tallies().departed;
    let mut left: Vec<_> = departed
        .iter()
        .map(|it| (&*it.email, it.tally.moved))
        .collect();
    left.sort_unstable();
    assert_eq!(left, [(&*one, 1), ("a@x", 1)]);
    // It goes on where it was.
    bench.apply(&[("a@x", 2), (&last, 1)], at(3));
    moved(&mut bench, "a@x");
    assert_eq!((bench.tally().moved, sums(&bench)), (2, (6, 3)));
    assert_eq!(bench.pool.tallies().departed.len(), 1);
    bench.apply(&[], at(4));
    assert_eq!(sums(&bench), (6, 3));
}

#[test]
fn a_full_account_tells_when_its_next_slot_is_expected() {
    let mut bench = learned(RECONCILING, &[("a@x", 2), ("b@x", 1)]);
    let usual = crate::kling::endpoints::usual_duration(Some(VIDEO));
    let next_free = |bench: &mut Bench, email: &str, seconds| {
        bench.pool.foresee(at(seconds));
        let account = bench.pool.account_named(&Name::new(email), at(seconds));
        account.unwrap().next_free_in
    };
    bench.started_by("ann", 1, 10);
    assert_eq!(next_free(&mut bench, "a@x", 10), None, "a slot is free");
    bench.started_by("ann", 2, 20);
    assert_eq!(next_free(&mut bench, "a@x", 30), Some(usual - at(20)));
    assert_eq!(next_free(&mut bench, "b@x", 30), None);
    // It grows by one slot, whose job is refused for a long while, and shrinks again.
    bench.apply(&[("a@x", 3), ("b@x", 1)], at(30));
    let refused = bench.sent_by("ann", 30);
    let blame = Blame::PushedBack {
        retry_after: Some(at(600)),
    };
    bench.settled(refused, Settlement::Refused(blame), 31);
    assert_eq!(next_free(&mut bench, "a@x", 31), None, "a slot is free");
    bench.apply(&[("a@x", 2), ("b@x", 1)], at(32));
    assert_eq!(next_free(&mut bench, "a@x", 40), Some(at(591)), "it cools");
    bench.pool.set_draining("a@x", true, at(41)).unwrap();
    assert_eq!(next_free(&mut bench, "a@x", 41), None, "it takes no job");
}

#[test]
fn an_alias_names_an_account_where_aliases_count() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let alias = bench.pool.account("a@x").unwrap().alias.to_string();
    let found = |bench: &Bench, name: &Name| {
        let account = bench.pool.account_named(name, START);
        account.ok().map(|account| account.email.to_string())
    };
    assert_eq!(
        found(&bench, &Name::or_alias(&alias)).as_deref(),
        Some("a@x")
    );
    assert_eq!(
        found(&bench, &Name::or_alias("B@x")).as_deref(),
        Some("b@x")
    );
    assert_eq!(
        found(&bench, &Name::new(&alias)),
        None,
        "an e-mail is asked for"
    );
    let upper = alias.to_uppercase();
    assert_eq!(
        found(&bench, &Name::or_alias(&upper)).as_deref(),
        Some("a@x")
    );
    // One that is excluded by its alias stays so when it comes back.
    bench.apply(&[("b@x", 1)], at(1));
    let held = bench.pick().unwrap();
    assert_eq!(found(&bench, &Name::or_alias(&alias)), None);
    let waiter = bench.wait_for(None, &[&alias]);
    bench.apply(&[("a@x", 1), ("b@x", 1)], at(2));
    assert_eq!(bench.handed_over(), []);
    assert!(bench.release(&held));
    assert_eq!(bench.handed_over(), [(waiter, "b@x".to_owned())]);
}

#[test]
fn an_alias_of_two_accounts_names_neither() {
    let mut bench = learned(RECONCILING, &[]);
    let aliased = |email: &str, alias: &str| {
        let mut account = Account::new(email, 1);
        account.alias = accounts_fetcher::Alias::from_text(alias).unwrap();
        account
    };
    let apply = |bench: &mut Bench, accounts, seconds| {
        let snapshot = Snapshot::from_iter(accounts);
        bench.pool.apply(&snapshot, at(seconds), &mut bench.rng);
    };
    let accounts = vec![aliased("a@x", "a-00000001"), aliased("b@x", "a-00000001")];
    apply(&mut bench, accounts, 1);
    let name = Name::or_alias("a-00000001");
    assert!(bench.pool.account_named(&name, START).is_err());
    // A pick that excludes it excludes both.
    assert_eq!(
        bench.pick_of(None, &["a-00000001"]),
        Err(Refusal::NoUsableAccount)
    );
    // Another spelling brings another alias.
    let accounts = vec![aliased("a@X", "a-00000002"), aliased("b@x", "a-00000001")];
    apply(&mut bench, accounts, 2);
    for (alias, email) in [("a-00000001", "b@x"), ("a-00000002", "a@X")] {
        let account = bench.pool.account_named(&Name::or_alias(alias), START);
        assert_eq!(&*account.unwrap().email, email);
    }
}
