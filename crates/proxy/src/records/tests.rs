//! Records without their clients: what becomes of those that wait for one.

use std::{
    net::{TcpListener, TcpStream},
    sync::LazyLock,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Handle, Runtime},
    time::{advance, sleep},
};

use super::{
    answered::{ANSWERED_FOR, ANSWERED_MAX, Answered},
    *,
};
use crate::{
    error::Error,
    peer::Client,
    pool::{Body, Fingerprint, LeaseId, OperationName},
};

mod storing;

/// A client that is there. All calls come from it.
fn client() -> Client {
    static STAGE: LazyLock<(Runtime, TcpListener, Client)> = LazyLock::new(|| {
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        let context = runtime.enter();
        let client = Client::new(tokio::net::TcpStream::from_std(stream).unwrap(), addr);
        drop(context);
        (runtime, listener, client)
    });
    STAGE.2.clone()
}

fn records() -> Arc<JobRecords> {
    let metrics = Arc::new(Metrics::new().unwrap());
    JobRecords::new(Duration::from_secs(600), metrics, Events::default())
}

/// A start that has twins, unless `fingerprint` is `None`.
pub(crate) fn arrival(fingerprint: Option<u64>) -> Arrival {
    let operation: OperationName = "/videos/text2video".into();
    let body = Body {
        operation: Arc::clone(&operation),
        fingerprint: Fingerprint::of([fingerprint.unwrap_or_default().to_le_bytes()]),
        prompt: None,
    };
    Arrival {
        request_id: "r".into(),
        key: None,
        client_name: None,
        claim: None,
        twin: fingerprint.map(|_| Twin {
            scope: "".into(),
            ip: None,
            operation,
            fingerprint: body.fingerprint,
        }),
        body,
        client: client(),
    }
}

fn enter(records: &Arc<JobRecords>, fingerprint: Option<u64>) -> Delivery {
    match records.enter(&arrival(fingerprint), true) {
        Entered::New(delivery) => delivery,
        other @ (Entered::Twin(_) | Entered::InDoubt | Entered::Beside | Entered::Overtaken) => {
            panic!("{other:?}")
        }
    }
}

fn promised(records: &Arc<JobRecords>, fingerprint: u64) -> Promise {
    match records.enter(&arrival(Some(fingerprint)), true) {
        Entered::Twin(promise) => promise,
        other @ (Entered::New(_) | Entered::InDoubt | Entered::Beside | Entered::Overtaken) => {
            panic!("{other:?}")
        }
    }
}

/// A start that is under way and whose client has left.
fn abandoned(records: &Arc<JobRecords>, fingerprint: u64) -> UnderWay {
    let delivery = enter(records, Some(fingerprint));
    records.submit(delivery.id())
}

fn accepted(task_id: &str) -> Fate {
    let lease = Some(LeaseId::random(&mut rand::rng()));
    let outcome = Outcome::Accepted(task_id.parse().unwrap());
    Fate {
        lease,
        ..Fate::of(outcome)
    }
}

#[test]
fn nobody_waits_for_a_submission_that_a_bug_has_ended() {
    let records = records();
    let under_way = abandoned(&records, 1);
    let promise = promised(&records, 1);
    assert!(!promise.is_settled());
    drop(under_way);
    assert!(promise.is_settled());
    let record = records.get(promise.delivery.id()).unwrap();
    assert_eq!(record.outcome, Outcome::Uncertain(Error::OutcomeUnknown));
}

#[test]
fn nobody_waits_for_a_record_that_has_made_room() {
    let records = records();
    let _under_way = abandoned(&records, 1);
    let promise = promised(&records, 1);
    let others: Vec<_> = (0..RECORDS_MAX).map(|_| enter(&records, None)).collect();
    assert!(records.get(promise.delivery.id()).is_none());
    assert!(promise.is_settled());
    assert_eq!(records.all().len(), others.len());
}

