//! Works are downloaded from the account that made them.

use std::sync::Arc;

use harness::{Running, eventually, manual};
use kling_sim::{Effect, Fault, JobDuration, Sim};

use super::client::{leases, ready, start_job, task_id};

const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");

/// The queries of all downloads that reached the simulator, oldest first.
fn asked(sim: &Sim) -> Vec<String> {
    let requests = sim.requests().into_iter();
    let downloads = requests.filter(|seen| seen.head.path.ends_with("/assets/download"));
    downloads
        .map(|seen| seen.head.query.unwrap_or_default())
        .collect()
}

/// A sidecar over three accounts, and a work that the last account made before the sidecar started.
async fn unknown_work() -> (Running, i64) {
    let sim = Sim::builder()
        .account("a@x", 1)
        .account("b@x", 1)
        .account("c@x", 1);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    let id = sim.submit_directly("c@x", 1)[0];
    assert!(sim.finish(id));
    let running = ready(sim, &[NO_ROUNDS]).await;
    // The first work of a task has the number of the task.
    (running, id.get())
}

#[tokio::test]
async fn a_poll_teaches_whose_the_works_of_a_task_are() {
    let (running, _) = unknown_work().await;
    for _ in 0..3 {
        let id = task_id(&start_job(&running).await);
        let owner = leases(&running).await.pop().unwrap()["email"].clone();
        let owner = owner.as_str().unwrap().to_owned();
        running.sim.finish(id);
        let task = running.get(&format!("/v1/kling/tasks/{id}")).await.json();
        let work = &task["works"][0]["workId"];
        let before = asked(&running.sim).len();
        let path = format!("/v1/kling/assets/download?workIds={work}");
        let answer = running.get(&path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-kling-account")),
            (200, &*owner)
        );
        assert_eq!(
            asked(&running.sim).len(),
            before + 1,
            "nobody else was asked"
        );
    }
}

#[tokio::test]
async fn a_work_of_an_unknown_account_is_searched_once() {
    let (running, work) = unknown_work().await;
    let other = work + 7;
    // One call names several works, with the comma encoded as browsers do.
    for (query, searched) in [
        (format!("fileTypes=MP4&workIds={work}%2C{work}"), true),
        (format!("workIds={work},{work}"), false),
        (format!("workIds={work}"), false),
    ] {
        let before = asked(&running.sim).len();
        let path = format!("/v1/kling/assets/download?{query}");
        let answer = running.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-kling-account"), "c@x");
        assert_eq!(answer.header("x-kling-attempts"), "1");
        let emails: &[&str] = if searched {
            &["a%40x", "b%40x", "c%40x"]
        } else {
            &["c%40x"]
        };
        let expected = emails.iter().map(|email| format!("{query}&email={email}"));
        assert_eq!(asked(&running.sim)[before..], *expected.collect::<Vec<_>>());
    }
    let missing = running
        .get(&format!("/v1/kling/assets/download?workIds={other}"))
        .await;
    assert_eq!(missing.status, 404);
    let error = missing.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(
        error,
        format!("Unable to locate work {other}"),
        "the upstream's own words"
    );
}

#[tokio::test]
async fn a_work_is_not_said_to_be_missing_where_one_account_cannot_be_asked() {
    for effect in [
        Effect::ResetBefore,
        Effect::TruncateAfter,
        Effect::Answer(kling_sim::Answer::new(503)),
        Effect::Answer(kling_sim::Answer::new(429)),
        Effect::Answer(kling_sim::Answer::new(404).body("Account configuration not found.")),
    ] {
        let (running, work) = unknown_work().await;
        let fault = Fault::new(effect).on("GET", "/assets/download");
        running.sim.fault(fault.account("b@x"));
        let missing = format!("/v1/kling/assets/download?workIds={}", work + 7);
        running
            .get(&missing)
            .await
            .assert_refused(503, "owner-unknown");
        let found = format!("/v1/kling/assets/download?workIds={work}");
        assert_eq!(
            running.get(&found).await.status,
            200,
            "another account has it"
        );
    }
}

