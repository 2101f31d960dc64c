//! `https`: a trusted upstream is used, any other gets nothing.

use std::sync::Arc;
use std::time::Duration;

use accounts_fetcher::{Credentials, FetchResult, HttpSource, Source, Timing, tls_client_config};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::upstream::{Reply, Upstream};
use crate::watching::{TIMING, TOKEN, Watching};

const GOOD: &str = r#"{"a@x":{"maxJobs":3}}"#;

/// An upstream with a throw-away certificate for 127.0.0.1.
async fn tls_upstream() -> (Upstream, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    (
        Upstream::start_tls([Reply::json(GOOD)], acceptor).await,
        cert.der().clone(),
    )
}

fn source(upstream: &Upstream, extra_roots: &[CertificateDer<'static>]) -> Source {
    let base_url = format!("https://{}", upstream.addr).parse().unwrap();
    let tls = tls_client_config(&base_url, extra_roots).unwrap();
    let timeout = Duration::from_secs(5);
    Source::Http(HttpSource::new(
        base_url,
        Credentials::new(&TOKEN.into()).unwrap(),
        timeout,
        timeout,
        tls,
    ))
}

#[tokio::test]
async fn an_upstream_with_a_trusted_certificate_is_used() {
    let (upstream, certificate) = tls_upstream().await;
    let mut watching = Watching::new(source(&upstream, &[certificate]), TIMING);
    assert_eq!(watching.first_list().await.accounts.len(), 1);
}

#[tokio::test]
async fn an_upstream_with_an_unknown_certificate_never_sees_a_request() {
    let (upstream, _) = tls_upstream().await;
    let mut watching = Watching::new(source(&upstream, &[]), TIMING);
    let listing = watching.counted(FetchResult::Certificate, 2).await;
    assert!(upstream.connection_count() >= 2 && upstream.requests().is_empty());
    let problem = listing.last_problem.unwrap();
    assert!(
        problem.contains("invalid peer certificate: UnknownIssuer"),
        "{problem}"
    );
    assert!(problem.contains("upstream.ca_file"), "{problem}");
}

#[tokio::test]
async fn an_upstream_without_tls_never_sees_the_token() {
    let upstream = Upstream::start([Reply::json(GOOD)]).await;
    let timing = Timing {
        timeout: Duration::from_millis(200),
        ..TIMING
    };
    let mut watching = Watching::new(source(&upstream, &[]), timing);
    // Its script waits for the end of a request head, which a TLS greeting has not.
    watching.counted(FetchResult::Timeout, 1).await;
    assert!(upstream.requests().is_empty());
}
