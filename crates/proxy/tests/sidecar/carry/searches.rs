//! A call about a task of an unknown owner waits as long as the search for the owner can go on.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use harness::{Answer, Running, eventually, manual};
use http::Method;
use kling_sim::{Effect, Fault, ListFault, Sim, TaskId};
use proxy::owners::{LATE_OF_ACCOUNT_MAX, QUESTIONS_MAX};
use tempfile::NamedTempFile;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

use super::client::{JSON, ready, task_path};

const THREE: [(&str, u32); 3] = [("a@x", 9), ("b@x", 9), ("c@x", 9)];
/// The interval is longer than any test, so that no round teaches owners.
const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");
const LONG: (&str, &str) = ("FORWARD__WAIT", "60s");
const QUESTIONS: (&str, &str) = ("GET", "/tasks/{task_id}");
/// A task that no account has.
const NOBODYS: i64 = 7;
const EXTEND: &str = "/v1/kling/videos/extend";

/// A job that no round of the sidecar has listed, because it ended before the first round.
fn unknown_job(sim: &Sim, email: &str) -> TaskId {
    let id = sim.submit_directly(email, 1)[0];
    assert!(sim.finish(id));
    id
}

/// The calls that search the owner of a task.
fn calls(id: TaskId) -> [(Method, String, String); 3] {
    let path = task_path(id.get());
    let extended = format!(r#"{{"task_id":{id},"prompt":"p"}}"#);
    [
        (Method::GET, path.clone(), String::new()),
        (Method::POST, EXTEND.to_owned(), extended),
        (Method::DELETE, path, String::new()),
    ]
}

/// Calls without waiting for the answer.
fn begin(running: &Arc<Running>, method: Method, path: String, body: String) -> JoinHandle<Answer> {
    let running = Arc::clone(running);
    tokio::spawn(async move { running.send(method, &path, &[JSON], &body).await })
}

fn poll(running: &Arc<Running>, id: impl Into<TaskId>) -> JoinHandle<Answer> {
    let path = task_path(id.into().get());
    begin(running, Method::GET, path, String::new())
}

/// How often each account was asked for a task, by the e-mail in the query.
fn asked(sim: &Sim, id: impl Into<TaskId>) -> HashMap<String, usize> {
    let path = task_path(id.into().get());
    let mut counts = HashMap::new();
    for seen in sim.requests() {
        if seen.head.path == path && seen.head.method == Method::GET {
            *counts
                .entry(seen.head.query.unwrap_or_default())
                .or_default() += 1;
        }
    }
    counts
}

fn asked_count(sim: &Sim, id: impl Into<TaskId>) -> usize {
    asked(sim, id).values().sum()
}

/// So many accounts, in the order of the list.
fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:02}@x")).collect()
}

async fn sim_of(emails: &[String]) -> Sim {
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 9)).collect();
    manual(&accounts).start().await.unwrap()
}

