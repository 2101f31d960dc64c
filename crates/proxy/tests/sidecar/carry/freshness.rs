//! Grants rest on a round that is fresh, as long as rounds are answered.

use harness::{Running, eventually, manual};
use http::StatusCode;
use kling_sim::{Effect, Fault};

use super::client::{ready, start_job};

const STALE: &str = "slots are granted on the list of";

/// What `/readyz?verbose` says about rounds.
async fn rounds_line(running: &Running) -> String {
    let text = running.get("/readyz?verbose").await.text;
    let line = text.lines().find(|line| line.contains(" rounds: "));
    line.unwrap().to_owned()
}

async fn until_line(running: &Running, part: &str) {
    eventually(async || rounds_line(running).await.contains(part).then_some(())).await;
}

/// A sidecar whose last round is not fresh any more, and whose next one is not due for seconds.
async fn idle(accounts: &[(&str, u32)]) -> Running {
    let sim = manual(accounts).start().await.unwrap();
    let running = ready(sim, &[("RECONCILE__INTERVAL", "1s")]).await;
    assert_eq!(rounds_line(&running).await, "[+] rounds: ok");
    until_line(&running, "the next pick waits for a newer one").await;
    running
}

#[tokio::test]
async fn a_pick_after_an_idle_time_knows_what_other_tools_started_meanwhile() {
    let running = idle(&[("a@x", 1)]).await;
    running.sim.submit_directly("a@x", 1);
    running.get("/pick").await.assert_refused(429, "saturated");
    assert_eq!(rounds_line(&running).await, "[+] rounds: ok");
    assert_eq!(
        running.metric("kling_balancer_stale_grants_total").await,
        0.0
    );
}

#[tokio::test]
async fn a_job_start_after_an_idle_time_goes_where_a_slot_is_free() {
    let emails: Vec<_> = (0..20).map(|n| format!("{n}@x")).collect();
    let accounts: Vec<_> = emails.iter().map(|email| (&**email, 1)).collect();
    let running = idle(&accounts).await;
    for email in &emails[1..] {
        running.sim.submit_directly(email, 1);
    }
    let answer = start_job(&running).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "0@x");
    assert_eq!(answer.header("x-kling-attempts"), "1");
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn grants_go_on_without_rounds_and_are_counted() {
    for effect in [Effect::StallBefore, Effect::ResetBefore] {
        let sim = manual(&[("a@x", 1)]).start().await.unwrap();
        let running = ready(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
        let fault = Fault::new(effect.clone()).on("GET", "/scheduler/available");
        running.sim.fault(fault);
        eventually(async || {
            let lease = running.pick("").await;
            running.release(&lease).await;
            let stale = running.metric("kling_balancer_stale_grants_total").await;
            (stale > 0.0).then_some(())
        })
        .await;
        until_line(&running, STALE).await;
        let line = rounds_line(&running).await;
        assert!(line.starts_with("[-] rounds: "), "{line}");
        if effect == Effect::ResetBefore {
            running.sim.clear_faults();
            until_line(&running, "[+] rounds: ok").await;
        }
    }
}
