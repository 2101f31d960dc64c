//! Maps paths and methods to routes.

mod table;

use std::borrow::Cow;

use http::Request;
use percent_encoding::percent_decode_str;

use super::params::shown;
use crate::{error::Error, forward::is_upstream};

#[cfg(test)]
pub(super) use table::Operation;
pub(crate) use table::ROUTES;
pub(super) use table::{Access, Endpoint, Row};

/// What is asked for: a row of the table, and the name in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) row: &'static Row,
    /// The lease or the account. Empty where the path has none.
    pub(super) name: Cow<'a, str>,
}

impl<'a> Route<'a> {
    /// Finds the route of `path`. `None`: nothing is served there.
    pub(super) fn find(path: &'a str) -> Option<Self> {
        let find = |is_it: &dyn Fn(&Row) -> bool| ROUTES.iter().find(|row| is_it(row));
        let unnamed = if is_upstream(path) {
            find(&|row| row.endpoint == Endpoint::Upstream)
        } else {
            find(&|row| row.template == path && !row.has_name())
        };
        if let Some(row) = unnamed {
            let name = Cow::Borrowed("");
            return Some(Self { row, name });
        }
        let (row, name) = ROUTES
            .iter()
            .find_map(|row| Some((row, row.name_in(path)?)))?;
        let name = percent_decode_str(name).decode_utf8().ok()?;
        (!name.is_empty()).then_some(Self { row, name })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.row.endpoint
    }

    /// The route as metrics and logs name it: a template, never what a client sent.
    pub(super) fn as_str(&self) -> &'static str {
        self.row.template
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
            let route = Route::find(row.template);
            assert_eq!(route.unwrap().as_str(), row.template);
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
