//! Which headers pass, which are removed, and which harm no header may do.

use harness::Running;
use kling_sim::Sim;

use super::{
    framing::{Message, answer, chunked, fine, request},
    sockets::{ACCOUNT, ANY, START, Stage, TASK, Wire},
};

/// All names, sorted, with repetitions.
fn names<'a>(lists: &[&[&'a str]]) -> Vec<&'a str> {
    let mut names = lists.concat();
    names.sort_unstable();
    names
}

#[track_caller]
pub(super) fn assert_ours(stage: &Stage, seen: &Message) {
    let bearer = format!("Bearer {}", stage.running.sim.token());
    assert!(seen.is("authorization", &bearer), "{seen:?}");
    assert!(seen.is("host", &stage.upstream_addr()), "{seen:?}");
}

#[tokio::test]
async fn a_request_gets_our_credential_and_nothing_else() {
    let stage = Stage::new().await;
    let lines = ["user-agent: x", "x-any: y", "content-length: 2"];
    for (first, added) in [
        (format!("POST {ANY}"), &[][..]),
        (format!("GET {ANY}"), &[]),
        (format!("GET {TASK}"), &["accept-encoding"]),
        (format!("POST {START}"), &["accept-encoding"]),
    ] {
        let (seen, _) = stage.exchange(request(&first, &lines, "{}"), fine()).await;
        let came = ["user-agent", "x-any", "content-length"];
        let wanted = names(&[&came, &["host", "authorization"], added]);
        assert_eq!(seen.names(), wanted, "{first}");
        assert_ours(&stage, &seen);
        assert!(seen.is("user-agent", "x") && seen.is("x-any", "y"));
    }
}

#[tokio::test]
async fn our_own_requests_say_what_they_are() {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let task = super::client::task_id(&super::client::start_job(&running).await);
    // Its end is asked for beside the rounds.
    assert!(running.sim.finish(task));
    super::client::until_slots(&running, "a@x", harness::Slots::NONE).await;
    let ours = format!("kling-balancer/{}", env!("CARGO_PKG_VERSION"));
    let mut asked = std::collections::BTreeSet::new();
    for seen in running.sim.requests() {
        if seen.head.method == http::Method::GET {
            assert_eq!(seen.head.headers["user-agent"], ours, "{seen:?}");
            asked.insert(seen.head.path);
        }
    }
    assert!(
        asked.len() >= 3,
        "the list, the scheduler and a task: {asked:?}"
    );
}

#[tokio::test]
async fn an_answer_gets_a_date_and_what_we_did_and_nothing_else() {
    let stage = Stage::new().await;
    let lines = ["content-length: 2", "server: x", "x-any: y"];
    for (first, added) in [
        (format!("POST {ANY}"), &["x-kling-attempts"][..]),
        (
            format!("GET {TASK}"),
            &["x-kling-attempts", "x-kling-account"],
        ),
        (
            format!("POST {START}"),
            &["x-kling-attempts", "x-kling-account"],
        ),
    ] {
        let call = request(&first, &["content-length: 2"], "{}");
        let (_, told) = stage.exchange(&call, answer("200 OK", &lines, "{}")).await;
        let came = ["content-length", "server", "x-any"];
        assert_eq!(told.names(), names(&[&came, &["date"], added]), "{first}");
        assert!(told.is("x-kling-attempts", "1"));
        assert!(!told.has("x-kling-account") || told.is("x-kling-account", ACCOUNT));

        let date = "date: Thu, 01 Jan 1970 00:00:00 GMT";
        let lines = ["content-length: 2", date];
        let (_, told) = stage.exchange(&call, answer("200 OK", &lines, "{}")).await;
        assert!(told.is("date", "Thu, 01 Jan 1970 00:00:00 GMT"), "{told:?}");
    }
}

#[tokio::test]
async fn headers_of_one_name_keep_their_order_and_values_their_bytes() {
    let stage = Stage::new().await;
    let lines = [
        "content-length: 2",
        "x-many: 2",
        "x-other: \u{e9}",
        "x-many: 1",
        "x-empty:",
        "x-many: 3,4",
        "set-cookie: a=1; HttpOnly",
        "set-cookie: b=2",
    ];
    let call = request(&format!("POST {ANY}"), &lines, "{}");
    let (asked, told) = stage.exchange(call, answer("200 OK", &lines, "{}")).await;
    for message in [asked, told] {
        assert_eq!(message.values("x-many"), ["2", "1", "3,4"]);
        assert_eq!(message.values("x-other"), ["\u{c3}\u{a9}"], "two bytes");
        assert_eq!(message.values("x-empty"), [""]);
        let cookies = message.values("set-cookie");
        assert_eq!(cookies, ["a=1; HttpOnly", "b=2"]);
    }
}

