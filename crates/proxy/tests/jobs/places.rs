//! Requests of one kind keep no other from the upstream.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    NEVER, PATIENCE, Slots, manual,
    rounds::{Bench, client, ours, settings},
    within,
};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Empty};
use proxy::upstream::{Answer, IdleError, SendError, Traffic, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// In all: four for other calls, two for questions, one each for job starts and for rounds.
const PLACES: usize = 8;
const KINDS: [(Traffic, usize); 4] = [
    (Traffic::Other, 4),
    (Traffic::JobStart, 1),
    (Traffic::Question, 2),
    (Traffic::Round, 1),
];

/// An upstream that the test plays, and its client, which waits so long for a place.
async fn stage(patience: Duration) -> (TcpListener, Arc<Upstream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut settings = settings(&url, "t");
    settings.requests_max = PLACES;
    settings.connect_timeout = patience;
    (listener, Arc::new(client(settings)))
}

async fn send(upstream: Arc<Upstream>, traffic: Traffic) -> Result<Response<Answer>, SendError> {
    let (headers, body) = (HeaderMap::new(), Empty::<Bytes>::new());
    upstream
        .send(traffic, Method::GET, "/any", headers, body)
        .await
}

/// The next request.
async fn request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    stream
}

/// Answers the next request, and does not end the answer.
async fn answered(
    listener: &TcpListener,
    sent: impl Future<Output = Result<Response<Answer>, SendError>>,
) -> (TcpStream, Answer) {
    let answering = async {
        let mut stream = request(listener).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx";
        stream.write_all(head).await.unwrap();
        stream
    };
    let (stream, answer) = tokio::join!(answering, sent);
    (stream, answer.unwrap().into_body())
}

#[tokio::test]
async fn each_kind_of_request_has_places_of_its_own() {
    let (listener, upstream) = stage(Duration::from_millis(100)).await;
    let mut unanswered = JoinSet::new();
    let mut streams = Vec::new();
    for (kind, places) in KINDS {
        for _ in 0..places {
            unanswered.spawn(send(Arc::clone(&upstream), kind));
            streams.push(request(&listener).await);
        }
        let error = send(Arc::clone(&upstream), kind).await.unwrap_err();
        assert!(matches!(error, SendError::NoPlace), "{kind:?}: {error}");
        assert!(upstream.is_reachable(), "no connection has failed");
    }
    assert_eq!(streams.len(), PLACES);
}

#[tokio::test]
async fn an_answer_that_is_not_read_gives_its_place_to_a_call_that_waits() {
    let (listener, upstream) = stage(PATIENCE).await;
    let other = || send(Arc::clone(&upstream), Traffic::Other);
    let (_first_stream, mut first) = answered(&listener, other()).await;
    let (_second_stream, mut second) = answered(&listener, other()).await;
    let mut reading = JoinSet::new();
    let mut streams = Vec::new();
    for _ in 2..4 {
        let (stream, mut answer) = answered(&listener, other()).await;
        // Its client waits for the upstream.
        reading.spawn(async move {
            answer.frame().await.unwrap().unwrap();
            answer.frame().await.unwrap()
        });
        streams.push(stream);
    }
    let (_stream, mut late) = answered(&listener, other()).await;
    let read = late.frame().await.unwrap();
    assert!(read.is_ok(), "it is read: {read:?}");
    let read = second.frame().await.unwrap();
    assert!(read.is_ok(), "one place was enough: {read:?}");
    let gave_way = first.frame().await.unwrap();
    assert!(
        matches!(gave_way, Err(IdleError::GaveWay)),
        "longest unread: {gave_way:?}"
    );
    for mut stream in streams {
        stream.write_all(b"the rest").await.unwrap();
    }
    while let Some(read) = within(reading.join_next()).await {
        assert!(read.unwrap().is_ok());
    }
}

#[tokio::test]
async fn hung_accounts_delay_no_slot_of_another() {
    let emails: Vec<_> = (0..10).map(|n| format!("{n}@x")).collect();
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 1)).collect();
    let (hung, well) = accounts.split_at(3);
    let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
    let mut rounds = Vec::new();
    for (accounts, are_hung) in [(hung, true), (well, false)] {
        for (email, _) in accounts {
            let lease = bench.pick(email).await.unwrap();
            let job = bench.submit(email).await;
            bench.bind(lease, ours(job)).await;
            bench.sim.set_account_hung(email, are_hung);
            assert!(bench.sim.finish(job));
        }
        // The jobs are not listed any more, and are asked about.
        bench.round().await;
        rounds.push(bench.counts().ok());
    }
    for (email, _) in well {
        bench.until_in_use(email, Slots::NONE).await;
    }
    for (email, _) in hung {
        assert_eq!(bench.in_use(email).await, Slots::held(1));
    }
    let after = bench.counts().ok() - rounds[1];
    let most = u64::try_from(well.len()).unwrap();
    assert!((1..=most).contains(&after), "{after} rounds");
}
