//! What a pool makes of its records, and of the first round after a restart.

mod written;

use super::{
    rounds::{RECONCILING, at, task},
    *,
};
use crate::{keyed_hash::HashKey, pool::fuzzing::journal::Journal};

const VIDEO: &str = "/videos/text2video";
const ACCOUNTS: [(&str, u32); 2] = [("a@x", 5), ("b@x", 5)];

/// A bench whose pool is recorded.
struct Stage {
    bench: Bench,
    journal: Journal,
    key: HashKey,
}

impl Stage {
    fn new() -> Self {
        let mut bench = Bench::empty(RECONCILING, 7);
        bench.pool.record_changes();
        bench.learn(&ACCOUNTS, START);
        Self {
            bench,
            journal: Journal::default(),
            key: HashKey::random(&mut rand::rng()),
        }
    }

    /// The process ends, and goes on from what it wrote. Nothing is fresh yet.
    fn crash(&mut self, seconds: u64) {
        assert!(self.journal.commit(&mut self.bench.pool));
        let pool = &mut self.bench.pool;
        let restored = self
            .journal
            .restored(pool, true, RECONCILING, &self.key, at(seconds));
        self.bench.pool = restored;
    }

    /// The same list as before, and a round that lists these jobs.
    fn learn(&mut self, seconds: u64, jobs: &[(&str, u64)]) {
        self.bench.apply(&ACCOUNTS, at(seconds));
        self.round(seconds, jobs);
    }

    fn round(&mut self, seconds: u64, jobs: &[(&str, u64)]) -> Findings {
        let executing = jobs.iter().map(|(email, id)| RunningJob {
            task_id: task(*id),
            email: (*email).to_owned(),
            mark: None,
        });
        let round = Round {
            sent_at: at(seconds),
            executing: executing.collect(),
            ..Round::default()
        };
        let Bench { pool, rng } = &mut self.bench;
        pool.reconcile(&round, at(seconds), rng)
    }

    /// A slot of `email` for a submission of `text`, under the key `key` if there is one.
    fn submit(&mut self, email: &str, key: Option<&str>, text: &str, seconds: u64) -> LeaseId {
        let ask = Ask {
            ttl: None,
            operation: Some(VIDEO.into()),
            body: Some(Arc::new(body(text))),
            ..self.bench.ask(Some(email), &[])
        };
        let Bench { pool, rng } = &mut self.bench;
        if let Some(key) = key {
            pool.claim(&claim(key, text), ask.lease_id, Kind::Forward)
                .unwrap();
        }
        pool.pick(&ask, at(seconds), rng).unwrap().id
    }

    /// The outcome of a submission on `a@x` is not known.
    fn lose(&mut self, id: LeaseId, text: &str, seconds: u64) {
        let settlement = Settlement::Uncertain {
            sent_ago: Duration::ZERO,
        };
        let (email, body) = (Name::new("a@x"), Some(body(text)));
        let pool = &mut self.bench.pool;
        pool.settle(id, Some(&email), body, settlement, at(seconds));
    }

    fn account(&self, email: &str) -> AccountView {
        self.bench.pool.account(email).unwrap()
    }
}

fn body(text: &str) -> Body {
    Body {
        operation: VIDEO.into(),
        fingerprint: Fingerprint::of([text]),
        prompt: Some(Digest::of(text)),
    }
}

fn claim(key: &str, text: &str) -> Claim {
    Claim {
        key: Key::new(key),
        fingerprint: Fingerprint::of([text]),
    }
}

fn accept(stage: &mut Stage, id: LeaseId, job: u64, text: &str, seconds: u64) {
    let settlement = Settlement::Accepted {
        task_id: task(job),
        task_type: Some("video".into()),
    };
    let email = Name::new("a@x");
    let pool = &mut stage.bench.pool;
    pool.settle(id, Some(&email), Some(body(text)), settlement, at(seconds));
}

