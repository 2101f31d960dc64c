//! TLS between a sidecar and its upstream: the real one is reached over HTTPS.
//!
//! With `KLB_TEST_TLS` in the environment it stands between all sidecars of this crate and what they call, so that
//! any test can be run over TLS as well.

use std::{
    env,
    future::pending,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::{Arc, OnceLock},
};

use http::{Uri, uri::Scheme};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    select,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
    server::TlsStream,
};

/// The environment variable that turns it on.
const VARIABLE: &str = "KLB_TEST_TLS";

/// What is shared by all tests of a process.
struct Tls {
    acceptor: TlsAcceptor,
    /// The certificate, in PEM.
    root: NamedTempFile,
}

/// Whether sidecars are to call their upstreams over TLS.
pub(crate) fn is_on() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// The file with the root certificate that a sidecar has to trust.
pub fn root() -> &'static Path {
    tls().root.path()
}

/// The same upstream over TLS. It is served until the runtime ends.
pub fn in_front_of(base_url: &str) -> String {
    let base_url: Uri = base_url.parse().unwrap();
    assert_eq!(base_url.scheme(), Some(&Scheme::HTTP));
    let upstream = base_url.authority().unwrap().as_str().to_owned();
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(serve(listener, upstream));
    let path = base_url.path_and_query().unwrap();
    format!("https://{addr}{path}")
}

async fn serve(listener: TcpListener, upstream: String) {
    while let Ok((client, _)) = listener.accept().await {
        let upstream: SocketAddr = upstream.parse().unwrap();
        tokio::spawn(async move {
            // Where nothing listens, there is no handshake either.
            let upstream = TcpStream::connect(upstream).await.ok()?;
            let client = tls().acceptor.accept(client).await.ok()?;
            pass_between(client, upstream).await;
            Some(())
        });
    }
}

/// Passes bytes both ways until the client has closed its connection, or the upstream has broken off. An upstream that
/// takes no more is heard to its end, and sees its own end last, as without TLS.
async fn pass_between(client: TlsStream<TcpStream>, upstream: TcpStream) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let answering = async {
        if copy(&mut from_upstream, &mut to_client).await.is_ok() {
            // A client that is gone needs no farewell.
            let _told = to_client.shutdown().await;
            pending().await
        }
    };
    let asking = async {
        let mut bytes = vec![0; 16 * 1024];
        let mut is_heard = true;
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            is_heard = is_heard && to_upstream.write_all(&bytes[..count]).await.is_ok();
        }
    };
    select! {
        () = answering => {}
        () = asking => {}
    }
}

fn tls() -> &'static Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    TLS.get_or_init(|| {
        let names = [Ipv4Addr::LOCALHOST.to_string()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut root = NamedTempFile::new().unwrap();
        root.write_all(cert.pem().as_bytes()).unwrap();
        Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            root,
        }
    })
}
