//! The trusted roots for an `https` upstream.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tracing::warn;

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[error("tls client cannot be configured")]
pub struct TlsError(#[from] rustls::Error);

/// A TLS configuration that trusts the roots of the machine, or Mozilla's when it has none.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured. The crypto provider is named explicitly: a
/// process-wide default may be missing, or set by other code.
///
/// # Errors
/// [`TlsError`] if the provider supports none of the TLS versions of rustls.
pub fn tls_client_config() -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(%error, "some root certificates of this machine cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_needs_no_process_default_and_speaks_http_1_only() {
        let config = tls_client_config().unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert!(!roots().is_empty());
    }
}