#[tokio::test]
async fn the_first_list_is_waited_for() {
    let without_list = async |settings| {
        let sim = manual(&THREE).start().await.unwrap();
        let id = unknown_job(&sim, "b@x");
        sim.list_fault(ListFault::status(503));
        (Arc::new(Running::beside(sim, settings).await), id)
    };
    let (patient, id) = without_list(&[NO_ROUNDS, LONG]).await;
    let waiting = calls(id).map(|(method, path, body)| begin(&patient, method, path, body));
    // Who does not wait is answered after 5 s.
    let (hasty, id) = without_list(&[NO_ROUNDS]).await;
    let [read, start, delete] =
        calls(id).map(|(method, path, body)| begin(&hasty, method, path, body));
    let (read, start, delete) = tokio::join!(read, start, delete);
    read.unwrap().assert_refused(503, "owner-unknown");
    start.unwrap().assert_refused(429, "learning");
    assert_eq!(delete.unwrap().status, 400, "it names no account");
    assert!(waiting.iter().all(|call| !call.is_finished()));
    patient.sim.clear_list_fault();
    for call in waiting {
        let answer = call.await.unwrap();
        // The deletion may come before the others.
        assert!([200, 404].contains(&answer.status.as_u16()), "{answer:?}");
        assert_eq!(answer.header("x-kling-account"), "b@x");
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_asked_is_asked_again() {
    for effect in [
        Effect::Answer(kling_sim::Answer::new(503)),
        Effect::Answer(kling_sim::Answer::new(429)),
        Effect::ResetBefore,
        Effect::TruncateAfter,
    ] {
        let sim = manual(&THREE).start().await.unwrap();
        let running = Arc::new(ready(sim, &[NO_ROUNDS, LONG]).await);
        for call in 0..3 {
            let id = unknown_job(&running.sim, "b@x");
            let (method, path, body) = calls(id)[call].clone();
            let fault = Fault::new(effect.clone()).on(QUESTIONS.0, QUESTIONS.1);
            running.sim.fault(fault.account("b@x"));
            let waiting = begin(&running, method, path, body);
            eventually(async || {
                let counts = asked(&running.sim, id);
                (counts.get("email=b%40x") >= Some(&2)).then_some(())
            })
            .await;
            assert!(!waiting.is_finished());
            running.sim.clear_faults();
            let answer = waiting.await.unwrap();
            assert_eq!(answer.status, 200, "{effect:?}: {answer:?}");
            assert_eq!(answer.header("x-kling-account"), "b@x");
            let counts = asked(&running.sim, id);
            assert_eq!((counts["email=a%40x"], counts["email=c%40x"]), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_job_start_that_waits_for_an_owner_is_told_of_the_shutdown() {
    let sim = manual(&THREE).start().await.unwrap();
    let id = unknown_job(&sim, "b@x");
    let running = Arc::new(ready(sim, &[NO_ROUNDS, LONG]).await);
    let fails = Effect::Answer(kling_sim::Answer::new(503));
    let fault = Fault::new(fails).on(QUESTIONS.0, QUESTIONS.1);
    running.sim.fault(fault.account("b@x"));
    let [_, (method, path, body), _] = calls(id);
    let waiting = begin(&running, method, path, body);
    eventually(async || (asked_count(&running.sim, id) > 0).then_some(())).await;
    running.shutdown.cancel();
    let refused = waiting.await.unwrap();
    refused.assert_refused(429, "shutting-down");
}

/// Passes connections on to the simulator.
async fn relay(listener: TcpListener, sim: std::net::SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut to = TcpStream::connect(sim).await.unwrap();
            copy_bidirectional(&mut from, &mut to).await
        });
    }
}

#[tokio::test]
async fn an_outage_of_the_upstream_is_waited_out() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let base_url = format!("http://{}/v1/kling", socket.local_addr().unwrap());
    let list = NamedTempFile::new().unwrap();
    std::fs::write(list.path(), r#"{"a@x":{"maxJobs":2},"b@x":{"maxJobs":2}}"#).unwrap();
    let settings = [
        ("UPSTREAM__BASE_URL", base_url.as_str()),
        ("ACCOUNTS__FILE", list.path().to_str().unwrap()),
        ("RECONCILE__INTERVAL", "0"),
        LONG,
    ];
    let sim = manual(&THREE).start().await.unwrap();
    let id = unknown_job(&sim, "b@x");
    let running = Arc::new(ready(sim, &settings).await);
    let waiting = poll(&running, id);
    eventually(async || {
        let readiness = running.get("/readyz?verbose").await;
        readiness.text.contains("[-] connections").then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    let relaying = tokio::spawn(relay(socket.listen(8).unwrap(), running.sim.addr()));
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "b@x");
    relaying.abort();
}

#[tokio::test]
async fn all_of_70_accounts_are_asked() {
    let emails = numbered(70);
    let last = &emails[69];
    let sim = sim_of(&emails).await;
    let running = Arc::new(ready(sim, &[NO_ROUNDS, LONG]).await);
    for call in 0..3 {
        let id = unknown_job(&running.sim, last);
        let (method, path, body) = calls(id)[call].clone();
        let answer = begin(&running, method, path, body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-kling-account"), last);
    }
    let missing = poll(&running, NOBODYS).await.unwrap();
    assert_eq!(missing.status, 404, "{missing:?}");
    assert_eq!(asked_count(&running.sim, NOBODYS), emails.len() + 1);
}

#[tokio::test]
async fn a_poll_that_does_not_wait_goes_on_where_the_last_one_ended() {
    let emails = numbered(70);
    let sim = sim_of(&emails).await;
    let id = unknown_job(&sim, &emails[69]);
    let running = Arc::new(ready(sim, &[NO_ROUNDS]).await);
    let refused = poll(&running, id).await.unwrap();
    refused.assert_refused(503, "owner-unknown");
    let answer = poll(&running, id).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), emails[69]);
}

#[tokio::test]
async fn polls_for_nobodys_task_ask_each_account_once() {
    let emails = numbered(12);
    let running = Arc::new(ready(sim_of(&emails).await, &[NO_ROUNDS]).await);
    for _ in 0..10 {
        assert_eq!(poll(&running, NOBODYS).await.unwrap().status, 404);
    }
    // Each poll also passes an answer of the first account on.
    assert_eq!(asked_count(&running.sim, NOBODYS), emails.len() + 10);
    assert_eq!(asked(&running.sim, NOBODYS).len(), emails.len());
}

#[tokio::test]
async fn polls_at_once_for_one_task_share_one_search() {
    let emails = numbered(12);
    let sim = sim_of(&emails).await;
    let id = unknown_job(&sim, &emails[11]);
    let running = Arc::new(ready(sim, &[NO_ROUNDS]).await);
    let polls: Vec<_> = (0..60).map(|_| poll(&running, id)).collect();
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!(answer.header("x-kling-account"), emails[11]);
    }
    let mut counts = asked(&running.sim, id);
    let owner = format!("email={}%40x", &emails[11][..2]);
    assert_eq!(counts.remove(&owner), Some(1 + 60));
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn a_hung_account_holds_up_only_what_waits_for_it() {
    let sim = manual(&THREE).start().await.unwrap();
    let of_a = (0..4).map(|_| unknown_job(&sim, "a@x"));
    // Nobody's tasks wait for it, too.
    let stuck: Vec<_> = of_a.chain((1..=150_i64).map(TaskId::from)).collect();
    let running = Arc::new(ready(sim, &[NO_ROUNDS, LONG]).await);
    assert!(running.sim.set_account_hung("a@x", true));
    let waiting: Vec<_> = stuck.iter().map(|id| poll(&running, *id)).collect();
    for id in &stuck {
        eventually(async || {
            let counts = asked(&running.sim, *id);
            let are_asked = ["email=b%40x", "email=c%40x"].map(|it| counts.contains_key(it));
            (are_asked == [true; 2]).then_some(())
        })
        .await;
    }
    for email in ["b@x", "c@x"] {
        for call in 0..3 {
            let id = unknown_job(&running.sim, email);
            let (method, path, body) = calls(id)[call].clone();
            let answer = begin(&running, method, path, body).await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("x-kling-account"), email);
        }
    }
    // It does not take all the places for questions either.
    let counts = stuck.iter().map(|id| asked(&running.sim, *id));
    let to_a: usize = counts.filter_map(|it| it.get("email=a%40x").copied()).sum();
    assert!(
        to_a <= QUESTIONS_MAX + 2 * LATE_OF_ACCOUNT_MAX,
        "{to_a} questions"
    );
    for call in waiting {
        assert!(
            !call.is_finished(),
            "it is not told that its task is missing"
        );
        call.abort();
    }
}