#[tokio::test]
async fn a_download_that_is_wrong_by_itself_is_the_upstreams_to_refuse() {
    let (running, work) = unknown_work().await;
    let answer = running.get("/v1/kling/assets/download?fileTypes=MP4").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"], "Parameter workIds is required");
    running.sim.fault(
        Fault::status(403)
            .on("GET", "/assets/download")
            .account("a@x"),
    );
    let path = format!("/v1/kling/assets/download?workIds={work}");
    let answer = running.get(&path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-account")),
        (403, "a@x")
    );
    let named = running.get(&format!("{path}&email=b@x")).await;
    assert_eq!(
        (named.status.as_u16(), named.header("x-kling-account")),
        (404, "b@x")
    );
    assert_eq!(
        asked(&running.sim).len(),
        3,
        "each was asked of one account"
    );
}

#[tokio::test]
async fn a_search_for_a_work_has_an_end() {
    let sim = ["a@x", "b@x", "c@x"]
        .into_iter()
        .fold(Sim::builder(), |sim, email| sim.account(email, 4));
    let settings = [NO_ROUNDS, ("UPSTREAM__REQUEST_TIMEOUT", "500ms")];
    let running = ready(sim.start().await.unwrap(), &settings).await;
    let stall = Fault::new(Effect::StallBefore).on("GET", "/assets/download");
    running.sim.fault(stall);
    let answer = running.get("/v1/kling/assets/download?workIds=7").await;
    answer.assert_refused(503, "owner-unknown");
    let asked = asked(&running.sim).len();
    assert!(
        (1..3).contains(&asked),
        "{asked} accounts were asked in the time for one"
    );
}

const LONG: (&str, &str) = ("FORWARD__WAIT", "60s");

#[tokio::test]
async fn an_account_that_could_not_be_asked_is_asked_again_for_a_work() {
    let sim = manual(&[("a@x", 1), ("b@x", 1), ("c@x", 1)]);
    let sim = sim.start().await.unwrap();
    let work = sim.submit_directly("b@x", 1)[0];
    assert!(sim.finish(work));
    let running = ready(sim, &[NO_ROUNDS, LONG]).await;
    for status in [503, 429] {
        let fault = Fault::status(status).on("GET", "/assets/download");
        running.sim.fault(fault.account("b@x").times(1));
    }
    let path = format!("/v1/kling/assets/download?workIds={work}");
    let answer = running.get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "b@x");
    let of_others = asked(&running.sim);
    let of_others = of_others.iter().filter(|query| !query.ends_with("b%40x"));
    assert_eq!(of_others.count(), 2, "each is asked once");
}

#[tokio::test]
async fn a_hung_account_does_not_hide_a_work_of_another_one() {
    let (running, work) = unknown_work().await;
    assert!(running.sim.set_account_hung("a@x", true));
    let path = format!("/v1/kling/assets/download?workIds={work}");
    let answer = running.get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "c@x");
}

#[tokio::test]
async fn downloads_that_are_searched_hold_up_no_poll() {
    let (running, id) = unknown_work().await;
    let running = Arc::new(running);
    let stall = Fault::new(Effect::StallBefore).on("GET", "/assets/download");
    running.sim.fault(stall);
    let downloads = (0..20).map(|n| {
        let running = Arc::clone(&running);
        let path = format!("/v1/kling/assets/download?workIds={}", id + 100 + n);
        tokio::spawn(async move { running.get(&path).await })
    });
    let downloads: Vec<_> = downloads.collect();
    eventually(async || (asked(&running.sim).len() >= 16).then_some(())).await;
    let answer = running.get(&format!("/v1/kling/tasks/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "c@x");
    for download in downloads {
        assert!(!download.is_finished());
        download.abort();
    }
}