#[tokio::test]
async fn what_belongs_to_one_connection_stays_on_it() {
    let stage = Stage::new().await;
    let lines = [
        "content-length: 2",
        "connection: keep-alive, X-One",
        "keep-alive: timeout=5",
        "connection: x-two , ,,\tx-three",
        "x-one: 1",
        "x-two: 2",
        "x-three: 3",
        "x-four: 4",
        "te: trailers",
        "proxy-connection: keep-alive",
        "proxy-authenticate: Basic",
    ];
    let call = request(&format!("POST {ANY}"), &lines, "{}");
    let (asked, told) = stage.exchange(call, answer("200 OK", &lines, "{}")).await;
    let came = ["content-length", "x-four"];
    let ours = ["host", "authorization"];
    assert_eq!(asked.names(), names(&[&came, &ours]));
    assert_eq!(told.names(), names(&[&came, &["date", "x-kling-attempts"]]));
}

#[tokio::test]
async fn no_client_names_our_headers_away() {
    let stage = Stage::new().await;
    let lines = [
        "connection: authorization, host, content-length, transfer-encoding",
        "connection: accept-encoding, x-kling-account, x-kling-attempts",
        "content-length: 2",
        "accept-encoding: gzip",
    ];
    for path in [ANY, START] {
        let call = request(&format!("POST {path}"), &lines, "{}");
        let (asked, told) = stage.exchange(call, answer("200 OK", &lines, "{}")).await;
        assert_ours(&stage, &asked);
        let sent = if path == START {
            r#"{"email":"a@x"}"#
        } else {
            "{}"
        };
        for (message, content) in [(&asked, sent), (&told, "{}")] {
            let length = content.len().to_string();
            assert!(message.is("content-length", &length), "{message:?}");
            assert_eq!(message.content, content.as_bytes());
        }
        let coding: &[&str] = if path == START { &["identity"] } else { &[] };
        assert_eq!(asked.values("accept-encoding"), coding);
        assert!(told.is("x-kling-attempts", "1"));
    }
}

