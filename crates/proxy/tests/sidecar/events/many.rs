//! Many readers, slow readers, and more than there may be.

use std::net::SocketAddr;

use harness::{Running, eventually, manual, send, within};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
};

use super::reader::Reader;
use crate::program::Process;

const KIB: usize = 1024;

/// Drains and resumes an account so many times over one connection: three events each time.
async fn toggle(addr: SocketAddr, email: &str, times: usize) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (read, mut write) = stream.into_split();
    let call = |what| format!("POST /accounts/{email}/{what} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let pair = call("drain") + &call("resume");
    let writing = tokio::spawn(async move {
        for _ in 0..times {
            write.write_all(pair.as_bytes()).await.unwrap();
        }
        write
    });
    let mut lines = BufReader::new(read);
    let (mut line, mut answered) = (Vec::new(), 0);
    while answered < 2 * times {
        line.clear();
        within(lines.read_until(b'\n', &mut line)).await.unwrap();
        // The body before has no end of line.
        let text = String::from_utf8_lossy(&line);
        answered += usize::from(text.contains("HTTP/1.1 200 OK"));
    }
    writing.await.unwrap();
}

/// The most bytes that the system keeps of what a client does not read.
fn send_buffer_max() -> usize {
    let sizes = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    sizes.split_whitespace().last().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_slow_reader_is_cut_while_the_others_get_everything() {
    const BATCH: usize = 100;
    // Long events, so that fewer fill what the system keeps.
    let email = format!("{}@x", "a".repeat(200));
    let running = Running::with(&[(&email, 1)]).await;
    let mut slow = Reader::narrow(running.addr).await;
    let mut quick = Reader::open(running.addr, &[]).await;
    let (count, mut counted) = watch::channel((0, 0));
    let reading = tokio::spawn(async move {
        let mut last = None;
        while let Some(told) = quick.next().await {
            assert!(
                last.is_none_or(|last| told.id == last + 1),
                "one is missing"
            );
            last = Some(told.id);
            let bytes = told.data.to_string().len();
            count.send_modify(|(events, all)| {
                *events += 1;
                *all += bytes;
            });
        }
    });
    // What the system and hyper keep of the slow reader, and what the ring keeps behind that.
    let enough = send_buffer_max() + 1024 * KIB;
    let mut told = 0;
    while counted.borrow().1 < enough || told < 5 * 1000 {
        toggle(running.addr, &email, BATCH).await;
        told += 3 * BATCH;
        // The account is usable before and after: whether jobs can be started may be told, too.
        within(counted.wait_for(|(events, _)| *events >= told))
            .await
            .unwrap();
    }
    // What was on its way to it comes, and then the end.
    let mut got = 0;
    while slow.next().await.is_some() {
        got += 1;
    }
    assert!(got < told - 1000, "{got} of {told}");
    let cut = "kling_balancer_event_readers_cut_total";
    assert_eq!(running.metric(cut).await, 1.0);
    assert!(!reading.is_finished());
    assert_eq!(running.metric("kling_balancer_event_readers").await, 1.0);
    running.shutdown.cancel();
    running.task.await.unwrap().unwrap();
    within(reading).await.unwrap();
}

#[tokio::test]
async fn a_thousand_idle_readers_cost_little_and_hold_up_nothing() {
    const READERS: usize = 1000;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let sim = manual(&[("a@x", 5)]).start().await.unwrap();
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    // What the first calls take is taken.
    let warm = Reader::open(process.addr, &[]).await;
    drop(warm);
    let before = process.memory("VmRSS");
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(Reader::open(process.addr, &[]).await);
    }
    let each = (process.memory("VmRSS") - before) / READERS;
    assert!(each < 16 * KIB, "{each} bytes");
    // Picks go on, and so does the rest.
    for _ in 0..20 {
        let picked = send(process.addr, Method::POST, "/pick", &[], "").await;
        let lease = picked.lease()["leaseId"].as_str().unwrap().to_owned();
        let path = format!("/leases/{lease}");
        let released = send(process.addr, Method::DELETE, &path, &[], "").await;
        assert_eq!(released.status, StatusCode::NO_CONTENT);
    }
    let metrics = send(process.addr, Method::GET, "/metrics", &[], "").await;
    let all = format!("kling_balancer_event_readers {READERS}\n");
    assert!(metrics.text.contains(&all), "{}", metrics.text);
    send(process.addr, Method::POST, "/accounts/a@x/drain", &[], "").await;
    for reader in &mut readers {
        let told = reader.next().await.unwrap();
        assert_eq!(told.data["to"], "draining", "{told:?}");
    }
    process.signal("-TERM").await;
    assert_eq!(process.end().await.0, Some(0), "nothing was cut off");
    for reader in &mut readers {
        while reader.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_up_no_shutdown() {
    let email = format!("{}@x", "a".repeat(200));
    let running = Running::configured(&[(&email, 1)], &[("SHUTDOWN__GRACE", "10m")]).await;
    let mut stuck = Reader::narrow(running.addr).await;
    // More than the system and hyper keep.
    let times = (send_buffer_max() + 1024 * KIB) / 1024;
    toggle(running.addr, &email, times).await;
    running.shutdown.cancel();
    within(running.task).await.unwrap().unwrap();
    let mut byte = [0];
    while stuck
        .stream()
        .read(&mut byte)
        .await
        .is_ok_and(|count| count > 0)
    {}
}

#[tokio::test]
async fn more_readers_than_may_be_are_told_to_come_back() {
    let sim = manual(&[("a@x", 5)]).start().await.unwrap();
    let process = Process::short_of_files(&sim).await;
    let first = Reader::open(process.addr, &[("last-event-id", "0")]).await;
    let second = send(process.addr, Method::GET, "/events", &[], "").await;
    second.assert_refused(429, "queue-full");
    // Idle connections give way, and a reader is none.
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(process.addr).await.unwrap());
        let alive = send(process.addr, Method::GET, "/livez", &[], "").await;
        assert_eq!(alive.status, StatusCode::OK);
    }
    let mut first = first;
    send(process.addr, Method::POST, "/accounts/a@x/drain", &[], "").await;
    while first.next().await.unwrap().data["to"] != "draining" {}
    drop(first);
    eventually(async || {
        let metrics = send(process.addr, Method::GET, "/metrics", &[], "").await;
        metrics
            .text
            .contains("kling_balancer_event_readers 0\n")
            .then_some(())
    })
    .await;
    drop(Reader::open(process.addr, &[]).await);
}
