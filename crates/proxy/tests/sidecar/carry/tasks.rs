//! Clients that never name an account find their tasks again.

use std::time::Duration;

use harness::{Running, Slots, eventually, manual, send};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, JobDuration, ListFault, RequestSeen, Sim};
use serde_json::Value;

use super::client::{
    JOB, JSON, exchange, leases, ready, slots, start_job, task_id, task_path, until_slots,
};

const THREE: [(&str, u32); 3] = [("a@x", 2), ("b@x", 2), ("c@x", 2)];
/// The interval is longer than any test, so no round comes by itself.
const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");

/// The requests for a task that reached the simulator, oldest first.
fn asked(sim: &Sim, id: i64) -> Vec<RequestSeen> {
    let path = task_path(id);
    let requests = sim.requests().into_iter();
    let asked = requests.filter(|seen| seen.head.path == path && seen.head.method == Method::GET);
    asked.collect()
}

fn queries(asked: &[RequestSeen]) -> Vec<String> {
    let queries = asked
        .iter()
        .map(|seen| seen.head.query.clone().unwrap_or_default());
    let mut queries: Vec<_> = queries.collect();
    queries.sort_unstable();
    queries
}

/// A job that no round of the sidecar has listed, because it ended before the first round.
fn unknown_job(sim: &Sim, email: &str) -> i64 {
    let id = sim.submit_directly(email, 1)[0];
    assert!(sim.finish(id));
    id.get()
}

async fn three_accounts() -> Sim {
    manual(&THREE).start().await.unwrap()
}

#[tokio::test]
async fn the_owner_of_an_unknown_task_is_asked_for_once() {
    let sim = three_accounts().await;
    let id = unknown_job(&sim, "c@x");
    let running = ready(sim, &[NO_ROUNDS]).await;
    let answer = running.get(&task_path(id)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "c@x");
    assert_eq!(answer.json()["task"]["id"], id);
    let searched = asked(&running.sim, id);
    let owner_asked = searched
        .iter()
        .filter(|seen| seen.head.query.as_deref() == Some("email=c%40x"));
    assert_eq!(
        owner_asked.count(),
        2,
        "the search, and the client's own question"
    );
    for seen in &searched {
        assert!(seen.head.query.as_deref().unwrap().starts_with("email="));
    }
    let searched_count = searched.len();
    for n in 1..=5 {
        assert_eq!(running.get(&task_path(id)).await.status, 200);
        let now = asked(&running.sim, id);
        assert_eq!(now.len(), searched_count + n, "nobody else is asked again");
        assert_eq!(
            now.last().unwrap().head.query.as_deref(),
            Some("email=c%40x")
        );
    }
}

#[tokio::test]
async fn a_task_that_no_account_has_is_missing() {
    let running = ready(three_accounts().await, &[NO_ROUNDS]).await;
    let answer = running.get(&task_path(7)).await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json()["error"],
        "No works found for task 7",
        "the upstream's own words"
    );
    let mut expected = ["email=a%40x", "email=b%40x", "email=c%40x"]
        .map(str::to_owned)
        .to_vec();
    // The search is followed by a request to the first account, whose answer passes.
    expected.insert(0, "email=a%40x".to_owned());
    assert_eq!(queries(&asked(&running.sim, 7)), expected);
}

#[tokio::test]
async fn a_task_is_not_said_to_be_missing_where_one_account_cannot_be_asked() {
    let broken = [
        Effect::ResetBefore,
        Effect::Answer(kling_sim::Answer::new(500)),
        Effect::Answer(kling_sim::Answer::new(429)),
        Effect::Answer(kling_sim::Answer::new(404).body("Account configuration not found.")),
        Effect::Answer(kling_sim::Answer::new(200).body("{}")),
        Effect::TruncateAfter,
    ];
    for effect in broken {
        let running = ready(three_accounts().await, &[NO_ROUNDS]).await;
        let fault = Fault::new(effect.clone()).on("GET", "/tasks/{task_id}");
        running.sim.fault(fault.account("b@x"));
        let answer = running.get(&task_path(7)).await;
        answer.assert_refused(503, "owner-unknown");
        // The sidecar learnt no owner from it.
        running.sim.clear_faults();
        assert_eq!(running.get(&task_path(7)).await.status, 404, "{effect:?}");
    }
}

#[tokio::test]
async fn an_owner_is_found_though_another_account_cannot_be_asked() {
    let sim = three_accounts().await;
    let id = unknown_job(&sim, "c@x");
    let running = ready(sim, &[NO_ROUNDS]).await;
    let fault = Fault::status(503).on("GET", "/tasks/{task_id}");
    running.sim.fault(fault.account("a@x"));
    let answer = running.get(&task_path(id)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "c@x");
}

