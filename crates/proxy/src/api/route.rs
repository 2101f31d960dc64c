//! Maps paths and methods to routes.

mod table;

use http::Request;
use memchr::memchr;
use percent_encoding::percent_decode_str;

use super::params::shown;
use crate::{error::Error, forward::is_upstream};

#[cfg(test)]
pub(super) use table::Operation;
pub(crate) use table::ROUTES;
pub(super) use table::{Access, Endpoint, Row};

/// What is asked for: a row of the table, and the name in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) row: &'static Row,
    /// The place of the row in the table.
    pub(super) place: usize,
    /// The lease or the account. Empty where the path has none.
    pub(super) name: String,
}

impl Route {
    /// Finds the route of `path`. `None`: nothing is served there.
    pub(super) fn find(path: &str) -> Option<Self> {
        let is_upstream = is_upstream(path);
        let (place, row, name) = ROUTES.iter().enumerate().find_map(|(place, row)| {
            let name = if row.endpoint == Endpoint::Upstream {
                is_upstream.then_some("")?
            } else if row.has_name() {
                row.name_in(path).filter(|name| !name.is_empty())?
            } else {
                (row.template == path).then_some("")?
            };
            Some((place, row, name))
        })?;
        let name = match memchr(b'%', name.as_bytes()) {
            Some(_) => percent_decode_str(name).decode_utf8().ok()?.into_owned(),
            None => name.to_owned(),
        };
        Some(Self { row, place, name })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.row.endpoint
    }

    /// Who may call.
    pub(super) fn access(&self) -> Access {
        self.row.access
    }

    /// Whether the metrics listener serves it.
    pub(super) fn is_monitoring(&self) -> bool {
        matches!(
            self.row.endpoint,
            Endpoint::Metrics | Endpoint::Livez | Endpoint::Readyz
        )
    }

    /// Refuses what the route does not take: other methods, or a query that it would ignore in silence.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Error> {
        if !self.row.allows(request.method().as_str()) {
            let allow = self.row.allow;
            return Err(Error::MethodNotAllowed { allow });
        }
        match request.uri().query() {
            Some(query) if self.row.query.is_refused() => {
                let name = query.split(['=', '&']).next().unwrap_or_default();
                let expected = "unknown; this path takes no query";
                Err(Error::bad_request(shown(name), expected))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_name() {
        for row in &ROUTES {
            let route = Route::find(row.template).unwrap();
            assert_eq!((route.row, &ROUTES[route.place]), (row, row));
        }
    }

    #[test]
    fn a_name_is_one_segment_and_not_nothing() {
        for path in [
            "/leases/",
            "/leases/a/b",
            "/accounts//drain",
            "/accounts/a/",
            "/accounts/%ff",
        ] {
            assert_eq!(Route::find(path), None, "{path}");
        }
        assert_eq!(Route::find("/accounts/a%2Fb/drain").unwrap().name, "a/b");
    }
}
