//! Clients leave in the middle of a call: their submissions continue, and no slot is lost or
//! doubled.

use std::{sync::Arc, time::Duration};

use harness::{PATIENCE, Running, Slots, eventually, manual};
use kling_sim::{Effect, Fault};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::client::{
    JOB, accepted, drawn_seed, ended, leases, ready, start_job, task_id, until_slots,
};

const CLIENTS: usize = 1000;
/// Clients at once.
const CROWD: usize = 25;
const ACCOUNTS: [(&str, u32); 3] = [("a@x", 40), ("b@x", 25), ("c@x", 15)];

/// A job start as bytes, and where its head ends.
fn submission(reply_ref: &str, wait: &str) -> (Vec<u8>, usize) {
    let body = format!(r#"{{"prompt":"a boat","replyRef":"{reply_ref}"}}"#);
    let head = format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         x-kling-wait: {wait}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ([head.as_bytes(), body.as_bytes()].concat(), head.len())
}

/// Sends a job start without waiting for its answer.
async fn begin(running: &Running, reply_ref: &str, wait: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let (bytes, _) = submission(reply_ref, wait);
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// One client that is killed in its head, in its body, right behind its body, or later, while it
/// waits for a slot or for its answer.
async fn killed_client(running: Arc<Running>, n: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(n as u64));
    let (bytes, head_length) = submission(&format!("r{n}"), "60s");
    let (sent, lives_on) = match rng.random_range(0..6) {
        0 => (rng.random_range(0..head_length), false),
        1 => (rng.random_range(head_length..bytes.len()), false),
        2 => (bytes.len(), false),
        _ => (bytes.len(), true),
    };
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(&bytes[..sent]).await.unwrap();
    if lives_on {
        // The delay draws the moment of the disconnect; it waits for no event.
        sleep(Duration::from_micros(rng.random_range(0..60_000))).await;
    }
    drop(stream);
    if rng.random_ratio(1, 20) {
        running.sim.finish_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_killed_clients_lose_no_slot_and_start_no_job_twice() {
    let seed = drawn_seed();
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let slow = Effect::Delay(Duration::from_millis(20));
    sim.fault(Fault::new(slow).on_job_starts());
    let running = ready(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
    let running = Arc::new(running);
    let crowd = Arc::new(Semaphore::new(CROWD));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let place = Arc::clone(&crowd).acquire_owned().await.unwrap();
        let client = killed_client(Arc::clone(&running), n, seed);
        clients.spawn(async move {
            client.await;
            drop(place);
        });
    }
    timeout(PATIENCE, clients.join_all()).await.unwrap();

    // All submissions are answered, and all waiters have left.
    eventually(async || {
        let held = leases(&running).await;
        let is_settled = held.iter().all(|lease| lease["state"] == "bound");
        let waiters = running.metric("kling_balancer_waiters").await;
        (is_settled && waiters == 0.0).then_some(())
    })
    .await;
    until_held_is_executing(&running).await;
    let audit = running.sim.audit();
    assert_eq!((audit.over_limit(), audit.duplicates), (0, 0), "{audit}");
    let accepted = accepted(&running.sim).len();
    assert!(
        accepted > CLIENTS / 20,
        "hardly anything was submitted: {audit}"
    );
    assert_eq!(audit.submission_count, accepted as u64, "{audit}");
    assert_eq!(ended(&running, "absent").await, 0.0);
    assert_eq!(ended(&running, "unverified").await, 0.0);

    // In the end new jobs can take every slot.
    running.sim.finish_all();
    for (email, _) in ACCOUNTS {
        until_slots(&running, email, Slots::NONE).await;
    }
    running.sim.clear_faults();
    for _ in 0..ACCOUNTS.iter().map(|(_, max_jobs)| max_jobs).sum() {
        task_id(&start_job(&running).await);
    }
    start_job(&running).await.assert_refused(429, "saturated");
    assert_eq!(running.sim.audit().over_limit(), 0);
}

/// Waits until each account holds as many slots as the simulator counts jobs there, and no other
/// slot is in use.
async fn until_held_is_executing(running: &Running) {
    eventually(async || {
        let accounts = running.get("/accounts").await.json();
        let agree = |account: &Value| {
            let executing = running.sim.executing(account["email"].as_str().unwrap());
            account["held"] == executing && account["inFlight"] == executing
        };
        let accounts = accounts["accounts"].as_array().unwrap();
        accounts.iter().all(agree).then_some(())
    })
    .await;
}

/// A sidecar over one account whose job starts take a second, so that a test can look meanwhile.
async fn slow() -> Running {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "1h")]).await;
    let slow = Effect::Delay(Duration::from_secs(1));
    running.sim.fault(Fault::new(slow).on_job_starts().times(1));
    running
}