#[tokio::test]
async fn what_is_between_the_client_and_us_stays_here() {
    let stage = Stage::new().await;
    let lines = [
        "authorization: Bearer of-the-client",
        "cookie: a=b",
        "proxy-authorization: Basic eDp5",
        "proxy-anything: x",
        "x-kling-wait: 1s",
        "x-kling-account: b@x",
        "x-kling-anything: x",
        "x-forwarded-for: 192.0.2.1",
        "CF-Connecting-IP: 192.0.2.1",
        "x_real_ip: 192.0.2.1",
        "content-length: 2",
    ];
    for path in [ANY, START] {
        let call = request(&format!("POST {path}"), &lines, "{}");
        let (seen, _) = stage.exchange(call, fine()).await;
        assert_ours(&stage, &seen);
        let is_ours = |name: &&str| name.starts_with("proxy-") || name.starts_with("x-kling-");
        assert!(!seen.names().iter().any(is_ours), "{seen:?}");
        assert!(!seen.has("cookie") && !seen.has("via"), "{seen:?}");
        for edge in ["x-forwarded-for", "cf-connecting-ip", "x_real_ip"] {
            assert!(!seen.has(edge), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_cannot_speak_for_us() {
    let stage = Stage::new().await;
    let lines = [
        "content-length: 2",
        "x-kling-account: b@x",
        "x-kling-outcome: unknown",
        "x-kling-attempts: 9",
    ];
    let call = request(&format!("POST {START}"), &["content-length: 2"], "{}");
    let (_, told) = stage.exchange(call, answer("200 OK", &lines, "{}")).await;
    assert!(told.is("x-kling-account", ACCOUNT) && told.is("x-kling-attempts", "1"));
    assert!(!told.has("x-kling-outcome"));
}

#[tokio::test]
async fn the_coding_of_an_answer_is_the_clients_choice_unless_we_read_it() {
    let stage = Stage::new().await;
    for (first, wanted) in [
        (format!("GET {ANY}"), "gzip, br;q=0.5"),
        ("GET /v1/kling/elements/tags".to_owned(), "gzip, br;q=0.5"),
        ("GET /v1/kling/videos/effects".to_owned(), "gzip, br;q=0.5"),
        ("GET /v1/kling/videos/motions".to_owned(), "gzip, br;q=0.5"),
        ("GET /v1/kling/accounts".to_owned(), "gzip, br;q=0.5"),
        (format!("POST {START}"), "identity"),
        (format!("POST {START}/"), "identity"),
        (format!("GET {TASK}"), "identity"),
        (format!("DELETE {TASK}"), "identity"),
        ("GET /v1/kling/tasks".to_owned(), "identity"),
        ("GET /v1/kling/scheduler".to_owned(), "identity"),
        ("GET /v1/kling/elements/".to_owned(), "identity"),
        ("POST /v1/kling/avatars".to_owned(), "identity"),
        ("POST /v1/kling/assets/".to_owned(), "identity"),
        (
            "GET /v1/kling/videos/motions?x=1&mine=true".to_owned(),
            "identity",
        ),
        ("DELETE /v1/kling/scheduler/7".to_owned(), "identity"),
    ] {
        let lines = ["accept-encoding: gzip, br;q=0.5", "content-length: 2"];
        let (seen, _) = stage.exchange(request(&first, &lines, "{}"), fine()).await;
        assert!(seen.is("accept-encoding", wanted), "{first}: {seen:?}");
        let (seen, _) = stage
            .exchange(request(&first, &lines[1..], "{}"), fine())
            .await;
        assert_eq!(seen.has("accept-encoding"), wanted == "identity");
    }
}

#[tokio::test]
async fn nobody_becomes_a_tunnel() {
    let stage = Stage::new().await;
    let lines = [
        "connection: upgrade, x-key",
        "upgrade: websocket",
        "x-key: secret",
    ];
    let call = request(&format!("GET {ANY}"), &lines, "");
    let (seen, told) = stage.exchange(&call, fine()).await;
    assert_eq!(seen.names(), ["authorization", "host"]);
    assert_eq!(told.status(), 200);

    let switching = ["connection: upgrade", "upgrade: websocket"];
    for call in [
        call,
        request(&format!("POST {START}"), &["content-length: 2"], "{}"),
    ] {
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        let tunnel = answer("101 Switching Protocols", &switching, "from the tunnel");
        upstream.send(tunnel).await;
        let told = client.message().await;
        told.assert_refused(502, "outcome-unknown");
        assert!(told.is("x-kling-outcome", "unknown"));
        upstream.ended().await;
    }
}

#[tokio::test]
async fn two_lengths_never_reach_the_upstream() {
    let stage = Stage::new().await;
    let both = ["content-length: 3", "transfer-encoding: chunked"];
    let body = chunked(&["abc", "de"], &[]);
    for lines in [both, [both[1], both[0]]] {
        let call = request(&format!("POST {ANY}"), &lines, &body);
        let mut client = stage.client_sends(call).await;
        let refused = async {
            let told = client.message().await;
            assert_eq!(told.status(), 400);
        };
        let carried = async {
            let seen = stage.upstream().await.message().await;
            assert!(seen.is("transfer-encoding", "chunked"), "{seen:?}");
            assert!(!seen.has("content-length"), "{seen:?}");
            assert_eq!(seen.content, b"abcde");
        };
        tokio::select! {
            () = refused => {}
            () = carried => {}
        }
    }
}

#[tokio::test]
async fn a_body_in_a_coding_we_do_not_undo_is_refused() {
    let stage = Stage::new().await;
    for lines in [
        &["transfer-encoding: gzip, chunked"][..],
        &["transfer-encoding: gzip", "transfer-encoding: chunked"],
    ] {
        for path in [ANY, START] {
            let call = request(&format!("POST {path}"), lines, chunked(&["{}"], &[]));
            let mut client = stage.client_sends(call).await;
            let told = tokio::select! {
                told = client.message() => told,
                _ = stage.upstream() => panic!("it went upstream without its coding"),
            };
            assert_eq!(told.status(), 400, "{told:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_in_a_coding_we_do_not_undo_is_a_bad_gateway() {
    let stage = Stage::new().await;
    let lines = ["transfer-encoding: gzip, chunked"];
    for first in [format!("GET {ANY}"), format!("POST {START}")] {
        let call = request(&first, &["content-length: 2"], "{}");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        upstream
            .send(answer("200 OK", &lines, chunked(&["{}"], &[])))
            .await;
        let told = client.message().await;
        told.assert_refused(502, "outcome-unknown");
        upstream.close().await;
    }
}

#[tokio::test]
async fn a_head_of_any_size_that_fits_passes_and_a_larger_one_is_a_bad_gateway() {
    let stage = Stage::new().await;
    let call = request(&format!("GET {ANY}"), &[], "");
    let large = format!("x-large: {}", "x".repeat(48 * 1024));
    let lines = ["content-length: 0", &large];
    let (_, told) = stage.exchange(&call, answer("200 OK", &lines, "")).await;
    assert_eq!(told.values("x-large")[0].len(), 48 * 1024);

    let large = format!("x-large: {}", "x".repeat(256 * 1024));
    let many: Vec<_> = (0..300).map(|idx| format!("x-{idx}: x")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for lines in [&[large.as_str()][..], &many] {
        let mut client = stage.client_sends(&call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        drop(upstream.try_send(answer("200 OK", lines, "")).await); // It may close before it has taken all.
        let told = client.message().await;
        told.assert_refused(502, "outcome-unknown");
        upstream.ended().await;
    }
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let hour = std::time::Duration::from_secs(3600);
    let sim = Sim::builder().account("a@x", 1).mcp_pause(hour);
    let running = Running::beside(sim.start().await.unwrap(), &[]).await;
    let call = request("POST /v1/kling/mcp", &["content-length: 2"], "{}");
    let mut client = Wire::connect(running.addr).await;
    client.send(call).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    let event = client.chunk().await;
    assert!(event.starts_with(b"event:") || event.starts_with(b"data:"));
}
