//! The cap of an account holds exactly, whatever the clients do.

use kling_sim::{JobDuration, Sim};
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::submit;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_at_once_get_the_capacity_and_not_one_job_more() {
    const CLIENT_COUNT: u64 = 64;
    const CAP: u32 = 7;
    let sim = Sim::builder().account("a@x", CAP).account("b@x", 50);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    let sim = std::sync::Arc::new(sim);

    let mut clients = JoinSet::new();
    for _ in 0..CLIENT_COUNT {
        let sim = std::sync::Arc::clone(&sim);
        clients.spawn(async move { submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await });
    }
    let answers = clients.join_all().await;

    let accepted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(accepted, CAP as usize);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (429, &json!(429))
        );
    }
    let audit = sim.audit();
    let account = audit.account("a@x").unwrap();
    assert_eq!((account.peak, account.executing), (CAP, CAP));
    assert_eq!(
        (account.accepted, account.over_limit_ours),
        (7, CLIENT_COUNT - 7)
    );
    assert_eq!(audit.submission_count, CLIENT_COUNT);
    assert_eq!(audit.account("b@x").unwrap().accepted, 0);
}

#[tokio::test]
async fn a_finished_job_frees_one_slot() {
    let sim = Sim::builder()
        .account("a@x", 1)
        .job_duration(JobDuration::Manual);
    let sim = sim.start().await.unwrap();
    let body = json!({"prompt": "p", "replyRef": "r1"});
    let first = submit(&sim, &body).await.json()["task"]["id"]
        .as_u64()
        .unwrap();
    assert_eq!(submit(&sim, &body).await.status, 429);
    assert!(sim.finish(first));
    assert_eq!(submit(&sim, &body).await.status, 200);
    let audit = sim.audit();
    assert_eq!((audit.duplicates, audit.over_limit()), (1, 1));
    assert_eq!(audit.account("a@x").unwrap().peak, 1);
}
