//! The surface as a table: what is served where, by which methods, to whom, and what may be refused.
//!
//! The code that routes reads it, and so do the README's tests and the OpenAPI document (`api/openapi`).

use memchr::memchr;

use crate::api::page::PageFile;

/// What is served at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Upstream,
    Pick,
    Leases,
    Lease,
    Accounts,
    Account,
    Drain,
    Resume,
    Status,
    Jobs,
    Events,
    /// Leads to the page.
    Home,
    Page(PageFile),
    OpenApi,
    Metrics,
    Livez,
    Readyz,
    Healthz,
}

/// A row of [`ROUTES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) endpoint: Endpoint,
    /// Its path, with `{…}` for a segment that is a name.
    pub(crate) template: &'static str,
    /// What stands before and behind the name.
    around: Option<(&'static str, &'static str)>,
    /// Its methods, as in the `Allow` header. `HEAD` is among them wherever reading changes nothing. Empty: any.
    pub(crate) allow: &'static str,
    pub(crate) access: Access,
    pub(crate) query: Query,
    /// Its methods but `HEAD`. None where the upstream decides what is answered.
    pub(crate) operations: &'static [Operation],
}

/// A method of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    /// The reasons of its refusals, besides those that [`Row::may_refuse`] has for all operations.
    pub(crate) reasons: &'static [&'static str],
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Who shows a client token, or calls by a `Host` of ours where there are none.
    Clients,
    /// Who calls by a `Host` of ours, also while the state is opened: a browser that opens the page cannot show a
    /// token. Beside tokens the `Host` may be any.
    Visitors,
    /// Any caller, also while the state is opened.
    Liveness,
    /// Any caller.
    Probes,
}

impl Access {
    /// Whether no token is wanted.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Clients
    }

    /// Whether the `Host` has to be one of ours, or beside tokens a well-formed one.
    pub(crate) fn checks_host(self) -> bool {
        matches!(self, Self::Clients | Self::Visitors)
    }
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// It is refused.
    Refused,
    /// It is not read.
    Ignored,
    /// These fields are read, and others are refused.
    Fields(&'static [&'static str]),
    /// These fields are read, and others are ignored.
    Flags(&'static [&'static str]),
}

impl Query {
    pub(super) fn is_refused(self) -> bool {
        self == Self::Refused
    }

    /// The fields that are read.
    #[cfg(test)]
    pub(crate) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Refused | Self::Ignored => &[],
            Self::Fields(fields) | Self::Flags(fields) => fields,
        }
    }
}

impl Row {
    pub(super) fn has_name(&self) -> bool {
        self.around.is_some()
    }

    /// The segment of `path` where the template has its name.
    pub(super) fn name_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (before, after) = self.around?;
        let name = path.strip_prefix(before)?.strip_suffix(after)?;
        memchr(b'/', name.as_bytes()).is_none().then_some(name)
    }

    /// Whether `method` is one of the route's.
    pub(super) fn allows(&self, method: &str) -> bool {
        let mut operations = self.operations.iter();
        self.allow.is_empty()
            || operations.any(|operation| operation.method == method)
            || method == "HEAD" && self.allow.contains(method)
    }

    /// Whether a request with `method` may be refused for `reason`. Of methods that are not served, and of calls of the
    /// upstream, nothing is promised.
    pub(crate) fn may_refuse(&self, method: &str, reason: &str) -> bool {
        let is_head = method == "HEAD" && self.allows("HEAD");
        let method = if is_head { "GET" } else { method };
        let mut operations = self.operations.iter();
        let Some(operation) = operations.find(|operation| operation.method == method) else {
            return true;
        };
        let is_look = method == "GET" && self.endpoint != Endpoint::Pick;
        let (is_open, checks_host) = (self.access.is_open(), self.access.checks_host());
        match reason {
            // Of a web page, or with too long a head.
            "forbidden-origin" | "headers-too-large" => true,
            // The path, the query or the `Host`.
            "bad-request" | "wrong-host" => checks_host,
            "unauthorized" => !is_open,
            "read-only" => !is_open && !is_look,
            // While the state is opened.
            "learning" => matches!(self.access, Access::Clients | Access::Probes),
            reason => operation.reasons.contains(&reason),
        }
    }
}

/// What stands before and behind the name in a template.
const fn around_name(template: &'static str) -> Option<(&'static str, &'static str)> {
    let (mut idx, mut start) = (0, template.len());
    let bytes = template.as_bytes();
    while idx < bytes.len() {
        if bytes[idx] == b'{' {
            start = idx;
        }
        if bytes[idx] == b'}' {
            let (before, _) = template.split_at(start);
            let (_, behind) = template.split_at(idx + 1);
            return Some((before, behind));
        }
        idx += 1;
    }
    None
}

const GET: &str = "GET, HEAD";

/// A route that is only read, and refuses nothing of its own.
const fn read(endpoint: Endpoint, template: &'static str, query: Query) -> Row {
    Row {
        endpoint,
        template,
        around: around_name(template),
        allow: GET,
        access: Access::Clients,
        query,
        operations: &[Operation {
            method: "GET",
            reasons: &[],
        }],
    }
}

const PAGES: Query = Query::Fields(&["limit", "after"]);

