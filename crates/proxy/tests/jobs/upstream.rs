//! How requests go upstream, and how they fail.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use bytes::Bytes;
use harness::{
    PATIENCE, manual,
    rounds::{client, settings},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use kling_sim::{DEFAULT_TOKEN, Effect, Fault};
use proxy::upstream::{
    AskError, FAILURES_MAX, IdleError, SendError, Target, Traffic, Upstream, UpstreamError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Interval, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;

const START: &str = "/videos/text2video";
/// Short: a test waits for it to pass.
const SHORT: Duration = Duration::from_millis(100);

async fn get(upstream: &Upstream, path: &str) -> Result<StatusCode, SendError> {
    let response = upstream.send(
        Traffic::Other,
        Method::GET,
        path,
        HeaderMap::new(),
        Empty::new(),
    );
    let response = response.await?;
    let status = response.status();
    response.into_body().collect().await.unwrap();
    Ok(status)
}

async fn submit(upstream: &Upstream) -> Result<StatusCode, SendError> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let body = Full::new(Bytes::from_static(br#"{"email":"a@x","prompt":"a cat"}"#));
    let response = upstream
        .send(Traffic::JobStart, Method::POST, START, headers, body)
        .await?;
    Ok(response.status())
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (listener, addr)
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let (listener, addr) = listener().await;
    drop(listener);
    let upstream = client(settings(&format!("http://{addr}/v1"), "t"));
    let error = get(&upstream, "/accounts").await.unwrap_err();
    assert!(matches!(error, SendError::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn a_tls_handshake_that_fails_or_stalls_sent_nothing() {
    let (listener, addr) = listener().await;
    let mut settings = settings(&format!("https://{addr}/v1"), "t");
    settings.connect_timeout = SHORT;
    let upstream = client(settings);
    // The kernel accepts the connection, but no TLS handshake follows.
    let sent = timeout(PATIENCE / 2, submit(&upstream)).await;
    let error = sent.expect("it stalls for ever").unwrap_err();
    assert!(matches!(error, SendError::NotSent(_)), "{error:?}");
    let _answering = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 no TLS\r\n\r\n").await.ok();
        }
    });
    let error = submit(&upstream).await.unwrap_err();
    assert!(matches!(error, SendError::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn after_three_failed_connections_none_is_waited_for() {
    let (listener, addr) = listener().await;
    let (count, accepted) = watch::channel(0);
    // The server closes each connection without a handshake.
    let _refusing = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            count.send_modify(|count| *count += 1);
        }
    }));
    let upstream = client(settings(&format!("https://{addr}/v1"), "t"));
    for failed in 0..FAILURES_MAX {
        assert!(upstream.is_reachable(), "after {failed}");
        let error = submit(&upstream).await.unwrap_err();
        assert!(matches!(error, SendError::NotSent(_)), "{error:?}");
    }
    assert!(!upstream.is_reachable());
    for _ in 0..100 {
        let error = submit(&upstream).await.unwrap_err();
        assert!(matches!(error, SendError::NotSent(_)), "{error:?}");
    }
    let tried = *accepted.borrow();
    assert!(
        tried < FAILURES_MAX + 10,
        "{tried} connections for 103 calls"
    );
}

#[tokio::test]
async fn an_upstream_that_is_back_is_found_in_the_background() {
    let (listener, addr) = listener().await;
    drop(listener);
    let upstream = client(settings(&format!("http://{addr}/v1/kling"), DEFAULT_TOKEN));
    for _ in 0..FAILURES_MAX {
        submit(&upstream).await.unwrap_err();
    }
    assert!(!upstream.is_reachable());
    let sim = manual(&[("a@x", 3)]).listen(addr.parse().unwrap());
    let sim = sim.start().await.unwrap();
    let back = async {
        while !upstream.is_reachable() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, back).await.unwrap();
    assert_eq!(sim.requests().len(), 0, "nothing was sent to find out");
    assert_eq!(submit(&upstream).await.unwrap(), StatusCode::OK);
    assert_eq!(sim.audit().submission_count, 1);
}

/// A kept connection that closes around the moment of the next request: hyper may send that one
/// again only if no byte of it was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_submission_meets_a_connection_that_closes() {
    const SUBMISSIONS: usize = 300;
    let (listener, addr) = listener().await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&taken);
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_once(stream, Arc::clone(&book)));
        }
    }));
    let upstream = client(settings(&format!("http://{addr}/v1"), "t"));
    let mut answered = Vec::new();
    for number in 0..SUBMISSIONS {
        let number = format!("<{number}>");
        let body = Full::new(Bytes::from(number.clone()));
        let (start, headers) = (Traffic::JobStart, HeaderMap::new());
        let sent = upstream.send(start, Method::POST, START, headers, body);
        sent.await.unwrap().into_body().collect().await.unwrap();
        answered.push(number);
    }
    answered.sort();
    let mut taken = taken.lock().unwrap().clone();
    taken.sort();
    assert_eq!(taken, answered, "each was sent once");
}

