//! Finding the account that owns a task.

use std::sync::Arc;

use harness::{
    NEVER, manual,
    rounds::{Bench, ours},
};
use kling_sim::Fault;
use proxy::owners::{FoundOwner, SEARCH_ACCOUNTS_MAX};

const ACCOUNTS: [(&str, u32); 6] = [
    ("a@x", 1),
    ("b+1@x", 1),
    ("c@x", 1),
    ("d@x", 1),
    ("e@x", 1),
    ("f@x", 1),
];

/// Runs no rounds, because rounds would teach owners.
async fn quiet() -> (Bench, Vec<Arc<str>>) {
    let bench = Bench::quiet(manual(&ACCOUNTS), &ACCOUNTS, NEVER).await;
    (bench, ACCOUNTS.map(|(email, _)| email.into()).into())
}

#[tokio::test]
async fn the_owner_is_found_by_asking_and_remembered() {
    let (bench, emails) = quiet().await;
    for email in ["b+1@x", "f@x"] {
        let job = ours(bench.sim.submit_directly(email, 1)[0]);
        let found = FoundOwner::Account(email.into());
        assert_eq!(bench.find_owner(&job, &emails).await, found);
        let asked = bench.paths().len();
        assert_eq!(bench.find_owner(&job, &emails).await, found);
        assert_eq!(bench.paths().len(), asked, "nobody is asked twice");
    }
}

#[tokio::test]
async fn an_owner_is_found_though_others_cannot_be_asked() {
    let (bench, emails) = quiet().await;
    bench.sim.fault(Fault::status(500).account("a@x"));
    let job = ours(bench.sim.submit_directly("f@x", 1)[0]);
    let found = FoundOwner::Account("f@x".into());
    assert_eq!(bench.find_owner(&job, &emails).await, found);
}

#[tokio::test]
async fn nobody_owns_a_task_that_every_account_denies() {
    let (bench, emails) = quiet().await;
    let nothing = "12".parse().unwrap();
    assert_eq!(
        bench.find_owner(&nothing, &emails).await,
        FoundOwner::Nobody
    );
    assert_eq!(bench.paths().len(), ACCOUNTS.len());
    assert_eq!(bench.find_owner(&nothing, &[]).await, FoundOwner::Unknown);
}

#[tokio::test]
async fn an_account_that_cannot_be_asked_may_be_the_owner() {
    let (bench, emails) = quiet().await;
    let nothing = "12".parse().unwrap();
    for status in [200, 400, 429, 500, 596] {
        let fault = Fault::status(status).account("d@x");
        bench.sim.fault(fault);
        let owner = bench.find_owner(&nothing, &emails).await;
        assert_eq!(owner, FoundOwner::Unknown, "{status}");
        bench.sim.clear_faults();
    }
    bench.sim.remove_account("d@x");
    let owner = bench.find_owner(&nothing, &emails).await;
    assert_eq!(owner, FoundOwner::Unknown, "its configuration is gone");
}

#[tokio::test]
async fn of_too_many_accounts_only_some_are_asked_and_nobody_is_sure() {
    let emails: Vec<_> = (0..=SEARCH_ACCOUNTS_MAX)
        .map(|n| format!("{n}@x"))
        .collect();
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 1)).collect();
    let bench = Bench::quiet(manual(&accounts), &accounts, NEVER).await;
    let emails: Vec<Arc<str>> = emails.iter().map(|email| email.as_str().into()).collect();
    let nothing = "12".parse().unwrap();
    assert_eq!(
        bench.find_owner(&nothing, &emails).await,
        FoundOwner::Unknown
    );
    assert_eq!(bench.paths().len(), SEARCH_ACCOUNTS_MAX);
}
