//! The trusted roots for an `https` upstream.

use std::{error::Error, io, sync::Arc};

use http::{Uri, uri::Scheme};
use rustls::{
    CertificateError, ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer,
};
use tracing::warn;

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[error("tls client cannot be configured")]
pub struct TlsError(#[from] rustls::Error);

/// A TLS configuration for requests to `url`, which trusts the roots of the machine, or Mozilla's when it has none, and
/// `extra_roots` besides.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` take the place of the machine's roots. For `http`, which has no use for them, these
/// are not read: they are a hundred files and more. The crypto provider is named explicitly: a process-wide default may be
/// missing, or set by other code.
///
/// # Errors
/// [`TlsError`] if one of `extra_roots` cannot be used, whatever the scheme, or if the provider supports none of the TLS
/// versions of rustls.
pub fn tls_client_config(
    url: &Uri,
    extra_roots: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = roots_for(url);
    for root in extra_roots {
        roots.add(root.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots_for(url: &Uri) -> RootCertStore {
    match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => RootCertStore::empty(),
        Some(_) | None => roots(),
    }
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

/// Why the certificate of a server was not accepted, if that is what `error` or one of its causes says.
pub fn certificate_problem<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
            return Some(problem);
        }
        // An I/O error that wraps another one is transparent: its source is that of the inner one.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_needs_no_process_default_and_speaks_http_1_only() {
        let config = tls_client_config(&"https://a.example".parse().unwrap(), &[]).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn roots_are_read_only_for_https() {
        for (url, are_read) in [
            ("http://127.0.0.1:1/v1", false),
            ("https://a.example/v1", true),
        ] {
            let url = url.parse().unwrap();
            assert_eq!(!roots_for(&url).is_empty(), are_read, "{url}");
            let odd = [CertificateDer::from(vec![0])];
            assert!(
                tls_client_config(&url, &odd).is_err(),
                "a wrong file is told"
            );
        }
    }

    #[test]
    fn a_refused_certificate_is_found_below_other_errors() {
        let refused = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, refused));
        let problem = certificate_problem(&wrapped);
        assert_eq!(problem, Some(&CertificateError::UnknownIssuer));
        let other = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(certificate_problem(&other), None);
    }
}
