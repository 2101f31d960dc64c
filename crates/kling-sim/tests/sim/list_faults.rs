//! Each fault of `GET /accounts`, as a client without an HTTP library sees it.

use std::{
    io::{ErrorKind, Read},
    time::Duration,
};

use kling_sim::{ListAnswer, ListFault, ListRequests, Sim};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};

use crate::client::{Answer, get, open};

/// Long enough for loopback to deliver what was sent, short enough to wait for nothing.
const SILENCE: Duration = Duration::from_millis(50);

async fn sim() -> Sim {
    Sim::builder()
        .account("a@x", 3)
        .account("b@x", 5)
        .start()
        .await
        .unwrap()
}

/// Asks for the list once under `fault`, and checks that the true list comes back after it.
async fn list_under(fault: ListFault) -> Answer {
    let sim = sim().await;
    sim.list_fault(fault);
    let answer = get(&sim, "/accounts").await;
    sim.clear_list_fault();
    assert_eq!(get(&sim, "/accounts").await.json()["b@x"]["maxJobs"], 5);
    answer
}

#[tokio::test]
async fn statuses_come_with_their_headers_and_bodies() {
    let answer = list_under(ListFault::status(503)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, None));
    assert_eq!(
        answer.json(),
        json!({"error": "Service Unavailable", "code": 503})
    );

    let answer = list_under(ListFault::status_retry_after(429, "7")).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );

    let status = http::StatusCode::BAD_GATEWAY;
    let body = Some("<html>".to_owned());
    let answer = list_under(ListFault::Status {
        status,
        retry_after: None,
        body,
    })
    .await;
    assert_eq!((answer.status, answer.text()), (502, "<html>"));
}

#[tokio::test]
async fn documented_refusals_look_like_the_true_ones() {
    let answer = list_under(ListFault::Unauthorized).await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!(401)));
    let answer = list_under(ListFault::NotConfigured).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().starts_with("Configuration not found."));
}

#[tokio::test]
async fn bodies_are_sent_as_they_are() {
    let answer = list_under(ListFault::Body("{\"a\u{0}\":NaN".to_owned())).await;
    assert_eq!((answer.status, answer.text()), (200, "{\"a\u{0}\":NaN"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = list_under(ListFault::Html).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/html"))
    );
    assert!(answer.text().starts_with("<html>"));
}

#[tokio::test]
async fn a_redirect_names_its_target() {
    let answer = list_under(ListFault::redirect("http://127.0.0.1:1/stolen")).await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("http://127.0.0.1:1/stolen"));
}

#[tokio::test]
async fn a_truncated_list_is_half_of_what_its_head_announces() {
    let answer = list_under(ListFault::Truncated).await;
    assert_eq!((answer.status, answer.error), (200, None));
    assert_eq!(answer.body.len(), answer.content_length() / 2);
    assert!(answer.body.starts_with(b"{\"a@x\""));
}

#[tokio::test]
async fn a_reset_ends_the_connection_with_an_error() {
    let answer = list_under(ListFault::Reset).await;
    assert_eq!(
        (answer.status, answer.error),
        (200, Some(ErrorKind::ConnectionReset))
    );
    assert!(answer.body.len() < answer.content_length());
}

/// How much of the body has arrived so far.
fn body_bytes(wire: &[u8]) -> usize {
    let head = wire.windows(4).position(|four| four == b"\r\n\r\n");
    head.map_or(0, |end| wire.len() - end - 4)
}

#[tokio::test]
async fn a_stalled_list_stays_silent_until_the_simulator_ends() {
    let sim = sim().await;
    let half = get(&sim, "/accounts").await.content_length() / 2;
    sim.list_fault(ListFault::Stalled);
    let mut stream = open(&sim, "GET", "/accounts", "").await;
    let mut wire = Vec::new();
    while body_bytes(&wire) < half {
        assert_ne!(
            stream.read_buf(&mut wire).await.unwrap(),
            0,
            "closed too early"
        );
    }
    timeout(SILENCE, stream.read_buf(&mut wire))
        .await
        .expect_err("still open and silent");
    let answer = Answer::parse(&wire, None);
    assert_eq!(
        (answer.body.len(), answer.content_length() / 2),
        (half, half)
    );
    sim.shutdown().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_drip_takes_an_interval_for_each_byte() {
    const INTERVAL: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let answer = list_under(ListFault::Drip(INTERVAL)).await;
    assert_eq!(answer.json()["a@x"]["maxJobs"], 3);
    let pauses = u32::try_from(answer.body.len() - 1).unwrap();
    assert!(begun.elapsed() >= INTERVAL * pauses);
}

#[tokio::test]
async fn a_huge_list_is_streamed_to_its_end() {
    let answer = list_under(ListFault::Huge(3_000_000)).await;
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.body.len() > 3_000_000);
    assert!(answer.body.ends_with(b"}\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_gzip_bomb_is_small_on_the_wire_and_large_inside() {
    let answer = list_under(ListFault::GzipBomb).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < 1024 * 1024);
    let (_, first_chunk) = answer
        .body
        .split_at(answer.body.iter().position(|&b| b == b'\n').unwrap());
    let mut head = [0; 3];
    flate2::read::GzDecoder::new(&first_chunk[1..])
        .read_exact(&mut head)
        .unwrap();
    assert_eq!(&head, b"{} ");
}

#[tokio::test]
async fn a_script_is_played_once_and_then_the_list_is_true_again() {
    let sim = sim().await;
    sim.script_list([
        ListFault::status(500).into(),
        ListAnswer::Normal,
        ListFault::Unauthorized.into(),
    ]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(&sim, "/accounts").await.status);
    }
    assert_eq!(statuses, [500, 200, 401, 200]);
    assert_eq!(sim.list_requests(), ListRequests { seen: 4, peak: 1 });
}

#[tokio::test]
async fn requests_that_overlap_are_counted_at_once() {
    let sim = sim().await;
    sim.list_fault(ListFault::Stalled);
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut stream = open(&sim, "GET", "/accounts", "").await;
        stream.read_exact(&mut [0]).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(sim.list_requests(), ListRequests { seen: 3, peak: 3 });
}