#[tokio::test]
async fn no_more_than_four_accounts_are_asked_at_a_time() {
    let sim = (0..12).fold(Sim::builder(), |sim, n| sim.account(format!("{n:02}@x"), 1));
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS]).await;
    // No account answers, so the sidecar asks no fifth one before a question times out.
    let stalled = Fault::new(Effect::StallBefore).on("GET", "/tasks/7");
    running.sim.fault(stalled);
    let client = running.get("/v1/kling/tasks/7");
    let watch = async {
        eventually(async || (asked(&running.sim, 7).len() >= 4).then_some(())).await;
        for _ in 0..20 {
            // A fifth question on its way would arrive in this time.
            assert_eq!(running.get("/livez").await.status, 200);
        }
        asked(&running.sim, 7).len()
    };
    tokio::select! {
        answer = client => panic!("nobody answered: {answer:?}"),
        count = watch => assert_eq!(count, 4),
    }
    running.sim.clear_faults();
    let all = running.get("/v1/kling/tasks/8").await;
    assert_eq!(all.status, 404);
    assert_eq!(asked(&running.sim, 8).len(), 12 + 1);
}

#[tokio::test]
async fn a_single_account_is_not_searched() {
    let sim = Sim::builder().account("a@x", 1);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    let id = unknown_job(&sim, "a@x");
    let running = ready(sim, &[NO_ROUNDS]).await;
    assert_eq!(running.get(&task_path(id)).await.status, 200);
    assert_eq!(running.get(&task_path(7)).await.status, 404);
    assert_eq!(queries(&asked(&running.sim, id)), ["email=a%40x"]);
    assert_eq!(queries(&asked(&running.sim, 7)), ["email=a%40x"]);
}

#[tokio::test]
async fn to_delete_a_task_of_no_known_owner_is_never_guessed() {
    let running = ready(three_accounts().await, &[NO_ROUNDS]).await;
    let answer = running.delete(&task_path(7)).await;
    assert_eq!(
        answer.status, 400,
        "the upstream's answer to no email: {answer:?}"
    );
    // The owner is not guessed either if an account cannot be asked.
    running
        .sim
        .fault(Fault::status(500).on("GET", "/tasks/{task_id}"));
    assert_eq!(running.delete(&task_path(8)).await.status, 400);
    let requests = running.sim.requests().into_iter();
    let deletes: Vec<_> = requests
        .filter(|seen| seen.head.method == Method::DELETE)
        .collect();
    assert_eq!(deletes.len(), 2);
    assert!(
        deletes.iter().all(|seen| seen.head.query.is_none()),
        "{deletes:?}"
    );
}

#[tokio::test]
async fn a_task_is_deleted_on_the_account_that_owns_it() {
    let sim = three_accounts().await;
    let id = unknown_job(&sim, "b@x");
    let running = ready(sim, &[NO_ROUNDS]).await;
    let answer = running.delete(&task_path(id)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["deleted"]),
        (200, &1.into())
    );
    assert_eq!(answer.header("x-kling-account"), "b@x");
}

/// Rounds that the upstream answered.
const ROUNDS: &str = "kling_balancer_rounds_total{result=\"ok\"}";

async fn until_three_rounds(running: &Running) {
    let before = running.metric(ROUNDS).await;
    let are_over = |count| count >= before + 3.0;
    running.until_metric(ROUNDS, are_over).await;
}

#[tokio::test]
async fn the_word_of_another_account_than_the_owner_frees_nothing() {
    let running = ready(three_accounts().await, &[NO_ROUNDS]).await;
    let id = task_id(&start_job(&running).await);
    let owner = leases(&running).await[0]["email"]
        .as_str()
        .unwrap()
        .to_owned();
    for (email, _) in THREE.iter().filter(|(email, _)| *email != owner) {
        let answer = running
            .get(&format!("{}?email={email}", task_path(id)))
            .await;
        assert_eq!(
            answer.status, 404,
            "it was asked as the client said: {answer:?}"
        );
        assert_eq!(answer.header("x-kling-account"), *email);
    }
    let rounds = running.metric(ROUNDS).await;
    assert_eq!(slots(&running, &owner).await, Slots::held(1));
    // The sidecar believes the owner.
    running.sim.finish(id);
    let answer = running
        .get(&format!("{}?email={owner}", task_path(id)))
        .await;
    assert_eq!(answer.json()["status_final"], true);
    until_slots(&running, &owner, Slots::NONE).await;
    let now = running.metric(ROUNDS).await;
    assert!(now > rounds, "a round was sent");
}

