//! Connections under one deadline: looking up the name, TCP and TLS together.
//!
//! hyper's own connect timeout ends with TCP. A handshake that stalls later would look like a
//! request that was sent.

use std::{sync::Arc, time::Duration};

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::timeout;
use tower_service::Service;

use super::{BoxError, UpstreamSettings, stream::Tcp};

type Https = HttpsConnector<Tcp>;
/// An open connection. It has room for a TLS session, more than 1 KB: hyper moves it 18 times before it is used, which
/// took 3,500 instructions unboxed.
pub(super) type Connection = Box<<Https as Service<Uri>>::Response>;

/// Opens connections, in HTTP/1.1 only.
#[derive(Clone)]
pub(super) struct Dialer {
    https: Https,
    connect_timeout: Duration,
}

/// The connection was not opened in time.
#[derive(Debug, Error)]
#[error("no connection within {} ms", .0.as_millis())]
struct ConnectTimeout(Duration);

impl Dialer {
    pub(super) fn new(settings: &UpstreamSettings, tls: Arc<ClientConfig>) -> Self {
        let connect_timeout = settings.connect_timeout;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // An upstream that has answered and reads no more of the request would keep its connection
        // for ever: hyper closes it only once it can write again.
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(settings.idle_timeout));
        // Several addresses share this time.
        tcp.set_connect_timeout(Some(connect_timeout));
        Self {
            https: HttpsConnector::from((Tcp(tcp), tls)),
            connect_timeout,
        }
    }

    /// Opens a connection to the host of `uri`. Nothing is sent.
    pub(super) fn dial(
        &mut self,
        uri: Uri,
    ) -> impl Future<Output = Result<Connection, BoxError>> + use<> {
        let connecting = timeout(self.connect_timeout, self.https.call(uri));
        let late = ConnectTimeout(self.connect_timeout);
        async move {
            let connected = connecting.await;
            let connected = connected.unwrap_or_else(|_elapsed| Err(late.into()));
            connected.map(Box::new)
        }
    }
}
