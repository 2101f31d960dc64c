//! `/accounts`: our view of the accounts, and the operator's switch.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Api,
    leases::WireTime,
    reply::{self, Reply},
};
use crate::{error::Error, ledger::Ledger, pool::AccountView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountsBody {
    accounts: Vec<AccountBody>,
    fetched_at: Option<WireTime>,
}

/// An account on the wire. Never a password: the fetcher does not even keep it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountBody {
    email: Arc<str>,
    alias: Arc<str>,
    max_jobs: u32,
    in_flight: u32,
    held: u32,
    uncertain: u32,
    foreign_jobs: u32,
    available: u32,
    state: &'static str,
    reason: Option<Arc<str>>,
    until: Option<WireTime>,
    session_expires_at: Option<Arc<str>>,
}

impl AccountBody {
    fn new(account: AccountView, ledger: &Ledger) -> Self {
        Self {
            available: account.available(),
            in_flight: account.in_flight(),
            email: account.email,
            alias: account.alias,
            max_jobs: account.max_jobs,
            held: account.held,
            uncertain: account.uncertain,
            foreign_jobs: account.foreign,
            state: account.state.as_str(),
            reason: account.reason,
            until: account.until.map(|at| WireTime(ledger.timestamp(at))),
            session_expires_at: account.session_expires_at,
        }
    }
}

impl Api {
    pub(super) async fn list_accounts(&self) -> Reply {
        let accounts = self
            .ledger
            .accounts()
            .await
            .into_iter()
            .map(|account| AccountBody::new(account, &self.ledger))
            .collect();
        let fetched_at = self.listing.borrow().fetched_at.map(WireTime);
        reply::json(&AccountsBody {
            accounts,
            fetched_at,
        })
    }

    pub(super) async fn account(&self, email: &str) -> Result<Reply, Error> {
        let account = self.ledger.account(email).await?;
        Ok(reply::json(&AccountBody::new(account, &self.ledger)))
    }

    pub(super) async fn set_draining(
        &self,
        email: &str,
        is_draining: bool,
    ) -> Result<Reply, Error> {
        let account = self.ledger.set_draining(email, is_draining).await?;
        Ok(reply::json(&AccountBody::new(account, &self.ledger)))
    }
}