async fn until_reserved(running: &Running) {
    eventually(async || {
        let held = leases(running).await;
        held.first()
            .is_some_and(|lease| lease["state"] == "reserved")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_submission_goes_on_when_its_client_has_left() {
    let running = slow().await;
    let client = begin(&running, "r1", "0s").await;
    until_reserved(&running).await;
    drop(client);
    let lease = eventually(async || {
        let held = leases(&running).await;
        held.into_iter().find(|lease| lease["state"] == "bound")
    })
    .await;
    assert_eq!(lease["taskId"], accepted(&running.sim)[0].to_string());
}

#[tokio::test]
async fn the_shutdown_waits_for_a_submission_whose_client_has_left() {
    let running = slow().await;
    let client = begin(&running, "r1", "0s").await;
    until_reserved(&running).await;
    drop(client);
    running.shutdown.cancel();
    let ended = timeout(PATIENCE, running.task).await.expect("it ends");
    ended.unwrap().unwrap();
    assert_eq!(accepted(&running.sim).len(), 1, "the answer was waited for");
}

#[tokio::test]
async fn a_job_start_that_waits_leaves_the_queue_with_its_client() {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let id = task_id(&start_job(&running).await);
    let client = begin(&running, "r1", "60s").await;
    running
        .until_metric("kling_balancer_waiters", |count| count == 1.0)
        .await;
    drop(client);
    running
        .until_metric("kling_balancer_waiters", |count| count == 0.0)
        .await;
    running.sim.finish(id);
    until_slots(&running, "a@x", Slots::NONE).await;
    assert_eq!(
        running.sim.audit().submission_count,
        1,
        "nobody submitted for it"
    );
}

#[tokio::test]
async fn a_client_that_leaves_with_bytes_behind_its_request_leaves_the_queue_too() {
    let running = Running::with(&[("a@x", 1)]).await;
    task_id(&start_job(&running).await);
    let mut client = begin(&running, "r1", "60s").await;
    // The client sends more than its request. A server that reads only the next request misses the
    // end of the connection.
    client.write_all(b"GET /").await.unwrap();
    running
        .until_metric("kling_balancer_waiters", |count| count == 1.0)
        .await;
    drop(client);
    running
        .until_metric("kling_balancer_waiters", |count| count == 0.0)
        .await;
}

#[tokio::test]
async fn a_slow_sender_holds_no_slot() {
    let running = Running::with(&[("a@x", 1)]).await;
    let (bytes, head_length) = submission("r1", "0s");
    let mut slow = TcpStream::connect(running.addr).await.unwrap();
    slow.write_all(&bytes[..head_length + 5]).await.unwrap();
    // The sidecar serves another client first, though the slow one has sent a part of its body.
    task_id(&start_job(&running).await);
    slow.write_all(&bytes[head_length + 5..]).await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 429");
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_sender_that_stands_still_is_given_up() {
    let settings = [("UPSTREAM__IDLE_TIMEOUT", "200ms")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let (bytes, head_length) = submission("r1", "0s");
    let mut client = TcpStream::connect(running.addr).await.unwrap();
    client.write_all(&bytes[..=head_length]).await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains(r#""reason":"bad-request""#), "{text}");
    assert_eq!(leases(&running).await.len(), 0);
    assert_eq!(running.sim.audit().submission_count, 0);
}

#[tokio::test]
async fn a_client_that_asks_first_keeps_its_body_where_no_slot_is_free() {
    let running = Running::with(&[("a@x", 1)]).await;
    task_id(&start_job(&running).await);
    let (bytes, head_length) = submission("r1", "0s");
    let head = String::from_utf8(bytes[..head_length].to_vec()).unwrap();
    let head = head.replace("Host:", "Expect: 100-continue\r\nHost:");
    let mut client = TcpStream::connect(running.addr).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(text.contains("saturated"), "{text}");
}

/// Everything that comes until the connection ends.
async fn read_all(client: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = client.read_to_string(&mut text);
    timeout(PATIENCE, reading)
        .await
        .expect("the connection ends")
        .unwrap();
    text
}

#[tokio::test]
async fn a_job_start_that_waits_is_told_of_the_shutdown() {
    let running = Running::with(&[("a@x", 1)]).await;
    task_id(&start_job(&running).await);
    let mut client = begin(&running, "r1", "60s").await;
    running
        .until_metric("kling_balancer_waiters", |count| count == 1.0)
        .await;
    running.shutdown.cancel();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(text.contains("shutting-down"), "{text}");
    timeout(PATIENCE, running.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_submission_under_way_is_answered_before_the_shutdown() {
    let running = slow().await;
    let mut client = begin(&running, "r1", "0s").await;
    until_reserved(&running).await;
    running.shutdown.cancel();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let id = accepted(&running.sim)[0];
    assert!(text.contains(&format!(r#""id":{id},"#)), "{text}");
    timeout(PATIENCE, running.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_sending_side_and_need_not_wait_is_answered() {
    /// As many as there are slots for them and their picks.
    const ROUNDS: u64 = 40;
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[]).await;
    let start = |n| submission(&format!("half-{n}"), "0s").0;
    let pick = b"POST /pick HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}";
    let get = b"GET /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for n in 0..ROUNDS {
        for call in [&start(n)[..], pick, get] {
            let mut stream = TcpStream::connect(running.addr).await.unwrap();
            // The end may come before the call is read, and at any moment after that.
            stream.write_all(call).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut told = String::new();
            let read = timeout(PATIENCE, stream.read_to_string(&mut told)).await;
            read.unwrap().unwrap();
            let asked = String::from_utf8_lossy(&call[..20]);
            assert!(told.starts_with("HTTP/1.1 200 "), "{n}: {asked}: {told:?}");
        }
    }
    assert_eq!(running.sim.audit().submission_count, ROUNDS);
}
