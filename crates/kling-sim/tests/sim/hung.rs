//! A hung account answers no call that names it, until it is mended.

use std::{io::ErrorKind, time::Duration};

use kling_sim::{ChaosPlan, Effect, Fault, JobDuration, Outcome, Sim, SimBuilder};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

use crate::client::{get, open, submit, until};

/// Long enough for loopback to deliver an answer, short enough to wait for nothing.
const SILENCE: Duration = Duration::from_millis(50);

const JOB: &str = "/videos/text2video";

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual)
}

/// Calls of every kind that name an account: in the body, in the query and in the path.
async fn calls(sim: &Sim, email: &str) -> Vec<TcpStream> {
    let body = json!({"email": email, "prompt": "p", "name": "n"}).to_string();
    let posts = [
        JOB,
        "/images/kolors",
        "/avatars",
        "/elements",
        "/tts/create",
    ];
    let gets = [
        "/tasks/1",
        "/tasks",
        "/assets",
        "/assets/uploaded",
        "/elements/u_1",
        "/avatars",
        "/tts/voices",
    ];
    let mut calls = Vec::new();
    for path in posts {
        calls.push(open(sim, "POST", path, &body).await);
    }
    for path in gets {
        calls.push(open(sim, "GET", &format!("{path}?email={email}"), "").await);
    }
    let download = format!("/assets/download?email={email}&workIds=1");
    calls.push(open(sim, "GET", &download, "").await);
    calls.push(open(sim, "DELETE", &format!("/tasks/1?email={email}"), "").await);
    calls.push(open(sim, "GET", &format!("/accounts/{email}"), "").await);
    calls
}

/// How many requests have arrived.
fn seen(sim: &Sim) -> usize {
    sim.requests().len() + sim.audit().submissions.len()
}

/// Asserts that every call gets an answer, be it a refusal.
async fn assert_answered(calls: &mut [TcpStream]) {
    for call in calls {
        assert_eq!(call.read_u8().await.unwrap(), b'H', "an answer of HTTP");
    }
}

/// Asserts that no call gets an answer, and that all connections stay open.
async fn assert_silent(calls: &[TcpStream]) {
    sleep(SILENCE).await;
    for call in calls {
        let read = call.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock));
    }
}

#[tokio::test]
async fn no_call_that_names_a_hung_account_is_answered_and_all_others_are() {
    let sim = builder().hung("a@x").start().await.unwrap();
    let hanging = calls(&sim, "a@x").await;
    let mut others = calls(&sim, "b@x").await;
    assert_answered(&mut others).await;
    until(|| seen(&sim) == hanging.len() + others.len()).await;
    assert_silent(&hanging).await;
    let listed = get(&sim, "/accounts").await.json();
    assert!(listed["a@x"]["error"].is_null() && listed["a@x"]["session"].is_object());
    assert_eq!(get(&sim, "/scheduler/available").await.status, 200);

    assert!(sim.set_account_hung("a@x", false));
    let mut calls = calls(&sim, "a@x").await;
    assert_answered(&mut calls).await;
    assert_silent(&hanging).await;
    // Two of the calls of each account start a job; those that hung did not.
    assert_eq!((sim.executing("a@x"), sim.executing("b@x")), (2, 2));
    assert!(!sim.set_account_hung("c@x", true));
}

#[tokio::test]
async fn no_other_fault_makes_a_hung_account_answer() {
    let sim = builder().start().await.unwrap();
    assert!(sim.set_account_hung("a@x", true));
    sim.fault(Fault::status(503).on("GET", "/tasks/{task_id}"));
    sim.chaos(ChaosPlan::new(1).with(1.0, Effect::ResetAfter));
    let body = json!({"email": "a@x", "prompt": "p"}).to_string();
    let start = open(&sim, "POST", JOB, &body).await;
    let poll = open(&sim, "GET", "/tasks/1?email=a@x", "").await;
    until(|| seen(&sim) == 2).await;
    assert_silent(&[start, poll]).await;
    let outcome = sim.audit().submissions[0].outcome;
    assert_eq!(
        (outcome, sim.executing("a@x")),
        (Outcome::Unjudged("stalled"), 0)
    );

    sim.clear_faults();
    let start = open(&sim, "POST", JOB, &body).await;
    until(|| seen(&sim) == 3).await;
    assert_silent(&[start]).await;
    sim.set_account_hung("a@x", false);
    let started = submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await;
    assert_eq!(started.status, 200);
}
