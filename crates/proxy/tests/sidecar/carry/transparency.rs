//! The conformance list of a transparent proxy: methods, targets, statuses and bodies.
//!
//! The list continues in `headers`, `targets`, `early` for answers before the end of a request, and
//! `broken` for messages that break off.

use super::{
    framing::{answer, chunked, fine, request},
    sockets::{ANY, BASE, HEARD, START, Stage, TASK},
};

/// Every byte value, and an end that is not UTF-8.
fn all_bytes() -> Vec<u8> {
    (0..=255).cycle().take(70_000).chain([0xc3]).collect()
}

#[tokio::test]
async fn head_keeps_its_length_has_no_body_and_leaves_the_connection_usable() {
    let stage = Stage::new().await;
    let head = request(&format!("HEAD {ANY}"), &[], "");
    let mut client = stage.client_sends(&head).await;
    let mut upstream = stage.upstream().await;
    for line in ["content-length: 12345", "transfer-encoding: chunked"] {
        assert_eq!(upstream.message().await.asks(), ("HEAD", "/base/any"));
        upstream.send(answer("200 OK", &[line], "")).await;
        let seen = client.head().await;
        assert_eq!(seen.status(), 200);
        let length: &[&str] = match line {
            "content-length: 12345" => &["12345"],
            _ => &[],
        };
        assert_eq!(seen.values("content-length"), length);
        client.send(&head).await;
    }
    upstream.head().await;
    upstream.send(answer("204 No Content", &[], "")).await;
    let seen = client.head().await;
    assert_eq!(
        seen.status(),
        204,
        "the body of an answer to HEAD is nothing"
    );
}

