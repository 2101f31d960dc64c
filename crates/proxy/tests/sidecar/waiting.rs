//! Picks that wait: their order, their limit, and that they leave no slot behind.

use std::{sync::Arc, time::Duration};

use harness::{Answer, Running, eventually, manual, send};
use http::Method;
use kling_sim::{Effect, Fault, JobDuration, Sim};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const WAITERS: &str = "kling_balancer_waiters";

#[tokio::test]
async fn waiters_are_served_in_order_with_the_slot_that_was_freed() {
    let running = Arc::new(Running::with(&[("a@x", 1), ("b@x", 1)]).await);
    let held = [running.pick("").await, running.pick("").await];
    let mut waiting = Vec::new();
    for place in 1..=3 {
        let waiter = Arc::clone(&running);
        waiting.push(tokio::spawn(async move { waiter.pick("?wait=60s").await }));
        running
            .until_metric(WAITERS, |count| count == f64::from(place))
            .await;
    }
    for (lease, waiter) in held.iter().zip(&mut waiting) {
        running.release(lease).await;
        assert_eq!(waiter.await.unwrap()["email"], lease["email"]);
    }
    assert!(!waiting[2].is_finished(), "there are two slots");
    running.sim.set_account("c@x", 1);
    assert_eq!(
        (&mut waiting[2]).await.unwrap()["email"],
        "c@x",
        "a new account serves waiters"
    );
    assert_eq!(running.metric(WAITERS).await, 0.0);
}

#[tokio::test]
async fn a_wait_that_ends_is_saturated_and_leaves_the_queue() {
    let running = Running::configured(&[("a@x", 1)], &[("SELECTION__WAIT", "150ms")]).await;
    running.pick("").await;
    running.get("/pick").await.assert_refused(429, "saturated");
    running
        .get("/pick?wait=100ms")
        .await
        .assert_refused(429, "saturated");
    running
        .get("/pick?wait=0s")
        .await
        .assert_refused(429, "saturated");
    assert_eq!(running.metric(WAITERS).await, 0.0);
}

#[tokio::test]
async fn a_refusal_tells_the_place_in_the_queue() {
    let running = Arc::new(Running::with(&[("a@x", 1)]).await);
    running.pick("").await;
    let place = async |path: &str| {
        let refused = running.get(path).await;
        refused.assert_refused(429, "saturated");
        refused.header("x-kling-queue-position").to_owned()
    };
    assert_eq!(place("/pick").await, "1");
    let waiter = Arc::clone(&running);
    let waiting = tokio::spawn(async move { waiter.get("/pick?wait=60s").await });
    running.until_metric(WAITERS, |count| count == 1.0).await;
    assert_eq!(place("/pick").await, "2");
    assert_eq!(place("/pick?wait=100ms").await, "2");
    waiting.abort();
}

#[tokio::test]
async fn a_refusal_tells_when_jobs_like_those_will_be_over() {
    let took = Duration::from_secs(5);
    let sim = Sim::builder().account("a@x", 1);
    let sim = sim.job_duration(JobDuration::between(took, took));
    let sim = sim.start().await.unwrap();
    let running = Running::beside(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
    running.until(|readiness| readiness.status == 200).await;
    assert_eq!(start_job(&running).await.status, 200);
    // Nothing is known but that videos take minutes.
    assert_eq!(told(&start_job(&running).await, "saturated"), 60_000);
    eventually(async || (start_job(&running).await.status == 200).then_some(())).await;
    // The second job runs, and the duration of one such job is known.
    let told = told(&start_job(&running).await, "saturated");
    assert!(told > 1000 && told < 10_000, "{told} ms");
}

#[tokio::test]
async fn right_after_a_start_the_jobs_that_run_already_are_expected_to_take_their_time() {
    let sim = manual(&[("a@x", 2)]).start().await.unwrap();
    sim.submit_directly("a@x", 2);
    let running = Running::beside(sim, &[]).await;
    running.until(|readiness| readiness.status == 200).await;
    let refused = start_job(&running).await;
    assert_eq!(told(&refused, "saturated"), 60_000);
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(refused.header("x-kling-queue-position"), "1");
    assert_eq!(told(&running.get("/pick").await, "saturated"), 60_000);
}

#[tokio::test]
async fn jobs_that_run_already_are_as_old_as_the_upstream_tells() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let rows = r#"{"executing":[{"id":7,"email":"a@x","elapsed":"02:24"}]}"#;
    let listed = Effect::Answer(kling_sim::Answer::new(200).body(rows));
    sim.fault(Fault::new(listed).on("GET", "/scheduler/available"));
    let running = Running::beside(sim, &[]).await;
    running.until(|readiness| readiness.status == 200).await;
    let told = told(&start_job(&running).await, "saturated");
    assert!((20_000..50_000).contains(&told), "{told} ms of 36 s");
}

#[tokio::test]
async fn a_refusal_tells_when_a_slot_in_doubt_is_decided_about() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lost = Fault::new(Effect::ResetBefore).on_job_starts();
    running.sim.fault(lost);
    start_job(&running)
        .await
        .assert_refused(502, "outcome-unknown");
    let told = told(&start_job(&running).await, "unverified");
    assert!((60_001..=150_000).contains(&told), "{told} ms of 2 min");
}

