//! Large bodies and slow readers in bounded memory.
//!
//! The sidecar is a process of its own here, so that the tests measure only its memory.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use harness::within;
use kling_sim::Sim;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use super::{
    framing::{Message, answer, chunked, fine, request},
    sockets::{ANY, START, Stage, Wire},
};
use crate::program::{KEPT_MAX, Process};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

async fn sim() -> Sim {
    Sim::builder().account("a@x", 50).start().await.unwrap()
}

#[tokio::test]
async fn a_large_upload_passes_in_little_memory() {
    const BYTES: usize = 100_000_000;
    const GROWTH_MAX: usize = 16 * MIB;
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let before = process.memory("VmRSS");
    let length = format!("content-length: {BYTES}");
    let call = request(
        "POST /v1/kling/assets?name=large.mp4",
        &["content-type: video/mp4", &length],
        "",
    );
    let mut client = Wire::connect(process.addr).await;
    client.send(call).await;
    let piece = vec![b'x'; BYTES / 1000];
    for _ in 0..1000 {
        client.send(&piece).await;
    }
    let told = client.message().await;
    assert_eq!(told.status(), 200, "{told:?}");
    let seen = sim.requests();
    let upload = seen.iter().find(|seen| seen.head.path.ends_with("/assets"));
    let upload = upload.unwrap();
    assert_eq!(
        (upload.byte_count, upload.is_complete),
        (BYTES as u64, true)
    );
    let growth = process.memory("VmHWM") - before;
    assert!(growth < GROWTH_MAX, "{} KiB", growth / KIB);
}

/// A socket with small buffers, so that bytes on their way are in the sidecar, not in the system.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket
}

/// Plays an upstream that sends `answer` to every request.
async fn generous(listener: TcpListener, answer: Arc<[u8]>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut wire = Wire::new(stream);
            wire.message().await;
            wire.send_patiently(answer).await;
        });
    }
}

#[tokio::test]
async fn slow_readers_of_large_answers_take_little_memory() {
    const CLIENTS: usize = 200;
    const BYTES: usize = 4 * MIB;
    // The bytes that hyper reads ahead, once in its buffer and once on their way to the other
    // connection; its write buffer, which the last piece may exceed; and two connections.
    const EACH_MAX: usize = 2 * 64 * KIB + (128 + 64) * KIB + 32 * KIB;
    let sim = sim().await;
    let listening = socket();
    listening.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = listening.listen(1024).unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let list = NamedTempFile::new().unwrap();
    std::fs::write(&list, r#"{"a@x":{"maxJobs":1}}"#).unwrap();
    let env = [
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("KLB_ACCOUNTS__FILE", list.path().to_str().unwrap()),
        ("KLB_RECONCILE__INTERVAL", "0"),
    ];
    let process = Process::start(&sim, &env).await;
    process.until_ready().await;
    let length = format!("content-length: {BYTES}");
    let lines = [length.as_str(), "connection: close"];
    let large = answer("200 OK", &lines, vec![b'x'; BYTES]);
    let upstream = tokio::spawn(generous(listener, large.into()));

    let before = process.memory("VmRSS");
    let call = request(&format!("GET {ANY}"), &[], "");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let stream = within(socket().connect(process.addr)).await.unwrap();
        let mut client = Wire::new(stream);
        client.send(&call).await;
        clients.push(client);
    }
    for client in &mut clients {
        let told = client.head().await;
        assert!(told.is("content-length", &BYTES.to_string()), "{told:?}");
    }
    // Some clients read, one after the other, while all others stand still.
    for client in clients.iter_mut().step_by(4) {
        assert!(client.take(BYTES).await == vec![b'x'; BYTES]);
    }
    let growth = process.memory("VmHWM") - before;
    assert!(growth < CLIENTS * EACH_MAX, "{} KiB", growth / KIB);
    upstream.abort();
}

/// The head of a job start of `bytes` bytes that asks before it sends its body.
fn asking(bytes: usize) -> Vec<u8> {
    let length = format!("content-length: {bytes}");
    let lines = [
        "content-type: application/json",
        "expect: 100-continue",
        &length,
    ];
    request(&format!("POST {START}"), &lines, "")
}

/// A job start of a certain size.
fn prompt(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"prompt":""#.to_vec();
    body.resize(bytes - 2, b'x');
    body.extend(b"\"}");
    body
}

const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Sends a whole job start of a certain size.
async fn start(addr: SocketAddr, bytes: usize) -> Wire {
    let mut client = Wire::connect(addr).await;
    client.send(asking(bytes)).await;
    client.send(prompt(bytes)).await;
    client
}

/// Sends what there is no memory for. A client that is refused may not take all of it.
async fn assert_full(addr: SocketAddr, head: impl AsRef<[u8]>, body: Vec<u8>) -> Message {
    let mut client = Wire::connect(addr).await;
    client.send(head).await;
    // A client that is refused may find that its last bytes are not taken.
    let _taken = client.try_send(body).await;
    let mut told = client.message().await;
    if told.status() == 100 {
        told = client.message().await;
    }
    told.assert_refused(429, "queue-full");
    assert!(told.is("retry-after", "1"), "{told:?}");
    told
}

