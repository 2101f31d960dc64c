//! An upstream over TLS: which certificates are trusted, and what is said of one that is not.

use std::net::SocketAddr;

use harness::{eventually, manual, send, tls};
use http::{Method, StatusCode};
use kling_sim::Sim;

use crate::program::{Process, output};

const START: &str = "/v1/kling/videos/text2video";

/// A simulator, its address over TLS, and the file with a root that is trusted only if a setting says so.
async fn over_tls() -> (Sim, String, &'static str) {
    let sim = manual(&[("a@x", 2)]).start().await.unwrap();
    let base_url = tls::in_front_of(&sim.base_url());
    (sim, base_url, tls::root().to_str().unwrap())
}

async fn started(addr: SocketAddr) -> harness::Answer {
    let headers = [("content-type", "application/json")];
    send(addr, Method::POST, START, &headers, r#"{"prompt":"x"}"#).await
}

#[tokio::test]
async fn extra_roots_are_trusted_by_fetches_rounds_and_calls_alike() {
    let (sim, base_url, root) = over_tls().await;
    let env = [
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("KLB_UPSTREAM__CA_FILE", root),
    ];
    let process = Process::start(&sim, &env).await;
    // The list and a round.
    process.until_ready().await;
    let answer = started(process.addr).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "a@x");
    process.signal("-TERM").await;
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn ssl_cert_file_takes_the_place_of_the_roots_of_the_machine() {
    let (sim, base_url, root) = over_tls().await;
    let env = [
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("SSL_CERT_FILE", root),
    ];
    let process = Process::start(&sim, &env).await;
    process.until_ready().await;
    assert_eq!(started(process.addr).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_as_such_with_what_to_do() {
    let (sim, base_url, _) = over_tls().await;
    let env = [("KLB_UPSTREAM__BASE_URL", base_url.as_str())];
    let process = Process::start(&sim, &env).await;
    let verbose = eventually(async || {
        let answer = send(process.addr, Method::GET, "/readyz?verbose", &[], "").await;
        let is_told = answer.text.contains("[-] last fetch: certificate (")
            && answer.text.contains("[-] rounds: ");
        is_told.then_some(answer.text)
    })
    .await;
    assert!(verbose.contains("upstream.ca_file"), "{verbose}");
    let refused = started(process.addr).await;
    refused.assert_refused(429, "learning");
    for said in [
        "invalid peer certificate: UnknownIssuer",
        "upstream.ca_file",
    ] {
        assert!(refused.text.contains(said), "{refused:?}");
    }
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    for line in log.lines().filter(|line| line.contains("WARN")) {
        assert!(!line.contains("and the network"), "{line}");
    }
    for message in [
        "the account list cannot be fetched",
        "the list of running jobs cannot be read",
    ] {
        let mut lines = log.lines().filter(|line| line.contains(message));
        let line = lines.next().unwrap_or_else(|| panic!("{message} in {log}"));
        assert!(line.contains("upstream.ca_file"), "{line}");
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn a_file_of_roots_that_cannot_be_used_is_a_mistake_in_the_settings() {
    let env = [
        ("KLB_UPSTREAM__TOKEN", "user:1-x"),
        ("KLB_UPSTREAM__CA_FILE", "/nowhere/roots.pem"),
    ];
    let (code, said) = output(&["serve"], &env).await;
    assert_eq!(code, Some(78));
    let wanted = "KLB_UPSTREAM__CA_FILE: the file /nowhere/roots.pem cannot be read (";
    assert!(said.starts_with(wanted), "{said}");
}
