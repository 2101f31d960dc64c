//! What many clients take of memory, and what is left of it when they are gone.
//!
//! The sidecar is a process of its own here, so that the tests measure only its memory.

use std::net::SocketAddr;

use harness::{eventually, manual, send, within};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, sleep},
};

use crate::program::{KEPT_MAX, Process};

const KIB: usize = 1024;

/// Clients that call and stay connected.
async fn calling(addr: SocketAddr, count: usize, path: &str) -> Vec<TcpStream> {
    let call = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = within(TcpStream::connect(addr)).await.unwrap();
        client.write_all(call.as_bytes()).await.unwrap();
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn clients_that_are_gone_leave_no_memory_behind() {
    const CLIENTS: usize = 5_000;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    for _ in 0..3 {
        for mut client in calling(process.addr, CLIENTS, "/livez").await {
            let mut answer = [0; 15];
            within(client.read_exact(&mut answer)).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        }
    }
    sleep(Duration::from_secs(10)).await;
    let left = process.memory("RssAnon");
    assert!(left < KEPT_MAX, "{} KiB", left / KIB);
}

#[tokio::test]
async fn a_client_that_waits_takes_little_memory() {
    const CLIENTS: usize = 10_000;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let taken = send(process.addr, Method::POST, "/pick", &[], "").await;
    assert_eq!(taken.status, StatusCode::OK);
    let before = process.memory("VmRSS");
    let _waiting = calling(process.addr, CLIENTS, "/pick?wait=5m").await;
    let all = format!("kling_balancer_waiters {CLIENTS}\n");
    eventually(async || {
        let metrics = send(process.addr, Method::GET, "/metrics", &[], "").await;
        metrics.text.contains(&all).then_some(())
    })
    .await;
    let each = (process.memory("VmRSS") - before) / CLIENTS;
    assert!(each < 18 * KIB, "{each} bytes");
}
