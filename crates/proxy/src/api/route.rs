//! Maps paths and methods to routes.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{page::PageFile, params::shown};
use crate::{error::Error, forward::is_upstream};

/// A route, with the names in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Pick,
    Leases,
    Lease(Cow<'a, str>),
    Accounts,
    Account(Cow<'a, str>),
    Drain(Cow<'a, str>),
    Resume(Cow<'a, str>),
    Status,
    Jobs,
    Events,
    Home,
    Page(PageFile),
    Upstream,
    Metrics,
    Livez,
    Readyz,
    Healthz,
}

/// Every route, as [`Route::as_str`] names it.
#[cfg(test)]
pub(crate) const ROUTES: [&str; 19] = [
    "/v1/kling/*",
    "/pick",
    "/leases",
    "/leases/{id}",
    "/accounts",
    "/accounts/{email}",
    "/accounts/{email}/drain",
    "/accounts/{email}/resume",
    "/status",
    "/jobs",
    "/events",
    "/",
    "/dashboard",
    "/dashboard/app.js",
    "/dashboard/app.css",
    "/metrics",
    "/livez",
    "/readyz",
    "/healthz",
];

impl<'a> Route<'a> {
    /// Finds the route of `path`. `None`: nothing is served there.
    pub(super) fn find(path: &'a str) -> Option<Self> {
        match path {
            "/pick" => return Some(Self::Pick),
            "/leases" => return Some(Self::Leases),
            "/accounts" => return Some(Self::Accounts),
            "/status" => return Some(Self::Status),
            "/jobs" => return Some(Self::Jobs),
            "/events" => return Some(Self::Events),
            "/" => return Some(Self::Home),
            "/metrics" => return Some(Self::Metrics),
            "/livez" => return Some(Self::Livez),
            "/readyz" => return Some(Self::Readyz),
            "/healthz" => return Some(Self::Healthz),
            _ => {}
        }
        if is_upstream(path) {
            return Some(Self::Upstream);
        }
        if let Some(file) = PageFile::find(path) {
            return Some(Self::Page(file));
        }
        let mut segments = path.strip_prefix('/')?.split('/');
        let (place, name) = (segments.next()?, segments.next()?);
        let name = percent_decode_str(name)
            .decode_utf8()
            .ok()
            .filter(|name| !name.is_empty())?;
        match (place, segments.next(), segments.next()) {
            ("leases", None, None) => Some(Self::Lease(name)),
            ("accounts", None, None) => Some(Self::Account(name)),
            ("accounts", Some("drain"), None) => Some(Self::Drain(name)),
            ("accounts", Some("resume"), None) => Some(Self::Resume(name)),
            _ => None,
        }
    }

    /// The route as metrics and logs name it: a template, never what a client sent.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Pick => "/pick",
            Self::Leases => "/leases",
            Self::Lease(_) => "/leases/{id}",
            Self::Accounts => "/accounts",
            Self::Account(_) => "/accounts/{email}",
            Self::Drain(_) => "/accounts/{email}/drain",
            Self::Resume(_) => "/accounts/{email}/resume",
            Self::Upstream => "/v1/kling/*",
            Self::Status => "/status",
            Self::Jobs => "/jobs",
            Self::Events => "/events",
            Self::Home => "/",
            Self::Page(file) => file.path(),
            Self::Metrics => "/metrics",
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
            Self::Healthz => "/healthz",
        }
    }

    /// Whether it answers without a client token: probes have none.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Livez | Self::Readyz | Self::Healthz)
    }

    /// Whether it answers a client that shows no token, since a browser that opens it cannot: it tells nothing of the
    /// accounts. Beside tokens, its `Host` may be any, too.
    pub(super) fn is_public(&self) -> bool {
        self.is_open() || matches!(self, Self::Home | Self::Page(_))
    }

    /// Whether the metrics listener serves it.
    pub(super) fn is_monitoring(&self) -> bool {
        matches!(self, Self::Metrics | Self::Livez | Self::Readyz)
    }

    /// Refuses a query on a route that reads none: it would be ignored silently.
    pub(super) fn check_query(&self, query: Option<&str>) -> Result<(), Error> {
        match (self, query) {
            (
                Self::Pick
                | Self::Leases
                | Self::Accounts
                | Self::Upstream
                | Self::Jobs
                | Self::Metrics
                | Self::Livez
                | Self::Readyz
                | Self::Healthz,
                _,
            )
            | (_, None) => Ok(()),
            (_, Some(query)) => {
                let name = query.split(['=', '&']).next().unwrap_or_default();
                Err(Error::bad_request(
                    shown(name),
                    "unknown; this path takes no query",
                ))
            }
        }
    }

    /// Refuses methods the route does not take. `HEAD` is allowed wherever reading changes nothing.
    pub(super) fn check_method(&self, method: &Method) -> Result<(), Error> {
        let (allow, methods): (_, &[Method]) = match self {
            Self::Upstream => return Ok(()),
            Self::Pick => ("GET, POST", &[Method::GET, Method::POST]),
            Self::Lease(_) => (
                "GET, HEAD, PUT, DELETE",
                &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            ),
            Self::Drain(_) | Self::Resume(_) => ("POST", &[Method::POST]),
            Self::Leases
            | Self::Accounts
            | Self::Account(_)
            | Self::Status
            | Self::Jobs
            | Self::Events
            | Self::Home
            | Self::Page(_)
            | Self::Metrics
            | Self::Livez
            | Self::Readyz
            | Self::Healthz => ("GET, HEAD", &[Method::GET, Method::HEAD]),
        };
        if methods.contains(method) {
            Ok(())
        } else {
            Err(Error::MethodNotAllowed { allow })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_name() {
        let found = ROUTES.map(|name| Route::find(name).map(|route| route.as_str()));
        assert_eq!(found, ROUTES.map(Some));
    }
}