#[tokio::test]
async fn accounts_that_differ_in_case_are_two() {
    let accounts = [("Bob@x", 1), ("bob@x", 1)];
    let running = Running::configured(&accounts, &[("RECONCILE__INTERVAL", "100ms")]).await;
    let body = r#"{"prompt":"p","email":"Bob@x"}"#;
    let id = task_id(&running.post(JOB, body).await);
    let other = running.get(&format!("{}?email=bob@x", task_path(id))).await;
    assert_eq!(other.status, 404, "{other:?}");
    // Another tool untracks the job: the upstream no longer lists it, and it keeps running.
    let bearer = format!("Bearer {}", running.sim.token());
    let path = format!("/v1/kling/scheduler/{id}");
    let bearer = [("authorization", bearer.as_str())];
    let untracked = send(running.sim.addr(), Method::DELETE, &path, &bearer, "").await;
    assert_eq!(untracked.status, 204);
    until_three_rounds(&running).await;
    assert_eq!(
        slots(&running, "Bob@x").await,
        Slots::held(1),
        "its owner did not say so"
    );
}

#[tokio::test]
async fn a_final_answer_frees_the_slot_only_when_the_upstream_no_longer_lists_the_job() {
    let sim = Sim::builder()
        .account("a@x", 1)
        .job_duration(JobDuration::Manual);
    let hour = Duration::from_secs(3600);
    let sim = sim.release_lag(hour..=hour).start().await.unwrap();
    let running = ready(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
    let id = task_id(&start_job(&running).await);
    running.sim.finish(id);
    assert_eq!(
        running.get(&task_path(id)).await.json()["status_final"],
        true
    );
    until_three_rounds(&running).await;
    assert_eq!(
        slots(&running, "a@x").await,
        Slots::held(1),
        "it is listed still"
    );
    start_job(&running).await.assert_refused(429, "saturated");
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn a_poll_right_after_a_job_start_on_an_account_of_no_list_finds_it() {
    let settings = [NO_ROUNDS, ("ACCOUNTS__REFRESH_INTERVAL", "1h")];
    let running = ready(three_accounts().await, &settings).await;
    running.sim.set_account("new@x", 1);
    // The next list and the next round come after the poll.
    running.sim.list_fault(ListFault::status(503));
    running
        .sim
        .fault(Fault::status(503).on("GET", "/scheduler/available"));
    let answer = running.post(JOB, r#"{"prompt":"p","email":"new@x"}"#).await;
    let answer = running.get(&task_path(task_id(&answer))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "new@x");
}

#[tokio::test]
async fn a_poll_in_the_first_moments_waits_for_the_list() {
    let sim = three_accounts().await;
    let id = unknown_job(&sim, "b@x");
    sim.list_fault(ListFault::status(503));
    let running = Running::beside(sim, &[NO_ROUNDS]).await;
    running
        .until_metric("kling_balancer_fetches_total{result=\"status\"}", |count| {
            count > 0.0
        })
        .await;
    let path = task_path(id);
    let poll = running.get(&path);
    let heal = async { running.sim.clear_list_fault() };
    let (answer, ()) = tokio::join!(poll, heal);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "b@x");
}

#[tokio::test]
async fn rounds_teach_owners() {
    let sim = three_accounts().await;
    let id = sim.submit_directly("b@x", 1)[0].get();
    let running = ready(sim, &[NO_ROUNDS]).await;
    until_slots(&running, "b@x", Slots::foreign(1)).await;
    let answer = running.get(&task_path(id)).await;
    assert_eq!(answer.header("x-kling-account"), "b@x");
    assert_eq!(
        queries(&asked(&running.sim, id)),
        ["email=b%40x"],
        "nobody was searched"
    );
}

#[tokio::test]
async fn a_poll_over_head_asks_the_owner_too() {
    let running = ready(three_accounts().await, &[NO_ROUNDS]).await;
    let id = task_id(&start_job(&running).await);
    let answer = exchange(running.addr, Method::HEAD, &task_path(id), &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let owner: Value = leases(&running).await[0]["email"].clone();
    assert_eq!(owner, answer.header("x-kling-account"));
    let sent = exchange(running.addr, Method::GET, &task_path(id), &[JSON], "").await;
    assert_eq!(sent.json()["task"]["id"], id);
}
