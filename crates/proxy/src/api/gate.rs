//! Decides who may call, and refuses malformed requests.
//!
//! A web page in the user's own browser can reach a loopback port. It must not be able to spend
//! money: neither by a request across sites (`Origin`, `Sec-Fetch-Site`), nor by a host name of its
//! own that resolves to this machine (`Host`).

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use accounts_fetcher::Credentials;
use http::{HeaderName, HeaderValue, Method, Request, Version, uri::Authority};
use memchr::memchr3;
use tokio::sync::watch;

use super::{
    ListenerKind,
    clients::{Client, Clients},
    head::Head,
    route::{Endpoint, Route},
};
use crate::{config::Auth, error::Error};

/// What a browser says of a request, beside the origin of its page: where the page is from, whether the request
/// shows another page, and what its answer is for. W3C Fetch Metadata.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The pages that a link of any site may lead to: showing one changes nothing.
const PAGES: [&str; 2] = ["/", "/dashboard"];

/// The rules of who may call.
#[derive(Debug)]
pub(crate) struct Gate {
    clients: watch::Receiver<Arc<Clients>>,
    /// The token of the upstream, which lets clients in, too.
    upstream: Option<Credentials>,
    /// What most programs name as their host: all of it is [served](Self::is_served).
    usual_hosts: [String; 3],
    hosts: HashSet<String>,
    origins: HashSet<String>,
}

impl Gate {
    /// Lets `clients` in at `listen`, and those that show the token of the `upstream`.
    pub(crate) fn new(
        auth: &Auth,
        listen: SocketAddr,
        clients: watch::Receiver<Arc<Clients>>,
        upstream: Option<Credentials>,
    ) -> Self {
        let mut hosts = auth.allowed_hosts.clone();
        let localhost = format!("localhost:{}", listen.port());
        let listen = listen.to_string();
        hosts.extend(host_of(&listen).map(str::to_owned));
        Self {
            clients,
            upstream,
            usual_hosts: [listen, localhost, "localhost".to_owned()],
            hosts,
            origins: auth.allowed_origins.clone(),
        }
    }

    /// Lets a request for `route` in, or says why not.
    ///
    /// A health probe shows neither a token nor a host that we know, and neither a scraper of the metrics listener nor
    /// a browser that opens the page shows a token.
    pub(super) fn admit<B>(
        &self,
        request: &Request<B>,
        head: &Head<'_>,
        route: Option<&Route>,
        kind: ListenerKind,
    ) -> Result<Client, Error> {
        check_path(request.uri().path())?;
        let clients = self.clients.borrow();
        let has_tokens = !clients.is_empty() && kind == ListenerKind::Main;
        if route.is_none_or(|route| route.access().checks_host()) {
            if has_tokens {
                check_host_form(request, head)?;
            } else {
                self.check_host(request, head, kind)?;
            }
        }
        self.check_origin(request, head)?;
        check_purpose(request, head, route)?;
        if !has_tokens || route.is_some_and(|route| route.access().is_open()) {
            return Ok(Client::default());
        }
        let upstream = self.upstream.as_ref().map(Credentials::authorization);
        let upstream = upstream.as_ref().and_then(bearer_token);
        let shown = head.authorization.only().and_then(bearer_token);
        let client = clients.find(shown.ok_or(Error::Unauthorized)?, upstream);
        let client = client.ok_or(Error::Unauthorized)?;
        if client.is_read_only && !is_look(request.method(), route) {
            return Err(Error::ReadOnly);
        }
        Ok(client)
    }

    /// Without a token the host must be ours: a page whose name resolves to this machine shows its own.
    fn check_host<B>(
        &self,
        request: &Request<B>,
        head: &Head<'_>,
        kind: ListenerKind,
    ) -> Result<(), Error> {
        let target = request.uri().authority().map(Authority::as_str);
        let is_usual = |host: &HeaderValue| self.usual_hosts.iter().any(|usual| host == usual);
        if target.is_none() && head.host.only().is_some_and(is_usual) {
            return Ok(());
        }
        let host = named_host(head)?.unwrap_or_default();
        // A target in absolute form names the host too, RFC 9112 §3.2.2: both must be ours.
        let mut named = [Some(host), target].into_iter().flatten();
        if named.all(|named| self.is_served(named, kind)) {
            Ok(())
        } else {
            Err(Error::WrongHost)
        }
    }

