//! Connections for the HTTP client: each result is reported to the breaker.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use rustls::ClientConfig;
use tower_service::Service;

use super::{
    BoxError, UpstreamSettings,
    breaker::Breaker,
    dialer::{Connection, Dialer},
};

/// Opens connections and reports each result to the breaker.
#[derive(Clone)]
pub(super) struct Connector {
    dialer: Dialer,
    breaker: Arc<Breaker>,
}

impl Connector {
    pub(super) fn new(
        settings: &UpstreamSettings,
        tls: Arc<ClientConfig>,
        breaker: Arc<Breaker>,
    ) -> Self {
        let dialer = Dialer::new(settings, tls);
        Self { dialer, breaker }
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.dialer.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.dialer.dial(uri.clone());
        let Self { dialer, breaker } = self.clone();
        Box::pin(async move {
            let connected = connecting.await;
            match &connected {
                Ok(_) => breaker.note_success(),
                Err(error) => breaker.note_failure(&dialer, &uri, error),
            }
            connected
        })
    }
}
