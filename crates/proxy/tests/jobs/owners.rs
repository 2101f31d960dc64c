//! Finding the account that owns a task.

use std::{sync::Arc, time::Duration};

use harness::{
    NEVER, PATIENCE, eventually, manual,
    rounds::{Bench, ours},
    send, within,
};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault};
use proxy::{
    owners::{FoundOwner, LATE_AFTER, QUERIES_AT_ONCE, QUESTIONS_MAX, SEARCH_ACCOUNTS_MAX},
    pool::TaskId,
};

const ACCOUNTS: [(&str, u32); 6] = [
    ("a@x", 1),
    ("b+1@x", 1),
    ("c@x", 1),
    ("d@x", 1),
    ("e@x", 1),
    ("f@x", 1),
];

/// Runs no rounds, because rounds would teach owners.
async fn quiet() -> Bench {
    Bench::quiet(manual(&ACCOUNTS), &ACCOUNTS, NEVER).await
}

async fn quiet_with(emails: &[String]) -> Bench {
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 1)).collect();
    Bench::quiet(manual(&accounts), &accounts, NEVER).await
}

fn task(id: usize) -> TaskId {
    id.to_string().parse().unwrap()
}

fn found(email: &str) -> FoundOwner {
    FoundOwner::Account(email.into())
}

fn hang(bench: &Bench, emails: &[&str]) {
    for email in emails {
        assert!(bench.sim.set_account_hung(email, true));
    }
}

/// How often each account was asked for a task, in the order of the first question.
fn asked(bench: &Bench) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for seen in bench.sim.requests() {
        let query = seen.head.query.unwrap();
        match counts.iter_mut().find(|(known, _)| *known == query) {
            Some((_, count)) => *count += 1,
            None => counts.push((query, 1)),
        }
    }
    counts
}

#[tokio::test]
async fn the_owner_is_found_by_asking_and_remembered() {
    let bench = quiet().await;
    for email in ["b+1@x", "f@x"] {
        let job = ours(bench.sim.submit_directly(email, 1)[0]);
        assert_eq!(bench.find_owner(&job).await, found(email));
        let asked = bench.paths().len();
        assert_eq!(bench.find_owner(&job).await, found(email));
        assert_eq!(bench.paths().len(), asked, "nobody is asked twice");
    }
}

#[tokio::test]
async fn an_owner_is_found_though_others_cannot_be_asked() {
    let bench = quiet().await;
    bench.sim.fault(Fault::status(500).account("a@x"));
    hang(&bench, &["b+1@x", "c@x"]);
    let job = ours(bench.sim.submit_directly("f@x", 1)[0]);
    assert_eq!(bench.find_owner(&job).await, found("f@x"));
}