    fn is_served(&self, named: &str, kind: ListenerKind) -> bool {
        let named = named.to_ascii_lowercase();
        let Some(host) = host_of(&named) else {
            return false;
        };
        let bare = host.trim_matches(['[', ']']);
        let is_ours = match bare.parse::<IpAddr>() {
            // An address is no name that a page could have had resolved to this machine.
            Ok(_) if kind == ListenerKind::Monitoring => true,
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        is_ours
            || [&named, host, bare]
                .iter()
                .any(|it| self.hosts.contains(*it))
    }

    /// The origin of the web page that makes a request, if pages of it may call.
    pub(super) fn allowed_origin(&self, head: &Head<'_>) -> Option<HeaderValue> {
        let origin = head.origin.only()?;
        let is_allowed = self.origins.contains(origin.to_str().ok()?);
        is_allowed.then(|| origin.clone())
    }

    fn check_origin<B>(&self, request: &Request<B>, head: &Head<'_>) -> Result<(), Error> {
        let has_origin = head.origin.first.is_some();
        // Most programs say nothing of a page.
        if !has_origin && !head.has_fetch_metadata {
            return Ok(());
        }
        // The setting wins over what the browser says of the site.
        if self.allowed_origin(head).is_some() || is_of_own_page(head) || is_visit(request, head) {
            return Ok(());
        }
        let mut sites = head.all(&FETCH_SITE).iter();
        let is_of_another_site =
            |site: &HeaderValue| matches!(site.as_bytes(), b"cross-site" | b"same-site");
        if sites.any(is_of_another_site) || has_origin {
            return Err(Error::ForbiddenOrigin);
        }
        Ok(())
    }
}

/// Whether a page that came from here makes the request: its origin is the `Host`, and the browser, if it says
/// anything of the site, does not disagree. Browsers say it only to loopback and over TLS.
fn is_of_own_page(head: &Head<'_>) -> bool {
    let origin = head.origin.only().and_then(|origin| origin.to_str().ok());
    let named = origin.and_then(|origin| origin.split_once("://"));
    let host = head.host.only().and_then(|host| host.to_str().ok());
    let mut sites = head.all(&FETCH_SITE).iter();
    named.is_some_and(|(_, named)| Some(named) == host)
        && sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Whether a person opens one of [`PAGES`], perhaps by a link on another site.
fn is_visit<B>(request: &Request<B>, head: &Head<'_>) -> bool {
    let is_only = |name: &HeaderName, value: &str| {
        let mut values = head.all(name).iter();
        values.next().is_some_and(|it| it == value) && values.next().is_none()
    };
    request.method() == Method::GET
        && PAGES.contains(&request.uri().path())
        && head.origin.first.is_none()
        && is_only(&FETCH_MODE, "navigate")
        && is_only(&FETCH_DEST, "document")
}

/// Refuses a pick that a page makes by showing an image, a frame or the like: the lease would reach no client.
fn check_purpose<B>(
    request: &Request<B>,
    head: &Head<'_>,
    route: Option<&Route>,
) -> Result<(), Error> {
    if !head.has_fetch_metadata {
        return Ok(());
    }
    let mut purposes = head.all(&FETCH_DEST).iter();
    let is_read = |dest: &HeaderValue| matches!(dest.as_bytes(), b"empty" | b"document");
    let is_pick =
        route.map(Route::endpoint) == Some(Endpoint::Pick) && request.method() == Method::GET;
    if is_pick && !purposes.all(is_read) {
        return Err(Error::ForbiddenOrigin);
    }
    Ok(())
}

/// Whether a client that may only look may make the request.
fn is_look(method: &Method, route: Option<&Route>) -> bool {
    let endpoint = route.map(Route::endpoint);
    matches!(*method, Method::GET | Method::HEAD)
        && !matches!(endpoint, Some(Endpoint::Pick | Endpoint::Upstream))
}

/// Refuses a request whose host can be read in two ways, RFC 9112 §3.2. Which host it is does not matter here.
fn check_host_form<B>(request: &Request<B>, head: &Head<'_>) -> Result<(), Error> {
    let named = named_host(head)?;
    if named.is_none() && request.version() >= Version::HTTP_11 {
        return Err(Error::bad_request("Host", "expected one Host header"));
    }
    let target = request.uri().authority().map(Authority::as_str);
    let mut named = [named, target].into_iter().flatten();
    if named.all(|named| host_of(named).is_some()) {
        Ok(())
    } else {
        Err(Error::bad_request(
            "Host",
            "expected a host, and a port as digits",
        ))
    }
}

/// What the `Host` header says, if there is one. Bytes that are no text are no host.
fn named_host<'a>(head: &Head<'a>) -> Result<Option<&'a str>, Error> {
    if head.host.are_many {
        return Err(Error::bad_request("Host", "expected one Host header"));
    }
    let named = head.host.first;
    Ok(named.map(|host| host.to_str().unwrap_or_default()))
}

/// The token in an `Authorization` header.
fn bearer_token(shown: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = shown.as_bytes().split_at(shown.len().min("Bearer ".len()));
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// The host in `named`, without its port. `None` if what follows it is no port, or if it is no host.
fn host_of(named: &str) -> Option<&str> {
    let end = match named.strip_prefix('[') {
        Some(address) => address.find(']')? + "[]".len(),
        None => named.find(':').unwrap_or(named.len()),
    };
    let (host, port) = named.split_at(end);
    let is_of_host = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
    let is_host = !host.is_empty() && host.bytes().all(is_of_host);
    let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_host && has_port).then_some(host)
}

/// Refuses paths that mean different things to different readers.
fn check_path(path: &str) -> Result<(), Error> {
    // The usual path: nothing to decode, nothing ambiguous. No request is parsed that has a NUL as such.
    if memchr3(b'%', b'\\', b'.', path.as_bytes()).is_none() {
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
