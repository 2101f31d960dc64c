//! Decides who may call, and refuses malformed requests.
//!
//! A web page in the user's own browser can reach a loopback port. It must not be able to spend
//! money: neither by a request across sites (`Origin`, `Sec-Fetch-Site`), nor by a host name of its
//! own that resolves to this machine (`Host`).

use std::{collections::HashSet, net::IpAddr, net::SocketAddr, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Request, Uri,
    header::{self, AsHeaderName},
    uri::Authority,
};
use tokio::sync::watch;

use super::clients::Clients;
use crate::{config::Auth, error::Error, idempotency::Caller};

/// What a browser says of the page that makes a request, beside its origin.
const FETCH_SITE: &str = "sec-fetch-site";

/// The rules of who may call.
#[derive(Debug)]
pub(crate) struct Gate {
    clients: watch::Receiver<Arc<Clients>>,
    hosts: HashSet<String>,
    origins: HashSet<String>,
}

impl Gate {
    /// Lets `clients` in at `listen`.
    pub(crate) fn new(
        auth: &Auth,
        listen: SocketAddr,
        clients: watch::Receiver<Arc<Clients>>,
    ) -> Self {
        let mut hosts = auth.allowed_hosts.clone();
        hosts.insert(host_of(&listen.to_string()).to_owned());
        Self {
            clients,
            hosts,
            origins: auth.allowed_origins.clone(),
        }
    }

    /// Lets a request in, or says why not. `is_open`: it needs no client token and no host of ours, since
    /// a health probe has neither.
    pub(super) fn admit<B>(&self, request: &Request<B>, is_open: bool) -> Result<Caller, Error> {
        check_path(request.uri().path())?;
        let clients = self.clients.borrow();
        if clients.is_empty() && !is_open {
            self.check_host(request.uri(), request.headers())?;
        }
        self.check_origin(request.headers())?;
        if clients.is_empty() || is_open {
            return Ok(Caller::default());
        }
        let token = shown_token(request.headers()).ok_or(Error::Unauthorized)?;
        clients.find(token).ok_or(Error::Unauthorized)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = named
            .next()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        if named.next().is_some() {
            return Err(Error::bad_request("Host", "expected one Host header"));
        }
        // A target in absolute form names the host too, RFC 9112 §3.2.2: both must be ours.
        let is_ours = self.is_served(host)
            && uri
                .authority()
                .map(Authority::as_str)
                .is_none_or(|named| self.is_served(named));
        if is_ours {
            Ok(())
        } else {
            Err(Error::WrongHost)
        }
    }

    fn is_served(&self, named: &str) -> bool {
        if self.hosts.contains(named) || self.hosts.contains(host_of(named)) {
            return true;
        }
        let host = host_of(named).to_ascii_lowercase();
        let is_loopback = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        is_loopback
            || self.hosts.contains(&host)
            || self.hosts.contains(&named.to_ascii_lowercase())
    }

    /// The origin of the web page that makes a request, if pages of it may call.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = only(headers, header::ORIGIN)?;
        let is_allowed = self.origins.contains(origin.to_str().ok()?);
        is_allowed.then(|| origin.clone())
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Error> {
        // The setting wins over what the browser says of the site.
        if self.allowed_origin(headers).is_some() || is_of_own_page(headers) {
            return Ok(());
        }
        let mut sites = headers.get_all(FETCH_SITE).iter();
        let is_of_another_site =
            |site: &HeaderValue| matches!(site.as_bytes(), b"cross-site" | b"same-site");
        if sites.any(is_of_another_site) || headers.contains_key(header::ORIGIN) {
            return Err(Error::ForbiddenOrigin);
        }
        Ok(())
    }
}

/// Whether a page that came from here makes the request: its origin is the `Host`, and the browser says so.
fn is_of_own_page(headers: &HeaderMap) -> bool {
    let origin = only(headers, header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let named = origin.and_then(|origin| origin.split_once("://"));
    let host = only(headers, header::HOST).and_then(|host| host.to_str().ok());
    let site = only(headers, FETCH_SITE).map(HeaderValue::as_bytes);
    named.is_some_and(|(_, named)| Some(named) == host)
        && matches!(site, Some(b"same-origin" | b"none"))
}

/// The one value of a header.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The token that a request shows, if it shows one.
fn shown_token(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = only(headers, header::AUTHORIZATION)?;
    let (scheme, token) = shown.as_bytes().split_at(shown.len().min("Bearer ".len()));
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// The host of a `Host` header, without its port.
fn host_of(named: &str) -> &str {
    match named.rfind(':') {
        Some(colon) if !named[colon..].contains(']') => &named[..colon],
        Some(_) | None => named,
    }
}

/// Refuses paths that mean different things to different readers.
fn check_path(path: &str) -> Result<(), Error> {
    // The usual path: nothing to decode, nothing ambiguous.
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | 0)) && !path.contains("/.") {
        return Ok(());
    }
    let is_odd_byte = |byte: &u8| matches!(byte, b'\\' | 0);
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if decoded.iter().any(is_odd_byte) {
        return Err(Error::bad_request(
            "path",
            "expected no backslash and no NUL",
        ));
    }
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    if decoded.split(|byte| *byte == b'/').any(is_dots) {
        return Err(Error::bad_request("path", "expected no . and .. segments"));
    }
    Ok(())
}