#[test]
fn an_account_that_drains_is_told_as_drained_once_it_is_known_that_nothing_runs_on_it() {
    let mut stage = Stage::new();
    let known = stage.submit("a@x", None, "known", 1);
    accept(&mut stage, known, 1, "known", 2);
    let pool = &mut stage.bench.pool;
    for email in ["a@x", "b@x"] {
        pool.set_draining_named(&Name::new(email), true, at(3))
            .unwrap();
    }
    let told = |pool: &mut Pool| {
        let drained = pool.take_drained().into_iter();
        drained.map(|it| it.email.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(pool), ["b@x"]);
    stage.crash(4);
    assert!(told(&mut stage.bench.pool).is_empty(), "what runs?");
    // Another tool has started a job meanwhile.
    stage.learn(5, &[("a@x", 1), ("b@x", 2)]);
    assert!(told(&mut stage.bench.pool).is_empty());
    assert!(stage.bench.pool.release(known, at(6)));
    assert!(told(&mut stage.bench.pool).is_empty(), "its job runs on");
    stage.round(7, &[]);
    assert_eq!(told(&mut stage.bench.pool), ["a@x", "b@x"]);
}

#[test]
fn the_first_round_gives_no_job_to_a_submission_that_was_cut_off() {
    let mut stage = Stage::new();
    let known = stage.submit("a@x", Some("known"), "known", 1);
    accept(&mut stage, known, 1, "known", 2);
    let cut_off = stage.submit("a@x", Some("cut off"), "cut off", 3);
    stage.crash(4);
    stage.learn(5, &[("a@x", 1), ("a@x", 2)]);
    let account = stage.account("a@x");
    // The job may be of it, or of another tool: both count.
    assert_eq!(
        (account.held, account.uncertain, account.foreign),
        (1, 1, 1)
    );
    let pool = &stage.bench.pool;
    assert_eq!(pool.lease(known).unwrap().task_id, Some(task(1)));
    let asked = pool.recall(&claim("cut off", "cut off"));
    assert_eq!(asked, Some(Known::InUse(Vec::new())));
    assert_eq!(
        pool.recall(&claim("cut off", "other")),
        Some(Known::Reused),
        "the fingerprint survives"
    );
    // A job that a later round lists first may be its job.
    stage.round(6, &[("a@x", 1), ("a@x", 2), ("a@x", 3)]);
    let lease = stage.bench.pool.lease(cut_off).unwrap();
    assert_eq!(lease.task_id, Some(task(3)));
}

#[test]
fn a_job_of_the_first_round_is_given_to_no_submission_later() {
    let mut stage = Stage::new();
    let cut_off = stage.submit("a@x", None, "cut off", 1);
    stage.crash(2);
    let ask = stage.bench.ask(Some("a@x"), &[]);
    stage.bench.apply(&ACCOUNTS, at(2));
    stage.round(3, &[("a@x", 1)]);
    // Its client names a job that a round had given to another: that is free again.
    let Bench { pool, rng } = &mut stage.bench;
    let picked = pool.pick(&ask, at(4), rng).unwrap();
    pool.bind(picked.id, task(1), at(5)).unwrap();
    pool.release(picked.id, at(6));
    assert_eq!(pool.lease(cut_off).unwrap().task_id, None);
    stage.round(7, &[("a@x", 1)]);
    assert_eq!(stage.bench.pool.lease(cut_off).unwrap().task_id, None);
    assert_eq!(stage.account("a@x").in_flight(), 2);
}

#[test]
fn a_submission_without_a_key_has_one_of_its_own_after_a_restart() {
    let mut stage = Stage::new();
    let cut_off = stage.submit("a@x", None, "cut off", 1);
    stage.crash(2);
    let known = stage.bench.pool.known_of(cut_off);
    assert_eq!(known, Some(Known::InUse(Vec::new())));
    let claim = Claim::of_lost(cut_off);
    assert_eq!(stage.bench.pool.recall(&claim), known);
    // Over a second restart, too.
    stage.crash(3);
    assert_eq!(stage.bench.pool.recall(&claim), known);
}

#[test]
fn settle_counts_from_the_first_restart_and_absences_of_one_process() {
    let settle = RECONCILING.settle.as_secs();
    let mut stage = Stage::new();
    let cut_off = stage.submit("a@x", Some("key"), "cut off", 1);
    stage.crash(10);
    stage.learn(11, &[]);
    // One round that shows its absence, and another restart.
    stage.round(10 + settle, &[]);
    stage.crash(11 + settle);
    assert!(stage.bench.pool.lease(cut_off).is_some());
    stage.learn(12 + settle, &[]);
    assert!(
        stage.bench.pool.lease(cut_off).is_some(),
        "the absence of the other process does not count"
    );
    stage.round(13 + settle, &[]);
    assert!(stage.bench.pool.lease(cut_off).is_none());
    // Its slot is free, its key is not.
    let asked = stage.bench.pool.recall(&claim("key", "cut off"));
    assert_eq!(asked, Some(Known::InUse(Vec::new())));
    assert_eq!(stage.bench.pool.undecided().len(), 1);
}

#[test]
fn what_waited_has_claimed_nothing() {
    let mut stage = Stage::new();
    for seconds in 1..=5 {
        stage.submit("a@x", None, "full", seconds);
    }
    let ask = Ask {
        ttl: None,
        ..stage.bench.ask(Some("a@x"), &[])
    };
    let Bench { pool, rng } = &mut stage.bench;
    pool.claim(&claim("key", "waits"), ask.lease_id, Kind::Forward)
        .unwrap();
    let admission = pool.pick_or_wait(ask, at(6), rng).unwrap();
    assert!(matches!(admission, Admission::Queued(_)));
    stage.crash(7);
    assert_eq!(stage.bench.pool.recall(&claim("key", "waits")), None);
}

#[test]
fn a_waiter_that_was_granted_keeps_its_claim() {
    let mut stage = Stage::new();
    let leases: Vec<_> = (1..=5)
        .map(|seconds| stage.submit("a@x", None, "full", seconds))
        .collect();
    let ask = Ask {
        ttl: None,
        ..stage.bench.ask(Some("a@x"), &[])
    };
    let Bench { pool, rng } = &mut stage.bench;
    pool.claim(&claim("key", "waits"), ask.lease_id, Kind::Forward)
        .unwrap();
    pool.pick_or_wait(ask, at(6), rng).unwrap();
    stage.journal.commit(&mut stage.bench.pool);
    stage.bench.pool.end(leases[0], Cause::Refused, at(7));
    stage.crash(8);
    let asked = stage.bench.pool.recall(&claim("key", "waits"));
    assert_eq!(asked, Some(Known::InUse(Vec::new())));
}

#[test]
fn an_account_that_left_the_list_keeps_its_slots_until_its_jobs_are_over() {
    let mut stage = Stage::new();
    let lease = stage.submit("b@x", None, "runs", 1);
    accept(&mut stage, lease, 1, "runs", 2);
    stage.bench.apply(&ACCOUNTS[..1], at(3));
    stage.crash(4);
    assert_eq!(stage.account("b@x").state, AccountState::Removed);
    assert_eq!(stage.account("b@x").held, 1);
    stage.bench.apply(&ACCOUNTS, at(5));
    assert_eq!(stage.account("b@x").held, 1);
    assert_eq!(stage.account("b@x").max_jobs, 5);
}

#[test]
fn a_pick_keeps_what_is_left_of_its_ttl() {
    let mut stage = Stage::new();
    let ask = stage.bench.ask(Some("a@x"), &[]);
    let Bench { pool, rng } = &mut stage.bench;
    let lease = pool.pick(&ask, at(10), rng).unwrap();
    stage.crash(40);
    let pool = &mut stage.bench.pool;
    assert_eq!(pool.lease(lease.id).unwrap().expires_at, lease.expires_at);
    assert_eq!(pool.next_deadline(), Some(at(10) + TTL));
}

#[test]
fn pauses_go_on_while_no_process_runs() {
    let mut stage = Stage::new();
    let pause = Duration::from_secs(300);
    let id = stage.submit("a@x", None, "refused", 1);
    let blame = Blame::PushedBack {
        retry_after: Some(pause),
    };
    stage.bench.pool.refuse(id, blame, at(2));
    stage.bench.pool.set_draining("b@x", true, at(2)).unwrap();
    stage.crash(3);
    let account = stage.account("a@x");
    assert_eq!(account.state, AccountState::Cooling);
    assert_eq!(account.until, Some(at(2) + pause));
    assert_eq!(stage.account("b@x").state, AccountState::Draining);
    stage.journal.set_away(Duration::from_secs(200));
    stage.crash(4);
    assert_eq!(stage.account("a@x").until, Some(at(102)));
    stage.journal.set_away(Duration::from_secs(1000));
    stage.crash(5);
    let Bench { pool, rng } = &mut stage.bench;
    pool.expire(at(5), rng);
    assert_eq!(stage.account("a@x").state, AccountState::Available);
}

#[test]
fn what_was_learnt_of_an_operation_is_known_after_a_restart() {
    let mut stage = Stage::new();
    let lease = stage.submit("a@x", None, "runs", 1);
    accept(&mut stage, lease, 1, "runs", 1);
    stage.round(2, &[("a@x", 1)]);
    stage.bench.pool.job_over(&task(1), at(40));
    stage.round(41, &[]);
    let operation = VIDEO.into();
    let learnt = stage.bench.pool.forecast.learnt(&operation);
    assert_eq!(learnt, Some(40.0));
    stage.bench.pool.marks.note_kept(&operation);
    stage.crash(50);
    let pool = &stage.bench.pool;
    assert_eq!(pool.forecast.learnt(&operation), learnt);
    assert!(pool.marks.is_proven(&operation));
    assert!(
        pool.resolutions.shown(&operation).is_some(),
        "the type of its tasks"
    );
}

#[test]
fn a_restored_list_shows_accounts_and_grants_nothing() {
    let mut stage = Stage::new();
    stage.crash(1);
    assert_eq!(stage.bench.pool.accounts().count(), 2);
    let ask = stage.bench.ask(None, &[]);
    let Bench { pool, rng } = &mut stage.bench;
    assert_eq!(pool.pick(&ask, at(2), rng), Err(Refusal::Learning));
    // A round alone does not do.
    pool.reconcile(&Round::default(), at(3), rng);
    assert_eq!(pool.pick(&ask, at(3), rng), Err(Refusal::Learning));
    stage.bench.apply(&ACCOUNTS, at(4));
    let Bench { pool, rng } = &mut stage.bench;
    pool.pick(&ask, at(5), rng).unwrap();
}

fn row(id: u64, prompt: &str) -> HistoryRow {
    HistoryRow {
        task_id: task(id),
        task_type: Some("video".into()),
        prompt: Some(Digest::of(prompt)),
        created_ms: Some(i64::try_from(id).unwrap()),
        result: None,
    }
}

fn asked_beside_an_older_job(crashes: bool) -> Option<Known> {
    let mut stage = Stage::new();
    // Yesterday's job of the same prompt, without a key: done and forgotten.
    let old = stage.submit("a@x", None, "cat", 1);
    accept(&mut stage, old, 1, "cat", 2);
    stage.round(3, &[("a@x", 1)]);
    stage.bench.pool.job_over(&task(1), at(4));
    stage.round(5, &[]);
    assert!(stage.bench.pool.lease(old).is_none());
    // The submission that is cut off, and became no job.
    let lost = stage.submit("a@x", Some("key"), "cat", 10);
    if crashes {
        stage.crash(11);
    } else {
        stage.journal.commit(&mut stage.bench.pool);
        stage.lose(lost, "cat", 11);
    }
    stage.learn(12, &[]);
    let settle = RECONCILING.settle.as_secs();
    stage.round(20 + settle, &[]);
    stage.round(21 + settle, &[]);
    assert!(stage.bench.pool.lease(lost).is_none());
    let history = History {
        rows: vec![row(1, "cat")],
        is_whole: true,
        has_unreadable: false,
    };
    let now = at(30 + settle);
    stage
        .bench
        .pool
        .decide_by_history(&Name::new("a@x"), &history, now, now);
    stage.bench.pool.recall(&claim("key", "cat"))
}

#[test]
fn an_older_job_of_the_same_prompt_is_not_told_to_a_key() {
    for crashes in [false, true] {
        let known = asked_beside_an_older_job(crashes);
        assert!(!matches!(known, Some(Known::Job { .. })), "{known:?}");
    }
}

#[test]
fn the_times_away_of_two_restarts_add_up() {
    let mut stage = Stage::new();
    let id = stage.submit("a@x", None, "refused", 1);
    let blame = Blame::PushedBack {
        retry_after: Some(Duration::from_secs(300)),
    };
    stage.bench.pool.refuse(id, blame, at(2));
    stage.crash(3);
    stage.journal.set_away(Duration::from_secs(100));
    stage.crash(4);
    assert_eq!(stage.account("a@x").until, Some(at(202)));
    stage.journal.set_away(Duration::ZERO);
    stage.crash(5);
    assert_eq!(stage.account("a@x").until, Some(at(202)));
}
