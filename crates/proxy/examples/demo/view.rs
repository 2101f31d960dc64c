//! How the sidecar sees its accounts, as it tells everybody over HTTP.

use http::Method;
use serde::Deserialize;

use crate::rest::{Failure, Server, read};

/// Picks that wait, in the Prometheus text of `/metrics`.
const WAITERS_METRIC: &str = "kling_balancer_waiters ";

/// One look at the sidecar.
#[derive(Debug)]
pub(crate) struct View {
    /// The accounts in list order.
    pub(crate) accounts: Vec<Account>,
    /// Picks that wait for a slot.
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
    /// Whether it can be picked.
    pub(crate) state: String,
}

#[derive(Deserialize)]
struct AccountList {
    accounts: Vec<Account>,
}

impl View {
    /// Asks for the accounts and the waiters.
    ///
    /// # Errors
    /// [`Failure`] if one of the two is not answered as documented.
    pub(crate) async fn fetch(balancer: &Server) -> Result<Self, Failure> {
        let list = balancer.call(Method::GET, "/accounts", None).await?;
        let list: AccountList = read("/accounts", &list)?;
        let metrics = balancer.call(Method::GET, "/metrics", None).await?;
        let waiting = String::from_utf8_lossy(&metrics)
            .lines()
            .find_map(|line| line.strip_prefix(WAITERS_METRIC)?.trim().parse().ok());
        Ok(Self {
            accounts: list.accounts,
            waiting: waiting.ok_or_else(|| Failure::Unanswered {
                call: "GET /metrics".to_owned(),
                problem: format!("no {WAITERS_METRIC}in it").into(),
            })?,
        })
    }
}