/// Answers one request, as if more could follow, and closes.
async fn serve_once(mut stream: TcpStream, taken: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b">") {
        let read = stream.read_buf(&mut request).await;
        if !read.is_ok_and(|read| read > 0) {
            return;
        }
    }
    let text = String::from_utf8(request).unwrap();
    let number = text[text.find('<').unwrap()..].to_owned();
    taken.lock().unwrap().push(number);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(answer).await.ok();
}

#[tokio::test]
async fn a_reset_after_bytes_were_sent_is_a_loss_and_nothing_is_sent_again() {
    for effect in [Effect::ResetBefore, Effect::ResetAfter] {
        for is_reused in [false, true] {
            let sim = manual(&[("a@x", 3)]).start().await.unwrap();
            let upstream = client(settings(&sim.base_url(), sim.token()));
            if is_reused {
                assert_eq!(get(&upstream, "/accounts").await.unwrap(), StatusCode::OK);
            }
            sim.fault(Fault::new(effect.clone()).on("POST", START));
            let error = submit(&upstream).await.unwrap_err();
            assert!(matches!(error, SendError::Lost(_)), "{effect:?}: {error:?}");
            assert_eq!(sim.audit().submission_count, 1, "{effect:?}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up_in_time() {
    let sim = manual(&[("a@x", 3)]).start().await.unwrap();
    let mut settings = settings(&sim.base_url(), sim.token());
    settings.request_timeout = SHORT;
    let upstream = client(settings);
    for effect in [Effect::StallBefore, Effect::StallAfter] {
        sim.fault(Fault::new(effect).on("POST", START).times(1));
        let error = submit(&upstream).await.unwrap_err();
        assert!(matches!(error, SendError::TimedOut(SHORT)), "{error:?}");
    }
    assert_eq!(submit(&upstream).await.unwrap(), StatusCode::OK);
    assert_eq!(sim.audit().submission_count, 3);
}

/// A job start that sends one piece with each tick.
struct Pieces {
    ticks: Interval,
    left: vec::IntoIter<&'static str>,
}

impl Pieces {
    fn every(pause: Duration) -> Self {
        let pieces = [r#"{"email":"a@x","#, r#""prompt":"#, r#""a cat""#, "}"];
        Self {
            ticks: interval(pause),
            left: Vec::from(pieces).into_iter(),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(cx));
        let piece = self.left.next();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}

#[tokio::test]
async fn a_request_that_moves_is_not_late_and_one_that_stands_still_is() {
    let sim = manual(&[("a@x", 3)]).start().await.unwrap();
    let mut settings = settings(&sim.base_url(), sim.token());
    settings.request_timeout = 10 * SHORT;
    let upstream = client(settings);
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let send = async |pause| {
        let (headers, body) = (headers.clone(), Pieces::every(pause));
        let sent = upstream
            .send(Traffic::JobStart, Method::POST, START, headers, body)
            .await;
        sent.map(|response| response.status())
    };
    // The whole request takes longer than the timeout.
    assert_eq!(send(4 * SHORT).await.unwrap(), StatusCode::OK);
    let error = send(PATIENCE).await.unwrap_err();
    assert!(matches!(error, SendError::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn the_target_is_the_base_url_whatever_the_request_says() {
    let (listener, addr) = listener().await;
    let upstream = client(settings(
        &format!("http://{addr}/v1/kling/"),
        "secret-token",
    ));
    let path = "/tasks/1?email=a%2Bb+c@x&x=%zz&&y=/../?";
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("elsewhere"));
    headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer 1"));
    headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer 2"));
    let seen = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        let answer = b"HTTP/1.1 302 x\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(seen).unwrap()
    };
    let sent = upstream.send(Traffic::Other, Method::GET, path, headers, Empty::new());
    let (seen, answer) = tokio::join!(seen, sent);
    assert_eq!(answer.unwrap().status(), StatusCode::FOUND, "not followed");
    let (line, rest) = seen.split_once("\r\n").unwrap();
    assert_eq!(line, format!("GET /v1/kling{path} HTTP/1.1"));
    let mut headers: Vec<_> = rest.lines().filter(|line| !line.is_empty()).collect();
    headers.sort_unstable();
    let host = format!("host: {addr}");
    assert_eq!(headers, ["authorization: Bearer secret-token", &host]);
    assert!(!format!("{upstream:?}").contains("secret"));
}

#[tokio::test]
async fn a_target_goes_as_it_is_wherever_it_came_to_us() {
    const TEXT: &str = "/accounts?x=%20";
    let sim = manual(&[]).start().await.unwrap();
    let upstream = client(settings(&sim.base_url(), sim.token()));
    for came in [
        "/v1/kling/accounts?x=%20",
        "/accounts?x=%20",
        "/v1/kling/accounts?x=+",
        "/v1/kling/elsewhere",
        "//v1/kling/accounts?x=%20",
    ] {
        let came = came.parse().unwrap();
        let target = Target {
            text: TEXT,
            came: Some(&came),
        };
        let headers = HeaderMap::new();
        let sent = upstream.send(Traffic::Other, Method::GET, target, headers, Empty::new());
        sent.await.unwrap();
    }
    let seen = sim.requests();
    assert_eq!(seen.len(), 5);
    for request in seen {
        let head = &request.head;
        let query = head.query.as_deref();
        assert_eq!((&*head.path, query), ("/v1/kling/accounts", Some("x=%20")));
    }
}

#[tokio::test]
async fn a_target_that_is_no_path_is_not_sent() {
    let sim = manual(&[]).start().await.unwrap();
    let upstream = client(settings(&sim.base_url(), sim.token()));
    for target in [
        "http://elsewhere/",
        "accounts",
        "",
        "?x",
        "*",
        "/a b",
        "@h/",
    ] {
        let error = get(&upstream, target).await.unwrap_err();
        assert!(matches!(error, SendError::NotSent(_)), "{target}");
    }
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn settings_that_can_make_no_request_are_refused() {
    let error = |base_url| {
        let settings = settings(base_url, "t");
        let tls = accounts_fetcher::tls_client_config(&settings.base_url, &[]).unwrap();
        Upstream::new(settings, tls).err()
    };
    assert_eq!(error("/v1/kling"), Some(UpstreamError::RelativeUrl));
    assert_eq!(error("http://h/v1"), None);
}

#[tokio::test]
async fn a_body_is_read_whole_or_not_at_all() {
    let sim = manual(&[("a@x", 3)]).start().await.unwrap();
    let mut settings = settings(&sim.base_url(), sim.token());
    settings.idle_timeout = SHORT;
    let upstream = client(settings);
    let read = async |max| {
        let (_, body) = upstream.ask(Traffic::Question, "/accounts", max).await?;
        Ok::<_, AskError>(body)
    };
    let size = read(1 << 20).await.unwrap().len();
    assert_eq!(read(size).await.unwrap().len(), size);
    let error = read(size - 1).await.unwrap_err();
    assert!(matches!(error, AskError::TooLarge(_)), "{error:?}");
    sim.fault(Fault::new(Effect::TruncateAfter).times(1));
    let error = read(size).await.unwrap_err();
    assert!(
        matches!(error, AskError::Incomplete(IdleError::Broken(_))),
        "{error:?}"
    );
    sim.fault(Fault::new(Effect::Drip(Duration::from_secs(60))).times(1));
    let error = read(size).await.unwrap_err();
    assert!(
        matches!(error, AskError::Incomplete(IdleError::Stalled(SHORT))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_question_is_answered_whatever_else_the_head_says() {
    let (listener, addr) = listener().await;
    let upstream = client(settings(&format!("http://{addr}/v1"), "t"));
    for line in [
        "X-Foo[bar]: 1",
        "X-Foo : 1",
        "X-Foo: 1\r\n  2",
        ": 1",
        "Content-Length : 2",
    ] {
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{line}\r\n\r\n");
            stream
                .write_all(format!("{head}{{}}").as_bytes())
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(
            upstream.ask(Traffic::Round, "/scheduler/available", 100),
            answering
        );
        assert_eq!(answer.unwrap(), (StatusCode::OK, "{}".into()), "{line}");
    }
}
