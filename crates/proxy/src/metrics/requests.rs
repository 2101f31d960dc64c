//! The calls that we answer, by route, method and status.

use std::{sync::OnceLock, time::Duration};

use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::{OTHER, REQUEST_BUCKETS};
use crate::api::ROUTES;

/// The status under which calls are counted whose client left before the answer.
const CLIENT_GONE_CODE: &str = "499";
/// Statuses that have labels of their own, beside the registered ones: those of gateways on the way to the upstream,
/// and the upstream's own.
const GATEWAY_CODES: [u16; 11] = [499, 520, 521, 522, 523, 524, 525, 526, 527, 530, 596];
/// The statuses of most answers.
const USUAL_CODES: [u16; 3] = [200, 204, 429];
/// The methods that have labels of their own, and that of all others.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", OTHER,
];

/// A method as a label: one of a closed set, even if a client invents a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MethodLabel(usize);

impl MethodLabel {
    pub(crate) fn of(method: &Method) -> Self {
        Self(match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::POST => 2,
            Method::PUT => 3,
            Method::DELETE => 4,
            Method::PATCH => 5,
            Method::OPTIONS => 6,
            Method::CONNECT => 7,
            Method::TRACE => 8,
            _ => 9,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        METHODS[self.0]
    }
}

/// A route as a label: a template, never what a client sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteLabel(Option<usize>);

impl RouteLabel {
    /// That of the row in this place of [`ROUTES`], or of what is served nowhere.
    pub(crate) fn of(place: Option<usize>) -> Self {
        Self(place)
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.0.map_or("none", |place| ROUTES[place].template)
    }
}

/// Counts calls.
#[derive(Debug)]
pub(super) struct Requests {
    counts: IntCounterVec,
    durations: HistogramVec,
    /// Those of each route, and last of what is served nowhere.
    found: Vec<Found>,
}

/// The series of a route that are in use: they are looked up by their labels once, since that took 350 instructions of
/// each call.
#[derive(Debug, Default)]
struct Found {
    duration: OnceLock<Histogram>,
    counts: [[OnceLock<IntCounter>; USUAL_CODES.len()]; METHODS.len()],
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counts = IntCounterVec::new(
            Opts::new(
                "http_requests_total",
                "Calls answered, by route, method and status.",
            ),
            &["route", "method", "code"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new("http_request_duration_seconds", "Time from head to answer.")
                .buckets(REQUEST_BUCKETS.to_vec()),
            &["route"],
        )?;
        registry.register(Box::new(counts.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        counts.with_label_values(&["/pick", "GET", "200"]);
        counts.with_label_values(&["/pick", "POST", "200"]);
        durations.with_label_values(&["/pick"]);
        Ok(Self {
            counts,
            durations,
            found: (0..=ROUTES.len()).map(|_| Found::default()).collect(),
        })
    }

    /// A call has ended after `took`, with this status, or because its client left.
    pub(super) fn count(
        &self,
        route: RouteLabel,
        method: MethodLabel,
        status: Option<StatusCode>,
        took: Duration,
    ) {
        let found = &self.found[route.0.unwrap_or(ROUTES.len())];
        let usual = status.and_then(|status| USUAL_CODES.iter().position(|usual| status == *usual));
        let count = || {
            let code = status.as_ref().map_or(CLIENT_GONE_CODE, code_label);
            let labels = [route.as_str(), method.as_str(), code];
            self.counts.with_label_values(&labels)
        };
        match usual {
            Some(usual) => found.counts[method.0][usual].get_or_init(count).inc(),
            None => count().inc(),
        }
        let duration = || self.durations.with_label_values(&[route.as_str()]);
        let duration = found.duration.get_or_init(duration);
        duration.observe(took.as_secs_f64());
    }
}

/// A status as a label: one of a closed set, even if the upstream invents a status.
fn code_label(status: &StatusCode) -> &str {
    let is_known = status.canonical_reason().is_some() || GATEWAY_CODES.contains(&status.as_u16());
    if is_known { status.as_str() } else { OTHER }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_call_is_counted_under_the_labels_that_it_has() {
        let registry = Registry::new();
        let requests = Requests::new(&registry).unwrap();
        let methods = METHODS.map(|name| Method::from_bytes(name.as_bytes()).unwrap());
        let statuses = [200, 204, 404, 429, 499, 555].map(|code| StatusCode::from_u16(code).ok());
        let routes = (0..ROUTES.len()).map(Some).chain([None]);
        for route in routes.clone() {
            for method in &methods {
                for status in statuses.into_iter().chain([None]) {
                    let (route, method) = (RouteLabel::of(route), MethodLabel::of(method));
                    requests.count(route, method, status, Duration::ZERO);
                    requests.count(route, method, status, Duration::ZERO);
                }
            }
        }
        let text = TextEncoder::new();
        let text = text.encode_to_string(&registry.gather()).unwrap();
        for route in routes.map(|place| RouteLabel::of(place).as_str()) {
            for method in METHODS {
                // A client that left, and a 499, are one.
                for (code, count) in [
                    ("200", 2),
                    ("204", 2),
                    ("404", 2),
                    ("429", 2),
                    ("499", 4),
                    (OTHER, 2),
                ] {
                    let labels = format!(r#"code="{code}",method="{method}",route="{route}""#);
                    let line = format!("http_requests_total{{{labels}}} {count}\n");
                    assert!(text.contains(&line), "{line}");
                }
            }
            let line = format!(
                "http_request_duration_seconds_count{{route=\"{route}\"}} {}\n",
                2 * 7 * METHODS.len()
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}
