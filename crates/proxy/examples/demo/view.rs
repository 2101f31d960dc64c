//! How the sidecar sees its accounts, as it tells everybody over HTTP.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use crate::rest::{Failure, Server, read};

/// Picks that wait, in the Prometheus text of `/metrics`.
const WAITERS_METRIC: &str = "kling_balancer_waiters ";

/// One look at the sidecar.
#[derive(Debug)]
pub(crate) struct View {
    /// The accounts in list order.
    pub(crate) accounts: Vec<Account>,
    /// Calls that wait for a slot.
    pub(crate) waiting: u64,
}

/// An account of `GET /accounts`; the fields that are shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// Its name.
    pub(crate) email: String,
    /// Its slots.
    pub(crate) max_jobs: usize,
    /// Its slots in use.
    pub(crate) in_flight: usize,
    /// Those of jobs that were not started through the sidecar.
    pub(crate) foreign_jobs: usize,
    /// Those that were picked.
    #[serde(skip)]
    pub(crate) picked: usize,
    /// Whether it can be picked.
    pub(crate) state: String,
    /// How long its leases have been held, in seconds, the oldest first.
    #[serde(skip)]
    pub(crate) ages_s: Vec<i64>,
}

#[derive(Deserialize)]
struct AccountList {
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
struct LeaseList {
    leases: Vec<Lease>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    email: String,
    kind: String,
    created_at: String,
}

impl View {
    /// Asks for the accounts, the leases and the waiters.
    ///
    /// # Errors
    /// [`Failure`] if one of them is not answered as documented.
    pub(crate) async fn fetch(balancer: &Server) -> Result<Self, Failure> {
        let answer = balancer.call(Method::GET, "/accounts", None).await?;
        let AccountList { mut accounts } = read("/accounts", &answer)?;
        let answer = balancer.call(Method::GET, "/leases", None).await?;
        let LeaseList { leases } = read("/leases", &answer)?;
        let now = Timestamp::now();
        for lease in leases {
            let account = accounts.iter_mut().find(|it| it.email == lease.email);
            if let (Some(account), Ok(since)) = (account, lease.created_at.parse()) {
                account.ages_s.push(now.duration_since(since).as_secs());
                account.picked += usize::from(lease.kind == "pick");
            }
        }
        let metrics = balancer.call(Method::GET, "/metrics", None).await?;
        let waiting = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(WAITERS_METRIC)?.trim().parse().ok());
        Ok(Self {
            accounts,
            waiting: waiting.ok_or_else(|| Failure::Unanswered {
                call: "GET /metrics".to_owned(),
                problem: format!("no {WAITERS_METRIC}in it").into(),
            })?,
        })
    }
}