#[tokio::test]
async fn hung_accounts_do_not_keep_the_others_from_being_asked() {
    // So many that the time for whole questions would be longer than the test.
    let emails: Vec<_> = (0..=2 * QUERIES_AT_ONCE + 1)
        .map(|n| format!("{n}@x"))
        .collect();
    let bench = quiet_with(&emails).await;
    let (last, others) = emails.split_last().unwrap();
    for email in others {
        hang(&bench, &[email]);
    }
    let job = ours(bench.sim.submit_directly(last, 1)[0]);
    let owner = within(bench.find_owner_within(&job, NEVER)).await;
    assert_eq!(owner, found(last));
    let counts = asked(&bench);
    assert_eq!(counts.len(), emails.len());
    assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn a_late_answer_counts() {
    let bench = quiet().await;
    let job = ours(bench.sim.submit_directly("b+1@x", 1)[0]);
    let late = Effect::Delay(LATE_AFTER + Duration::from_secs(1));
    bench.sim.fault(Fault::new(late).account("b+1@x"));
    let owner = within(bench.find_owner_within(&job, NEVER)).await;
    assert_eq!(owner, found("b+1@x"));
    assert_eq!(bench.paths().len(), ACCOUNTS.len(), "nobody is asked twice");
}

#[tokio::test]
async fn who_could_not_be_asked_is_asked_again_and_nobody_else() {
    let bench = quiet().await;
    let job = ours(bench.sim.submit_directly("d@x", 1)[0]);
    let fault = Fault::status(503).account("d@x");
    bench.sim.fault(fault.times(3));
    bench
        .sim
        .fault(Fault::new(Effect::ResetBefore).account("e@x"));
    let owner = within(bench.find_owner_within(&job, NEVER)).await;
    assert_eq!(owner, found("d@x"));
    let count = |email: &str| {
        let query = format!("email={email}%40x");
        let counts = asked(&bench);
        counts.iter().find(|(known, _)| *known == query).unwrap().1
    };
    assert_eq!(count("d"), 4);
    assert!(count("e") > 1);
    for email in ["a", "b%2B1", "c", "f"] {
        assert_eq!(count(email), 1, "{email}");
    }
}

#[tokio::test]
async fn a_hung_account_is_asked_again() {
    let bench = quiet().await;
    hang(&bench, &["d@x"]);
    let job = ours(bench.sim.submit_directly("d@x", 1)[0]);
    let searching = bench.find_owner_within(&job, NEVER);
    let mend = async {
        let all_asked = async || (bench.paths().len() == ACCOUNTS.len()).then_some(());
        eventually(all_asked).await;
        // The question under way is never answered.
        assert!(bench.sim.set_account_hung("d@x", false));
    };
    let (owner, ()) = within(async { tokio::join!(searching, mend) }).await;
    assert_eq!(owner, found("d@x"));
    assert_eq!(bench.paths().len(), ACCOUNTS.len() + 1);
}

#[tokio::test]
async fn callers_for_one_task_share_one_search() {
    let bench = Arc::new(quiet().await);
    bench.sim.fault(Fault::status(500).account("d@x"));
    let job = ours(bench.sim.submit_directly("d@x", 1)[0]);
    let call = || {
        let (bench, job) = (Arc::clone(&bench), job.clone());
        tokio::spawn(async move { bench.find_owner_within(&job, NEVER).await })
    };
    let first = call();
    let mut callers: Vec<_> = (0..60).map(|_| call()).collect();
    let all_asked = async || (asked(&bench).len() == ACCOUNTS.len()).then_some(());
    eventually(all_asked).await;
    // Neither the one that began it nor one that joined it ends it for the others.
    first.abort();
    callers.pop().unwrap().abort();
    bench.sim.clear_faults();
    for caller in callers {
        assert_eq!(within(caller).await.unwrap(), found("d@x"));
    }
    let counts = asked(&bench);
    let mut others = counts.iter().filter(|(query, _)| !query.contains("d%40x"));
    assert!(others.all(|(_, count)| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn an_owner_that_becomes_known_ends_a_search() {
    let bench = quiet().await;
    hang(&bench, &ACCOUNTS.map(|(email, _)| email));
    let asked = task(12);
    let searching = bench.find_owner_within(&asked, NEVER);
    let teach = async {
        let is_asking = async || (bench.paths().len() == QUERIES_AT_ONCE).then_some(());
        eventually(is_asking).await;
        // Another task's owner says nothing.
        bench.owners.learn_task(&task(11), &"a@x".into());
        bench.owners.learn_task(&asked, &"z@x".into());
    };
    let (owner, ()) = within(async { tokio::join!(searching, teach) }).await;
    assert_eq!(owner, found("z@x"));
}

#[tokio::test]
async fn nobody_owns_a_task_that_every_account_denies() {
    let bench = quiet().await;
    for _ in 0..10 {
        assert_eq!(bench.find_owner(&task(12)).await, FoundOwner::Nobody);
    }
    assert_eq!(bench.paths().len(), ACCOUNTS.len(), "each is asked once");
    bench.list(&[]);
    assert_eq!(bench.find_owner(&task(12)).await, FoundOwner::Unknown);
}

#[tokio::test]
async fn an_account_that_is_new_is_asked() {
    let bench = quiet().await;
    bench.list(&ACCOUNTS[..5]);
    let job = ours(bench.sim.submit_directly("f@x", 1)[0]);
    assert_eq!(bench.find_owner(&job).await, FoundOwner::Nobody);
    bench.list(&ACCOUNTS);
    assert_eq!(bench.find_owner(&job).await, found("f@x"));
    assert_eq!(bench.paths().len(), ACCOUNTS.len());
    // Also one that comes while a search waits.
    bench.sim.finish_all();
    let job = ours(bench.sim.submit_directly("f@x", 1)[0]);
    hang(&bench, &["a@x"]);
    bench.list(&ACCOUNTS[..5]);
    let searching = bench.find_owner_within(&job, NEVER);
    let add = async {
        let all_asked = async || (bench.paths().len() == ACCOUNTS.len() + 5).then_some(());
        eventually(all_asked).await;
        bench.list(&ACCOUNTS);
    };
    let (owner, ()) = within(async { tokio::join!(searching, add) }).await;
    assert_eq!(owner, found("f@x"));
}

#[tokio::test]
async fn an_account_that_cannot_be_asked_may_be_the_owner() {
    let bench = quiet().await;
    let nothing = "12".parse().unwrap();
    for status in [200, 400, 429, 500, 596] {
        let fault = Fault::status(status).account("d@x");
        bench.sim.fault(fault);
        let owner = bench.find_owner(&nothing).await;
        assert_eq!(owner, FoundOwner::Unknown, "{status}");
        bench.sim.clear_faults();
    }
    bench.sim.remove_account("d@x");
    let owner = bench.find_owner(&nothing).await;
    assert_eq!(owner, FoundOwner::Unknown, "its configuration is gone");
}

#[tokio::test]
async fn a_search_that_does_not_wait_goes_on_where_the_last_one_ended() {
    let emails: Vec<_> = (0..=SEARCH_ACCOUNTS_MAX)
        .map(|n| format!("{n}@x"))
        .collect();
    let bench = quiet_with(&emails).await;
    assert_eq!(bench.find_owner(&task(12)).await, FoundOwner::Unknown);
    let count = bench.paths().len();
    let most = SEARCH_ACCOUNTS_MAX + QUERIES_AT_ONCE;
    assert!(
        (SEARCH_ACCOUNTS_MAX..=most).contains(&count),
        "{count} questions"
    );
    assert_eq!(bench.find_owner(&task(12)).await, FoundOwner::Nobody);
    let counts = asked(&bench);
    let twice = counts.iter().filter(|(_, count)| *count > 1).count();
    assert_eq!(counts.len(), emails.len());
    // What was under way at the end of the first search is asked again.
    assert!(twice <= QUERIES_AT_ONCE, "{counts:?}");
}

#[tokio::test]
async fn accounts_that_were_not_asked_yet_come_before_those_that_did_not_answer() {
    let emails: Vec<_> = (0..2 * SEARCH_ACCOUNTS_MAX)
        .map(|n| format!("{n}@x"))
        .collect();
    let bench = quiet_with(&emails).await;
    for email in &emails[..SEARCH_ACCOUNTS_MAX] {
        bench.sim.fault(Fault::status(500).account(email));
    }
    let last = emails.last().unwrap();
    let job = ours(bench.sim.submit_directly(last, 1)[0]);
    assert_eq!(bench.find_owner(&job).await, FoundOwner::Unknown);
    assert_eq!(bench.find_owner(&job).await, found(last));
}

#[tokio::test]
async fn a_search_that_waits_asks_all_accounts() {
    let emails: Vec<_> = (0..=2 * SEARCH_ACCOUNTS_MAX)
        .map(|n| format!("{n}@x"))
        .collect();
    let bench = quiet_with(&emails).await;
    hang(&bench, &["0@x", "7@x"]);
    let last = emails.last().unwrap();
    let job = ours(bench.sim.submit_directly(last, 1)[0]);
    assert_eq!(bench.find_owner_within(&job, PATIENCE).await, found(last));
}

#[tokio::test]
async fn all_searches_together_ask_so_many_questions_at_once() {
    let bench = Arc::new(quiet().await);
    hang(&bench, &ACCOUNTS.map(|(email, _)| email));
    let calls = (1..=QUESTIONS_MAX).map(|id| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.find_owner_within(&task(id), NEVER).await })
    });
    let calls: Vec<_> = calls.collect();
    let is_busy = async || (bench.paths().len() >= QUESTIONS_MAX).then_some(());
    eventually(is_busy).await;
    for _ in 0..20 {
        // One more question on its way would arrive in this time.
        let list = send(bench.sim.addr(), Method::GET, "/v1/kling/accounts", &[], "")
            .await
            .status;
        assert_eq!(list, StatusCode::UNAUTHORIZED, "it shows no token");
    }
    let is_question = |path: &&String| path.contains("/tasks/");
    let count = bench.paths().iter().filter(is_question).count();
    assert_eq!(count, QUESTIONS_MAX);
    for call in calls {
        call.abort();
    }
}
