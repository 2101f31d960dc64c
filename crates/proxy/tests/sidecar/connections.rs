//! Many clients at once: the system takes a burst, and those that do nothing give way.

use std::net::SocketAddr;

use harness::{eventually, listening, manual, send, within};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::program::Process;

const CALL: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// How many connections of a burst the system must take: no machine takes more than its own limit.
fn burst() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    limit.trim().parse::<usize>().unwrap().min(3_000)
}

#[tokio::test]
async fn the_system_takes_a_burst_of_connections_before_one_is_accepted() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let end = CancellationToken::new();
    // It does not run yet: what connects now is taken by the system alone.
    let sidecar = listening(&sim, &[], end.clone()).await;
    let addr = sidecar.addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..burst() {
        clients.push(within(TcpStream::connect(addr)).await.unwrap());
    }
    let running = tokio::spawn(sidecar.run());
    let mut answered = JoinSet::new();
    for mut client in clients {
        answered.spawn(async move {
            let mut answer = String::new();
            client.write_all(CALL).await.unwrap();
            within(client.read_to_string(&mut answer)).await.unwrap();
            answer.starts_with("HTTP/1.1 200 ")
        });
    }
    assert!(answered.join_all().await.into_iter().all(|it| it));
    end.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_clients_give_way_to_those_that_call() {
    let sim = manual(&[("a@x", 5)]).start().await.unwrap();
    let process = Process::short_of_files(&sim).await;
    let addr = process.addr;
    let mut idle = Vec::new();
    for sent in [
        &b""[..],
        b"GET /livez HT",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        for _ in 0..20 {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(sent).await.unwrap();
            idle.push(client);
        }
        for _ in 0..5 {
            let picked = send(addr, Method::POST, "/pick", &[], "").await;
            let lease = picked.lease()["leaseId"].as_str().unwrap().to_owned();
            let path = format!("/leases/{lease}");
            let released = send(addr, Method::DELETE, &path, &[], "").await;
            assert_eq!(released.status, StatusCode::NO_CONTENT);
        }
    }
    process.signal("-TERM").await;
    assert_eq!(process.end().await.0, Some(0));
}

/// Begins a call that waits for a slot.
async fn waiting(addr: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(addr).await.unwrap();
    let call = b"GET /pick?wait=5m HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(call).await.unwrap();
    client
}

#[tokio::test]
async fn a_call_that_runs_gives_way_to_none() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let process = Process::short_of_files(&sim).await;
    let lease = send(process.addr, Method::POST, "/pick", &[], "")
        .await
        .lease();
    let mut waiting = waiting(process.addr).await;
    // It counts as waiting before the others come.
    eventually(async || {
        let metrics = send(process.addr, Method::GET, "/metrics", &[], "").await;
        metrics
            .text
            .contains("kling_balancer_waiters 1")
            .then_some(())
    })
    .await;
    for _ in 0..40 {
        let answer = send(process.addr, Method::GET, "/livez", &[], "").await;
        assert_eq!(answer.status, StatusCode::OK);
        let _idle = TcpStream::connect(process.addr).await.unwrap();
    }
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    send(process.addr, Method::DELETE, &path, &[], "").await;
    let mut answer = [0; 15];
    within(waiting.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn clients_that_read_nothing_give_way_to_those_that_call() {
    let file = kling_sim::Answer::new(200).body("x".repeat(64 * 1024 * 1024));
    let sim = manual(&[("a@x", 5)]).start().await.unwrap();
    sim.fault(kling_sim::Fault::new(kling_sim::Effect::Answer(file)).on("GET", "/any"));
    let process = Process::short_of_files(&sim).await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut client = TcpStream::connect(process.addr).await.unwrap();
        let call = b"GET /v1/kling/any HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(call).await.unwrap();
        slow.push(client);
    }
    let started = send(
        process.addr,
        Method::POST,
        "/v1/kling/videos/text2video",
        &[("content-type", "application/json")],
        r#"{"prompt":"x"}"#,
    );
    assert_eq!(started.await.status, StatusCode::OK);
    let read = send(process.addr, Method::GET, "/v1/kling/accounts", &[], "").await;
    assert_eq!(read.status, StatusCode::OK);
}