async fn start_job(running: &Running) -> Answer {
    let path = "/v1/kling/videos/text2video";
    running.post(path, r#"{"prompt":"p"}"#).await
}

/// The milliseconds after which a call that was refused for `reason` is to come back.
fn told(refused: &Answer, reason: &str) -> u64 {
    refused.assert_refused(429, reason);
    refused.json()["retryAfterMs"].as_u64().unwrap()
}

#[tokio::test]
async fn a_longer_wait_than_the_longest_is_cut() {
    let running = Running::configured(&[("a@x", 1)], &[("SELECTION__WAIT_MAX", "100ms")]).await;
    running.pick("").await;
    running
        .get("/pick?wait=700h")
        .await
        .assert_refused(429, "saturated");
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let running =
        Arc::new(Running::configured(&[("a@x", 1)], &[("SELECTION__WAITERS_MAX", "1")]).await);
    let lease = running.pick("").await;
    let waiter = {
        let running = Arc::clone(&running);
        tokio::spawn(async move { running.pick("?wait=60s").await })
    };
    running.until_metric(WAITERS, |count| count == 1.0).await;
    let refused = running.get("/pick?wait=60s").await;
    let told = told(&refused, "queue-full");
    assert!(told > 10_000, "{told} ms until the first lease ends");
    running.release(&lease).await;
    waiter.await.unwrap();
}

#[tokio::test]
async fn a_slot_that_expires_serves_a_waiter() {
    let running = Running::with(&[("a@x", 1)]).await;
    let first = running.pick("?ttl=1s").await;
    let second = running.pick("?wait=60s").await;
    assert_ne!(first["leaseId"], second["leaseId"]);
    let expired = r#"kling_balancer_leases_ended_total{cause="expired"}"#;
    assert_eq!(running.metric(expired).await, 1.0);
}

#[tokio::test]
async fn a_client_that_disconnects_while_it_waits_leaves_the_queue() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await;
    let mut gone = TcpStream::connect(running.addr).await.unwrap();
    gone.write_all(b"GET /pick?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    running.until_metric(WAITERS, |count| count == 1.0).await;
    drop(gone);
    running.until_metric(WAITERS, |count| count == 0.0).await;
    running.release(&lease).await;
    assert_eq!(running.held().await, 0);
    let gone = r#"kling_balancer_picks_total{result="client-gone"}"#;
    assert_eq!(running.metric(gone).await, 1.0);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed_whatever_it_sent_before() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await;
    for (request, resets) in [
        (
            "GET /pick?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\n",
            false,
        ),
        (
            "GET /pick?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\n",
            true,
        ),
        (
            "POST /pick?wait=60s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n\r\n",
            false,
        ),
    ] {
        let mut gone = TcpStream::connect(running.addr).await.unwrap();
        gone.write_all(request.as_bytes()).await.unwrap();
        running.until_metric(WAITERS, |count| count == 1.0).await;
        if resets {
            gone.set_zero_linger().unwrap();
        }
        drop(gone);
        running.until_metric(WAITERS, |count| count == 0.0).await;
    }
    running.release(&lease).await;
    assert_eq!(running.held().await, 0);
}

/// Clients hang up at every moment around the grant. A slot whose client could not learn of it
/// comes back at once, any other by its ttl. In the end no slot is held, and every slot can be
/// picked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_disconnect_in_the_instant_of_the_grant_leak_nothing() {
    let running = Arc::new(Running::with(&[("a@x", 4)]).await);
    for round in 0..300u64 {
        let holder = running.pick("?wait=20s").await;
        let mut gone = TcpStream::connect(running.addr).await.unwrap();
        gone.write_all(b"GET /pick?wait=60s&ttl=1s HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let releaser = {
            let running = Arc::clone(&running);
            tokio::spawn(async move { running.release(&holder).await })
        };
        // Yields instead of time move the hang-up by a few scheduling steps each round.
        for _ in 0..round % 30 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 0 {
            gone.set_zero_linger().unwrap();
        }
        drop(gone);
        releaser.await.unwrap();
    }
    let in_use = format!(
        r#"kling_balancer_slots_in_use{{account="{}",kind="held"}}"#,
        accounts_fetcher::Account::new("a@x", 1).alias
    );
    running.until_metric(&in_use, |held| held == 0.0).await;
    assert_eq!(running.metric(WAITERS).await, 0.0);
    running.pick("").await;
}

#[tokio::test]
async fn a_shutdown_ends_waits_at_once() {
    let running = Running::with(&[("a@x", 1)]).await;
    running.pick("").await;
    let waiter = tokio::spawn(send_waiting(running.addr));
    running.until_metric(WAITERS, |count| count == 1.0).await;
    running.shutdown.cancel();
    waiter.await.unwrap().assert_refused(503, "shutting-down");
    running.task.await.unwrap().unwrap();
}

async fn send_waiting(addr: std::net::SocketAddr) -> Answer {
    send(addr, Method::GET, "/pick?wait=60s", &[], "").await
}