#[tokio::test]
async fn a_request_without_a_body_gets_none() {
    let stage = Stage::new().await;
    for method in ["GET", "DELETE", "POST", "OPTIONS"] {
        let (seen, _) = stage
            .exchange(request(&format!("{method} {ANY}"), &[], ""), fine())
            .await;
        assert!(
            !seen.has("content-length") && !seen.has("transfer-encoding"),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn an_empty_body_stays_one_of_length_zero() {
    let stage = Stage::new().await;
    for method in ["POST", "PUT", "GET"] {
        let empty = request(&format!("{method} {ANY}"), &["content-length: 0"], "");
        let nothing = answer("200 OK", &["content-length: 0"], "");
        let (asked, told) = stage.exchange(empty, nothing).await;
        for message in [asked, told] {
            assert!(message.is("content-length", "0"), "{message:?}");
            assert!(!message.has("transfer-encoding"), "{message:?}");
        }
    }
}

#[tokio::test]
async fn a_body_of_known_length_keeps_its_length_and_its_bytes() {
    let stage = Stage::new().await;
    let body = all_bytes();
    let length = format!("content-length: {}", body.len());
    let (asked, told) = stage
        .exchange(
            request(&format!("POST {ANY}"), &[&length], &body),
            answer("200 OK", &[&length], &body),
        )
        .await;
    for message in [asked, told] {
        assert!(message.is("content-length", &body.len().to_string()));
        assert!(!message.has("transfer-encoding"));
        assert!(message.content == body);
    }
}

#[tokio::test]
async fn a_chunked_body_stays_chunked() {
    let stage = Stage::new().await;
    for method in ["POST", "GET"] {
        for chunks in [&["one,", "two"][..], &[]] {
            let body = chunked(chunks, &[]);
            let lines = ["transfer-encoding: chunked"];
            let (asked, told) = stage
                .exchange(
                    request(&format!("{method} {ANY}"), &lines, &body),
                    answer("200 OK", &lines, &body),
                )
                .await;
            for message in [asked, told] {
                assert!(message.is("transfer-encoding", "chunked"), "{message:?}");
                assert!(!message.has("content-length"), "{message:?}");
                assert_eq!(message.content, chunks.concat().as_bytes());
            }
        }
    }
}

#[tokio::test]
async fn a_long_answer_passes_whole_though_its_beginning_is_read() {
    let stage = Stage::new().await;
    let long = all_bytes().repeat(40);
    let length = format!("content-length: {}", long.len());
    let in_chunks: Vec<u8> = long
        .chunks(50_000)
        .flat_map(|chunk| {
            let size = format!("{:x}\r\n", chunk.len());
            [size.as_bytes(), chunk, b"\r\n"].concat()
        })
        .chain(*b"0\r\n\r\n")
        .collect();
    for first in [
        format!("POST {START}"),
        format!("GET {TASK}"),
        format!("POST {HEARD}"),
    ] {
        let call = request(&first, &["content-length: 2"], "{}");
        let (_, told) = stage
            .exchange(&call, answer("200 OK", &[&length], &long))
            .await;
        assert!(told.is("content-length", &long.len().to_string()));
        assert!(told.content == long, "{first}");
        let lines = ["transfer-encoding: chunked"];
        let (_, told) = stage
            .exchange(&call, answer("200 OK", &lines, &in_chunks))
            .await;
        assert!(told.is("transfer-encoding", "chunked") && !told.has("content-length"));
        assert!(told.content == long, "{first}");
    }
}

#[tokio::test]
async fn each_piece_passes_before_the_next_one_comes() {
    let stage = Stage::new().await;
    let lines = ["transfer-encoding: chunked"];
    for path in [ANY, HEARD] {
        let mut client = stage
            .client_sends(request(&format!("POST {path}"), &lines, ""))
            .await;
        let mut upstream = stage.upstream().await;
        upstream.head().await;
        for _ in 0..3 {
            client.send("3\r\nabc\r\n").await;
            assert_eq!(upstream.chunk().await, b"abc");
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(upstream.take(5).await, b"0\r\n\r\n");
        upstream.send(answer("200 OK", &lines, "")).await;
        client.head().await;
        for _ in 0..3 {
            upstream.send("3\r\nxyz\r\n").await;
            assert_eq!(client.chunk().await, b"xyz");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_passes() {
    let stage = Stage::new().await;
    let mut client = stage
        .client_sends(request(&format!("GET {ANY}"), &[], ""))
        .await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    upstream.send("HTTP/1.0 200 OK\r\n\r\nto the end").await;
    drop(upstream);
    let told = client.message().await;
    assert_eq!(told.first, "HTTP/1.1 200 OK");
    assert!(told.is("transfer-encoding", "chunked"));
    assert_eq!(told.content, b"to the end");
}

#[tokio::test]
async fn an_old_client_gets_an_answer_it_understands() {
    let stage = Stage::new().await;
    let old = format!("GET {ANY} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    let mut client = stage.client_sends(old).await;
    let mut upstream = stage.upstream().await;
    assert_eq!(upstream.message().await.asks(), ("GET", "/base/any"));
    let lines = ["transfer-encoding: chunked"];
    upstream
        .send(answer("200 OK", &lines, chunked(&["abc"], &[])))
        .await;
    let told = client.head().await;
    assert!(!told.has("transfer-encoding"), "{told:?}");
    assert_eq!(client.rest().await.0, b"abc");
}

#[tokio::test]
async fn announced_trailers_pass_both_ways() {
    let stage = Stage::new().await;
    let lines = [
        "transfer-encoding: chunked",
        "trailer: x-sum",
        "te: trailers",
    ];
    let body = chunked(&["abc"], &["x-sum: 5"]);
    for path in [ANY, START, TASK, HEARD] {
        let method = if path == TASK { "GET" } else { "POST" };
        let asks = if path == START {
            chunked(&["{}"], &["x-sum: 5"])
        } else {
            body.clone()
        };
        let (asked, told) = stage
            .exchange(
                request(&format!("{method} {path}"), &lines, &asks),
                answer("200 OK", &lines[..2], &body),
            )
            .await;
        let sum = [("x-sum".to_owned(), "5".to_owned())];
        assert_eq!((&*told.content, &*told.trailers), (&b"abc"[..], &sum[..]));
        // A body that is read whole is sent with its length, which leaves no place for trailers.
        if path != START {
            assert_eq!((&*asked.content, &*asked.trailers), (&b"abc"[..], &sum[..]));
        }
    }
    let (_, told) = stage
        .exchange(
            request(&format!("GET {ANY}"), &[], ""),
            answer("200 OK", &lines[..2], &body),
        )
        .await;
    assert_eq!(told.content, b"abc");
    assert!(told.trailers.is_empty(), "the client did not ask for any");
}

#[tokio::test]
async fn answers_on_the_way_to_the_last_one_are_swallowed() {
    let stage = Stage::new().await;
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
        HTTP/1.1 102 Processing\r\n\r\n";
    for path in [ANY, START] {
        let call = request(&format!("POST {path}"), &["content-length: 2"], "{}");
        let answers = [interim.as_bytes(), &fine()].concat();
        let (_, told) = stage.exchange(call, answers).await;
        assert_eq!(
            (told.status(), &*told.content),
            (200, &b"{}"[..]),
            "{told:?}"
        );
        assert!(!told.has("link"));
    }
}

#[tokio::test]
async fn any_method_path_and_query_pass_as_they_came() {
    let stage = Stage::new().await;
    for method in ["PATCH", "PUT", "DELETE", "OPTIONS", "PURGE", "get"] {
        for below in [
            "/",
            "//",
            "/unheard/of/",
            "/tasks//",
            "/a%2Fb%20c%c3%A9%FF",
            "/a;b=c/@:!$&'()*+,=~",
            "/any?",
            "/any?x=1&x=2&&=&y",
            "/any?q=%zz%&e=a+b%2B|{}[]'`^",
            "/any/.hidden/...",
        ] {
            let call = request(&format!("{method} /v1/kling{below}"), &[], "");
            let (seen, _) = stage.exchange(call, fine()).await;
            assert_eq!(seen.asks(), (method, &*format!("{BASE}{below}")));
        }
    }
}

#[tokio::test]
async fn any_status_passes_and_no_redirect_is_followed() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let call = request(&format!("GET {ANY}"), &[], "");
    client.send(&call).await;
    let mut upstream = stage.upstream().await;
    for status in [
        "200 OK",
        "206 Partial Content",
        "299 Odd",
        "301 Moved",
        "307 Temporary Redirect",
        "400 Bad Request",
        "401 Unauthorized",
        "418 I'm a teapot",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "596 Odd",
        "999 Odd",
    ] {
        let lines = [
            "content-length: 3",
            "location: http://127.0.0.1:1/elsewhere",
            "retry-after: 7",
        ];
        upstream.message().await;
        upstream.send(answer(status, &lines, "abc")).await;
        let told = client.message().await;
        assert_eq!(told.first, format!("HTTP/1.1 {status}"));
        assert_eq!(told.content, b"abc");
        assert!(told.is("location", "http://127.0.0.1:1/elsewhere"));
        assert!(told.is("retry-after", "7"));
        client.send(&call).await;
    }
}

#[tokio::test]
async fn answers_that_have_no_body_pass() {
    let stage = Stage::new().await;
    let call = request(&format!("GET {ANY}"), &[], "");
    let mut client = stage.client_sends(&call).await;
    let mut upstream = stage.upstream().await;
    for (status, lines) in [
        ("204 No Content", &[][..]),
        ("304 Not Modified", &["etag: \"x\""]),
        ("304 Not Modified", &["etag: \"x\"", "content-length: 5"]),
    ] {
        upstream.message().await;
        upstream.send(answer(status, lines, "")).await;
        let told = client.head().await;
        assert_eq!(told.first, format!("HTTP/1.1 {status}"));
        assert_eq!(told.has("etag"), !lines.is_empty());
        assert!(!told.has("transfer-encoding"), "{told:?}");
        client.send(&call).await;
    }
    upstream.message().await;
    upstream.send(fine()).await;
    assert_eq!(client.message().await.content, b"{}");
}

#[tokio::test]
async fn calls_on_one_connection_are_answered_in_order() {
    let stage = Stage::new().await;
    let call = |idx: usize| {
        let first = format!("POST {ANY}/{idx}");
        request(&first, &["content-length: 1"], idx.to_string())
    };
    let all: Vec<u8> = (0..5).flat_map(call).collect();
    let mut client = stage.client_sends(all).await;
    let mut upstream = stage.upstream().await;
    for idx in 0..5 {
        let seen = upstream.message().await;
        assert_eq!(seen.asks().1, format!("{BASE}/any/{idx}"));
        assert_eq!(seen.content, idx.to_string().as_bytes());
        let said = idx.to_string();
        upstream
            .send(answer("200 OK", &["content-length: 1"], said))
            .await;
    }
    for idx in 0..5 {
        assert_eq!(client.message().await.content, idx.to_string().as_bytes());
    }
    client.send(call(5)).await;
    upstream.message().await;
    upstream.send(fine()).await;
    assert_eq!(client.message().await.content, b"{}");
}