#[test]
fn a_lost_answer_is_found_behind_others_that_are_over() {
    let records = records();
    for _ in 0..9 {
        let delivery = enter(&records, Some(1));
        records
            .submit(delivery.id())
            .settle(Fate::of(Outcome::Refused("full")));
    }
    abandoned(&records, 1).settle(accepted("7"));
    let record = records.get(promised(&records, 1).delivery.id()).unwrap();
    assert_eq!(record.task_id(), Some(&"7".parse().unwrap()));
}

#[test]
fn a_job_that_has_failed_is_delivered_to_nobody_though_two_records_name_it() {
    let records = records();
    abandoned(&records, 1).settle(accepted("7"));
    abandoned(&records, 2).settle(accepted("7"));
    let promise = promised(&records, 1);
    records.note_failed(promise.delivery.id());
    drop(promise);
    enter(&records, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_as_missed_until_it_is_of_no_use_or_too_old() {
    let records = records();
    for fingerprint in 1..=3 {
        abandoned(&records, fingerprint).settle(accepted(&fingerprint.to_string()));
    }
    assert_eq!(records.missed_count(), 3);
    let failed = promised(&records, 2);
    records.note_failed(failed.delivery.id());
    assert_eq!(records.missed_count(), 2);
    advance(records.redeliver - Duration::from_nanos(1)).await;
    assert_eq!(records.missed_count(), 2);
    advance(Duration::from_nanos(1)).await;
    assert_eq!(records.missed_count(), 0);
}

#[test]
fn an_answer_that_no_call_can_ask_for_is_not_kept() {
    let records = records();
    for (fingerprint, is_kept) in [(None, false), (Some(1), true)] {
        let delivery = enter(&records, fingerprint);
        let fate = accepted("7");
        let lease = fate.lease.unwrap();
        records.answers.keep(lease, &http::HeaderMap::new(), b"{}");
        records.submit(delivery.id()).settle(fate);
        assert_eq!(records.answers.get(lease).is_some(), is_kept);
    }
}

/// A client, and its end of the connection.
async fn connected() -> (Client, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (theirs, ours) = tokio::join!(theirs, listener.accept());
    let (stream, addr) = ours.unwrap();
    (Client::new(stream, addr), theirs.unwrap())
}

/// A job start that was accepted, its answer up to the moment at which hyper has taken it, and its client's end.
async fn taken(records: &Arc<JobRecords>) -> (Client, tokio::net::TcpStream) {
    let (client, theirs) = connected().await;
    let arrival = Arrival {
        client: client.clone(),
        ..arrival(Some(1))
    };
    let Entered::New(delivery) = records.enter(&arrival, true) else {
        panic!("there is no other start");
    };
    records.submit(delivery.id()).settle(accepted("7"));
    let body = delivery.of(Full::new(Bytes::from_static(b"{}")));
    body.collect().await.unwrap();
    (client, theirs)
}

#[tokio::test]
async fn an_answer_is_in_doubt_while_it_may_meet_a_client_that_has_left() {
    let records = records();
    let (client, theirs) = taken(&records).await;
    drop(theirs);
    // The end of the client has come, the answer has not been written: no reset is on its way yet.
    assert!(!client.is_reset());
    let arrival = arrival(Some(1));
    assert!(matches!(records.enter(&arrival, true), Entered::InDoubt));
    let mut socket = client.socket();
    socket.write_all(b"{}").await.unwrap();
    while !client.is_reset() {
        assert!(matches!(records.enter(&arrival, true), Entered::InDoubt));
    }
    promised(&records, 1);
}

#[tokio::test]
async fn a_client_that_leaves_with_its_answer_leaves_no_doubt() {
    let records = records();
    let (client, mut theirs) = taken(&records).await;
    // It is there: an equal start beside it is one of its own.
    drop(enter(&records, Some(1)));
    let mut socket = client.socket();
    socket.write_all(b"{}").await.unwrap();
    socket.flush().await.unwrap();
    theirs.read_exact(&mut [0; 2]).await.unwrap();
    drop(theirs);
    while !client.is_gone() {}
    enter(&records, Some(1));
}

#[tokio::test]
async fn a_start_beside_an_equal_one_waits_a_moment_for_the_end_of_its_client() {
    let records = records();
    let (client, _theirs) = taken(&records).await;
    let other = arrival(Some(1));
    assert!(matches!(records.enter(&other, false), Entered::Beside));
    drop(records.enter(&other, true));
    // On the same connection it comes from a client that is there.
    let same = Arrival { client, ..other };
    assert!(matches!(records.enter(&same, false), Entered::New(_)));
}

#[tokio::test]
async fn a_start_that_was_given_up_is_no_job_behind_the_answer_to_its_repetition() {
    let records = records();
    let (late, given_up) = connected().await;
    drop(given_up);
    while !late.is_gone() {}
    let (_client, _theirs) = taken(&records).await;
    records.note_polled(&"7".parse().unwrap(), "", None);
    let arrives = |client: &Client, fingerprint| {
        let client = client.clone();
        let arrival = Arrival {
            client,
            ..arrival(Some(fingerprint))
        };
        records.enter(&arrival, true)
    };
    assert!(matches!(arrives(&late, 1), Entered::Overtaken));
    assert!(matches!(arrives(&late, 2), Entered::New(_)), "another one");
    // This one came after the answer: its client may have said all that it has to say.
    let (later, theirs) = connected().await;
    drop(theirs);
    while !later.is_gone() {}
    assert!(matches!(arrives(&later, 1), Entered::New(_)));
}

#[tokio::test(start_paused = true)]
async fn answered_starts_are_remembered_for_a_while_and_so_many() {
    let mut answered = Answered::default();
    let twin = |fingerprint| arrival(Some(fingerprint)).twin.unwrap();
    let begun = Instant::now();
    answered.note(&twin(1), begun);
    advance(ANSWERED_FOR / 2).await;
    answered.note(&twin(1), Instant::now());
    advance(ANSWERED_FOR / 2).await;
    answered.note(&twin(2), Instant::now());
    assert!(answered.is_newer(&twin(1), begun) && answered.len() == 2);
    advance(ANSWERED_FOR / 2).await;
    answered.note(&twin(2), Instant::now());
    assert!(!answered.is_newer(&twin(1), begun) && answered.len() == 2);
    for fingerprint in 0..2 * ANSWERED_MAX as u64 {
        answered.note(&twin(fingerprint), Instant::now());
    }
    assert_eq!(answered.len(), ANSWERED_MAX);
}

/// Whether it is known that the client of the first record has its answer.
fn is_received(records: &Arc<JobRecords>) -> bool {
    let record = records.get(0).unwrap();
    matches!(record.delivery, State::UsedUp)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_next_call_has_its_answer() {
    let records = records();
    let (client, mut theirs) = taken(&records).await;
    let mut socket = client.socket();
    socket.flush().await.unwrap();
    theirs.write_all(b"?").await.unwrap();
    socket.read_u8().await.unwrap();
    assert!(!is_received(&records));
    sleep(receipts::LOOK_PAUSE).await;
    yield_now().await;
    assert!(is_received(&records));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_reset_within_a_second_has_its_answer() {
    let records = records();
    let (client, _theirs) = taken(&records).await;
    client.socket().flush().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    yield_now().await;
    assert!(!is_received(&records));
    sleep(2 * receipts::LOOK_PAUSE).await;
    assert!(is_received(&records));
    assert!(receipts::LOOK_PAUSE * (receipts::LOOKS - 1) >= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn one_task_watches_all_answers_and_ends_with_the_last_one() {
    let records = records();
    let clients = [
        taken(&records).await,
        taken(&records).await,
        taken(&records).await,
    ];
    let tasks = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tasks(), 0);
    drop(clients);
}