const LEASE: &[Operation] = &[
    Operation {
        method: "GET",
        reasons: &["unknown-lease"],
    },
    Operation {
        method: "PUT",
        reasons: &["unknown-lease", "body-too-large", "unsupported-media"],
    },
    Operation {
        method: "DELETE",
        reasons: &["unknown-lease"],
    },
];

/// Those of a pick, whatever its method.
const PICK: &[&str] = &[
    "saturated",
    "unverified",
    "cooling-down",
    "queue-full",
    "no-accounts",
    "no-usable-account",
    "token-rejected",
    "shutting-down",
    "store-unavailable",
    "unknown-account",
    "key-in-use",
    "key-reused",
    "body-too-large",
    "unsupported-media",
];

const READINESS: &[Operation] = &[Operation {
    method: "GET",
    reasons: &[
        "no-accounts",
        "no-usable-account",
        "token-rejected",
        "shutting-down",
    ],
}];

/// What a browser opens.
const fn visit(endpoint: Endpoint, template: &'static str) -> Row {
    Row {
        access: Access::Visitors,
        ..read(endpoint, template, Query::Refused)
    }
}

/// What an operator does to one account.
const fn switch(endpoint: Endpoint, template: &'static str) -> Row {
    Row {
        allow: "POST",
        operations: &[Operation {
            method: "POST",
            reasons: &["unknown-account"],
        }],
        ..read(endpoint, template, Query::Refused)
    }
}

/// Every route.
pub(crate) static ROUTES: [Row; 20] = [
    Row {
        allow: "",
        operations: &[],
        ..read(Endpoint::Upstream, "/v1/kling/*", Query::Ignored)
    },
    Row {
        allow: "GET, POST",
        operations: &[
            Operation {
                method: "GET",
                reasons: PICK,
            },
            Operation {
                method: "POST",
                reasons: PICK,
            },
        ],
        ..read(
            Endpoint::Pick,
            "/pick",
            Query::Fields(&["email", "exclude", "wait", "ttl", "dryRun"]),
        )
    },
    read(Endpoint::Leases, "/leases", PAGES),
    Row {
        allow: "GET, HEAD, PUT, DELETE",
        operations: LEASE,
        ..read(Endpoint::Lease, "/leases/{id}", Query::Refused)
    },
    read(Endpoint::Accounts, "/accounts", PAGES),
    Row {
        operations: &[Operation {
            method: "GET",
            reasons: &["unknown-account"],
        }],
        ..read(Endpoint::Account, "/accounts/{email}", Query::Refused)
    },
    switch(Endpoint::Drain, "/accounts/{email}/drain"),
    switch(Endpoint::Resume, "/accounts/{email}/resume"),
    read(Endpoint::Status, "/status", Query::Refused),
    read(
        Endpoint::Jobs,
        "/jobs",
        Query::Fields(&["requestId", "key", "client", "taskId", "since"]),
    ),
    Row {
        operations: &[Operation {
            method: "GET",
            reasons: &["queue-full"],
        }],
        ..read(Endpoint::Events, "/events", Query::Refused)
    },
    visit(Endpoint::Home, "/"),
    visit(Endpoint::Page(PageFile::Document), "/dashboard"),
    visit(Endpoint::Page(PageFile::Script), "/dashboard/app.js"),
    visit(Endpoint::Page(PageFile::Style), "/dashboard/app.css"),
    read(Endpoint::OpenApi, "/openapi.json", Query::Refused),
    read(Endpoint::Metrics, "/metrics", Query::Ignored),
    Row {
        access: Access::Liveness,
        ..read(Endpoint::Livez, "/livez", Query::Ignored)
    },
    Row {
        access: Access::Probes,
        operations: READINESS,
        ..read(Endpoint::Readyz, "/readyz", Query::Flags(&["verbose"]))
    },
    Row {
        access: Access::Probes,
        operations: READINESS,
        ..read(Endpoint::Healthz, "/healthz", Query::Flags(&["verbose"]))
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn allowed_are_the_operations_and_head_where_reading_changes_nothing() {
        for row in ROUTES
            .iter()
            .filter(|row| row.endpoint != Endpoint::Upstream)
        {
            let mut expected = Vec::new();
            for operation in row.operations {
                expected.push(operation.method);
                if operation.method == "GET" && row.endpoint != Endpoint::Pick {
                    expected.push("HEAD");
                }
            }
            assert_eq!(row.allow, expected.join(", "), "{}", row.template);
        }
    }

    #[test]
    fn every_reason_of_an_operation_is_one_of_an_error() {
        for row in &ROUTES {
            for reason in row.operations.iter().flat_map(|it| it.reasons) {
                let is_known = Error::KINDS.iter().any(|it| it.facts().reason == *reason);
                assert!(is_known, "{}: {reason}", row.template);
            }
        }
    }

    #[test]
    fn picks_are_refused_for_the_reasons_that_the_table_has() {
        let row = ROUTES
            .iter()
            .find(|row| row.endpoint == Endpoint::Pick)
            .unwrap();
        for error in Error::KINDS.iter().filter(|error| error.is_of_picks()) {
            let reason = error.facts().reason;
            assert!(row.may_refuse("GET", reason), "{reason}");
            assert!(row.may_refuse("POST", reason), "{reason}");
        }
    }
}
