//! A request reaches the configured upstream or no server at all.

use harness::Running;
use http::Method;

use super::{
    framing::{fine, request},
    headers::assert_ours,
    sockets::{ANY, START, Stage, TASK, Wire},
};

/// Checks that the upstream got no earlier request: the next connection would show it.
async fn assert_nothing_came(stage: &Stage) {
    let (seen, _) = stage
        .exchange(request(&format!("GET {ANY}/last"), &[], ""), fine())
        .await;
    assert_eq!(seen.asks(), ("GET", "/base/any/last"));
}

#[tokio::test]
async fn connect_and_trace_are_refused() {
    let stage = Stage::new().await;
    for first in [
        "CONNECT localhost:80".to_owned(),
        format!("TRACE {ANY}"),
        "TRACE http://localhost/v1/kling/any".to_owned(),
    ] {
        let mut client = stage.client_sends(request(&first, &[], "")).await;
        let told = client.message().await;
        told.assert_refused(405, "method-not-allowed");
        assert!(told.has("allow"));
    }
    assert_nothing_came(&stage).await;
}

#[tokio::test]
async fn a_target_with_a_host_goes_to_the_configured_upstream() {
    let stage = Stage::new().await;
    for host in ["localhost", "127.0.0.1:1", "[::1]:2"] {
        let first = format!("GET https://{host}{ANY}?x=1");
        let (seen, _) = stage.exchange(request(&first, &[], ""), fine()).await;
        assert_eq!(seen.asks(), ("GET", "/base/any?x=1"));
        assert_ours(&stage, &seen);
    }
    for host in ["elsewhere.example", "user:pass@localhost"] {
        let first = format!("GET http://{host}{ANY}");
        let mut client = stage.client_sends(request(&first, &[], "")).await;
        client.message().await.assert_refused(421, "wrong-host");
    }
    assert_nothing_came(&stage).await;
}

#[tokio::test]
async fn odd_paths_are_refused() {
    let stage = Stage::new().await;
    for below in [
        "/../accounts",
        "/.",
        "/any/..",
        "/%2e%2e/accounts",
        "/any/%2E./x",
        "/a\\b",
        "/a%5Cb",
        "/a%00b",
        "/..%2fx",
    ] {
        let call = request(&format!("GET /v1/kling{below}"), &[], "");
        let mut client = stage.client_sends(call).await;
        client.message().await.assert_refused(400, "bad-request");
    }
    let nul = request("GET /v1/kling/a\0b", &[], "");
    let told = stage.client_sends(nul).await.message().await;
    assert_eq!(told.status(), 400, "no HTTP at all");
    assert_nothing_came(&stage).await;
}