#[tokio::test]
async fn bodies_that_are_read_whole_share_a_bounded_memory() {
    let limits = [
        ("FORWARD__BODY_MAX", "1MiB"),
        ("FORWARD__BUFFER_TOTAL", "1MiB"),
    ];
    let stage = Stage::with(&limits).await;
    let addr = stage.running.addr;
    let mut first = start(addr, 700 * KIB).await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    assert_full(addr, asking(400 * KIB), prompt(400 * KIB)).await;
    // The sidecar counts a body whose length is not announced.
    let lines = ["transfer-encoding: chunked"];
    let body = chunked(&["x".repeat(400 * KIB).as_str()], &[]);
    assert_full(addr, request(&format!("POST {START}"), &lines, ""), body).await;
    // Small bodies have memory of their own.
    let mut small = start(addr, 60 * KIB).await;
    let mut other = stage.upstream().await;
    other.message().await;
    let told = assert_full(addr, asking(60 * KIB), prompt(60 * KIB)).await;
    // A client that asks first was not told to go on: what comes next may be the body.
    assert!(told.is("connection", "close"), "{told:?}");
    for (client, mut upstream) in [(&mut first, upstream), (&mut small, other)] {
        upstream.send(fine()).await;
        assert_eq!(client.take(GO_ON.len()).await, GO_ON);
        assert_eq!(client.message().await.content, b"{}");
    }
    has_room(&stage, 1024 * KIB).await;
}

/// Waits until a body of this size has room, and is sent.
async fn has_room(stage: &Stage, bytes: usize) {
    let mut client = Wire::connect(stage.running.addr).await;
    let length = format!("content-length: {bytes}");
    let lines = [
        "content-type: application/json",
        "x-kling-wait: 5m",
        &length,
    ];
    client
        .send(request(&format!("POST {START}"), &lines, ""))
        .await;
    client.send(prompt(bytes)).await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    upstream.send(fine()).await;
    assert_eq!(client.message().await.content, b"{}");
}

#[tokio::test]
async fn bodies_that_are_announced_and_do_not_come_hold_no_memory() {
    let stage = Stage::new().await;
    let addr = stage.running.addr;
    // As many as would fill all memory, if they came.
    let mut silent = Vec::new();
    for _ in 0..16 {
        let mut client = Wire::connect(addr).await;
        client.send(asking(16 * MIB)).await;
        assert_eq!(client.take(GO_ON.len()).await, GO_ON);
        silent.push(client);
    }
    has_room(&stage, 16 * MIB).await;
}

#[tokio::test]
async fn a_body_that_is_not_taken_leaves_its_memory_once_it_is_answered() {
    // The body exceeds all buffers of a connection on this machine.
    const BYTES: usize = 16 * MIB;
    let stage = Stage::with(&[("FORWARD__BUFFER_TOTAL", "16MiB")]).await;
    let addr = stage.running.addr;
    let mut client = start(addr, BYTES).await;
    let mut upstream = stage.upstream().await;
    upstream.head().await;
    assert_full(addr, asking(BYTES), prompt(BYTES)).await;
    upstream.send(fine()).await;
    assert_eq!(client.take(GO_ON.len()).await, GO_ON);
    assert_eq!(client.message().await.content, b"{}");
    // The upstream has not closed its connection, and reads no more of the body.
    has_room(&stage, BYTES).await;
    upstream.ended().await;
}

/// The default of `forward.buffer_total`.
const BUFFER_TOTAL: usize = 256 * MIB;
/// The environment variable that says how many bodies are sent, if not 64.
const BODIES: &str = "KLB_TEST_BODIES";

#[tokio::test]
async fn large_bodies_take_the_memory_they_are_given_and_give_it_back() {
    const CLIENTS: usize = 32;
    // With the e-mail, as much as the simulator takes.
    const BYTES: usize = 16 * MIB - KIB;
    let bodies = match env::var(BODIES) {
        Ok(count) => count.parse().unwrap(),
        Err(_) => 2 * CLIENTS,
    };
    let sim = sim().await;
    let process = Process::start(&sim, &[("KLB_FORWARD__WAIT", "5m")]).await;
    process.until_ready().await;
    let length = format!("content-length: {BYTES}");
    let lines = [
        "content-type: application/json",
        "connection: close",
        &length,
    ];
    let call = request(&format!("POST {START}"), &lines, prompt(BYTES));
    let call = Arc::<[u8]>::from(call);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (addr, call) = (process.addr, Arc::clone(&call));
        clients.spawn(async move {
            for _ in 0..bodies.div_ceil(CLIENTS) {
                let mut client = TcpStream::connect(addr).await.unwrap();
                client.write_all(&call).await.unwrap();
                let mut told = String::new();
                client.read_to_string(&mut told).await.unwrap();
                assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
            }
        });
    }
    clients.join_all().await;
    assert!(sim.audit().submission_count >= bodies as u64);
    let peak = process.memory("VmHWM") - process.memory("RssFile");
    assert!(peak < KEPT_MAX + BUFFER_TOTAL, "{} KiB", peak / KIB);
    process.until_memory_below(KEPT_MAX).await;
}
