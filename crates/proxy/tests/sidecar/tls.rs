//! An upstream over TLS: which certificates are trusted, and what is said of one that is not.

use std::{net::SocketAddr, path::Path, sync::Arc};

use harness::{eventually, send};
use http::{Method, StatusCode};
use kling_sim::Sim;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::program::{Process, output};

const START: &str = "/v1/kling/videos/text2video";

/// TLS in front of a simulator, with a certificate that nobody signed.
struct TlsFront {
    sim: Sim,
    addr: SocketAddr,
    folder: TempDir,
    _serving: JoinSet<()>,
}

impl TlsFront {
    async fn new() -> Self {
        let sim = Sim::builder().account("a@x", 2).start().await.unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, acceptor, sim.addr()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), cert.pem()).unwrap();
        Self {
            sim,
            addr,
            folder,
            _serving: serving,
        }
    }

    fn base_url(&self) -> String {
        format!("https://localhost:{}/v1/kling", self.addr.port())
    }

    /// The certificate, in PEM.
    fn roots(&self) -> String {
        shown(&self.folder.path().join("roots.pem"))
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, sim: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let Ok(mut tls) = acceptor.accept(stream).await else {
                return; // The client does not trust the certificate.
            };
            let mut plain = TcpStream::connect(sim).await.unwrap();
            // Either end may close it at any time.
            let _ended = copy_bidirectional(&mut tls, &mut plain).await;
        });
    }
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn started(addr: SocketAddr) -> harness::Answer {
    let headers = [("content-type", "application/json")];
    send(addr, Method::POST, START, &headers, r#"{"prompt":"x"}"#).await
}

#[tokio::test]
async fn extra_roots_are_trusted_by_fetches_rounds_and_calls_alike() {
    let front = TlsFront::new().await;
    let (base_url, roots) = (front.base_url(), front.roots());
    let env = [
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("KLB_UPSTREAM__CA_FILE", &roots),
    ];
    let process = Process::start(&front.sim, &env).await;
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
    let front = TlsFront::new().await;
    let (base_url, roots) = (front.base_url(), front.roots());
    let env = [
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("SSL_CERT_FILE", &roots),
    ];
    let process = Process::start(&front.sim, &env).await;
    process.until_ready().await;
    assert_eq!(started(process.addr).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_as_such_with_what_to_do() {
    let front = TlsFront::new().await;
    let base_url = front.base_url();
    let env = [("KLB_UPSTREAM__BASE_URL", base_url.as_str())];
    let process = Process::start(&front.sim, &env).await;
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
    assert_eq!(front.sim.requests().len(), 0);
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