#[tokio::test]
async fn a_path_that_leaves_no_room_for_an_email_is_named() {
    let running = Running::with(&[("a@x", 1)]).await;
    let longest = 60 * 1024;
    for (bytes, status) in [(longest, 200), (longest + 1, 400)] {
        let query = "q".repeat(bytes - "/assets".len());
        let answer = running.get(&format!("/v1/kling/assets?{query}")).await;
        assert_eq!(answer.status.as_u16(), status);
        if status == 400 {
            answer.assert_refused(400, "bad-request");
            assert!(answer.text.contains("path: expected at most"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn two_accounts_in_a_query_are_refused() {
    let stage = Stage::new().await;
    for query in ["email=a@x&email=b@x", "email=a@x&%65mail=a@x"] {
        for first in [
            format!("GET {ANY}?{query}"),
            format!("GET {TASK}?{query}"),
            format!("POST {START}?{query}"),
        ] {
            let mut client = stage.client_sends(request(&first, &[], "")).await;
            client.message().await.assert_refused(400, "bad-request");
        }
    }
    assert_nothing_came(&stage).await;
}

#[tokio::test]
async fn calls_to_the_upstream_need_a_client_token_too() {
    let tokens = [("AUTH__TOKENS", CLIENT)];
    let running = Running::configured(&[("a@x", 1)], &tokens).await;
    let before = running.sim.requests().len();
    for shown in [&[][..], &[("authorization", "Bearer wrong")]] {
        for (method, path) in [(Method::GET, TASK), (Method::POST, START)] {
            let answer = running.send(method, path, shown, "{}").await;
            answer.assert_refused(401, "unauthorized");
        }
    }
    assert_eq!(running.sim.audit().submission_count, 0);
    let asked = running.sim.requests().split_off(before);
    assert!(
        asked
            .iter()
            .all(|seen| seen.head.path != "/v1/kling/tasks/7")
    );
    let shown = [("authorization", "Bearer token-of-the-client")];
    let path = "/v1/kling/elements/tags";
    let answer = running.send(Method::GET, path, &shown, "").await;
    assert_eq!(answer.status, 200);
}

/// A `GET /pick` with these `Host` lines and a token, as bytes.
fn pick(target: &str, version: &str, hosts: &[&str]) -> String {
    let hosts: String = hosts
        .iter()
        .map(|host| format!("host: {host}\r\n"))
        .collect();
    format!("GET {target} HTTP/{version}\r\n{hosts}authorization: Bearer {CLIENT}\r\n\r\n")
}

const CLIENT: &str = "token-of-the-client";

/// Hosts that two readers may read in two ways.
const MALFORMED: [&str; 12] = [
    "127.0.0.1:80@evil.example",
    "127.0.0.1:evil",
    "localhost:80:80",
    "localhost:-1",
    "localhost: 80",
    "user@localhost",
    "localhost/x",
    "localhost?",
    "::1",
    "[::1",
    "[::1]80",
    ":80",
];

#[tokio::test]
async fn a_host_is_a_name_and_a_port_of_digits() {
    let open = Running::with(&[("a@x", 9)]).await;
    let closed = Running::configured(&[("a@x", 9)], &[("AUTH__TOKENS", CLIENT)]).await;
    for host in MALFORMED {
        for (running, status, reason) in [(&open, 421, "wrong-host"), (&closed, 400, "bad-request")]
        {
            let mut client = Wire::connect(running.addr).await;
            client.send(pick("/pick", "1.1", &[host])).await;
            client.message().await.assert_refused(status, reason);
        }
    }
    for target in [
        "http://127.0.0.1:80@evil.example/pick",
        "http://user@localhost/pick",
        "http://localhost:/pick",
    ] {
        for (running, status) in [(&open, 421), (&closed, 400)] {
            let mut client = Wire::connect(running.addr).await;
            client.send(pick(target, "1.1", &["localhost"])).await;
            let told = client.message().await;
            // A name without a port may end in a colon, RFC 3986 §3.2.3.
            let is_fit = target.ends_with(":/pick");
            assert_eq!(told.status(), if is_fit { 200 } else { status }, "{target}");
        }
    }
    for host in ["localhost:", "localhost:080", "[::1]:99999", "LOCALHOST"] {
        for running in [&open, &closed] {
            let mut client = Wire::connect(running.addr).await;
            client.send(pick("/pick?dryRun=true", "1.1", &[host])).await;
            assert_eq!(client.message().await.status(), 200, "{host}");
        }
    }
    assert_eq!(open.held().await, 1);
}

#[tokio::test]
async fn a_request_has_one_host() {
    let open = Running::with(&[("a@x", 9)]).await;
    let closed = Running::configured(&[("a@x", 9)], &[("AUTH__TOKENS", CLIENT)]).await;
    let two: &[&str] = &["localhost", "localhost"];
    for (running, version, hosts, status) in [
        (&open, "1.1", two, 400),
        (&open, "1.1", &[], 421),
        (&open, "1.0", &[], 421),
        (&closed, "1.1", two, 400),
        (&closed, "1.0", two, 400),
        (&closed, "1.1", &[], 400),
        // Older clients have none.
        (&closed, "1.0", &[], 200),
        (&closed, "1.1", &["sidecar.example"], 200),
    ] {
        let mut client = Wire::connect(running.addr).await;
        client.send(pick("/pick", version, hosts)).await;
        let told = client.message().await;
        assert_eq!(told.status(), status, "{version} {hosts:?}: {told:?}");
    }
    // A probe asks without a name that we know.
    for hosts in [&[][..], &["10.1.2.3:8080"], &["rebound.example"]] {
        for path in ["/livez", "/readyz"] {
            let mut client = Wire::connect(open.addr).await;
            client.send(pick(path, "1.1", hosts)).await;
            assert_eq!(client.message().await.status(), 200, "{path} {hosts:?}");
        }
    }
    assert_eq!(open.held().await, 0);
}
