//! `/accounts`: our view of the accounts, and the operator's switch.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Api,
    reply::{self, Reply},
    slices::{self, JsonWriter, PageParams},
};
use crate::{
    error::Error,
    ledger::{self, AccountsAfter, Calendar, Dated, Ledger, ShowAccount},
    pool::{AccountPlace, AccountView, JobEnd, Name, Tally},
    wire_time::WireTime,
};

/// An account on the wire. Never a password: the fetcher does not even keep it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountBody {
    email: Arc<str>,
    alias: accounts_fetcher::Alias,
    max_jobs: u32,
    in_flight: u32,
    held: u32,
    uncertain: u32,
    foreign_jobs: u32,
    available: u32,
    state: &'static str,
    reason: Option<String>,
    until: Option<WireTime>,
    session_expires_at: Option<Arc<str>>,
    since: WireTime,
    last_refusal: Option<RefusalBody>,
    jobs: JobsBody,
    next_free_in_ms: Option<u64>,
}

/// What the upstream said when the account last refused a job for a reason of its own.
#[derive(Serialize)]
struct RefusalBody {
    at: WireTime,
    status: u16,
    text: Arc<str>,
}

/// The jobs of an account since the start.
#[derive(Serialize)]
struct JobsBody {
    started: u64,
    succeeded: u64,
    failed: u64,
    unknown: u64,
    moved: u64,
}

impl JobsBody {
    fn new(tally: &Tally) -> Self {
        Self {
            started: tally.started,
            succeeded: tally.ended(JobEnd::Succeeded),
            failed: tally.ended(JobEnd::Failed),
            unknown: tally.ended(JobEnd::Unknown),
            moved: tally.moved,
        }
    }
}

impl AccountBody {
    pub(super) fn new(account: AccountView, calendar: &Calendar) -> Self {
        let reason = account.reason().map(str::to_owned);
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
            reason,
            until: account.until.map(|at| WireTime(calendar.at(at))),
            session_expires_at: account.session_expires_at,
            since: WireTime(calendar.at(account.since)),
            last_refusal: account.last_refusal.map(|refusal| RefusalBody {
                at: WireTime(calendar.at(refusal.at)),
                status: refusal.status,
                text: Arc::clone(&refusal.text),
            }),
            jobs: JobsBody::new(&account.tally),
            next_free_in_ms: account.next_free_in.map(in_whole_ms),
        }
    }
}

fn in_whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Api {
    /// Answers with the accounts, in list order.
    pub(super) async fn list_accounts(&self, query: &str) -> Result<Reply, Error> {
        let page = PageParams::from_query(query)?;
        let fetched_at = self.deps.listing.borrow().fetched_at.map(WireTime);
        let ledger = Arc::clone(&self.deps.ledger);
        slices::json(|json| write_accounts(ledger, page, fetched_at, json)).await
    }

    pub(super) async fn account(&self, name: &str) -> Result<Reply, Error> {
        let name = Name::or_alias(name);
        let Dated { view, calendar } = self.deps.ledger.call(ShowAccount { name }).await??;
        Ok(reply::json(&AccountBody::new(view, &calendar)))
    }

    pub(super) async fn set_draining(&self, name: &str, is_draining: bool) -> Result<Reply, Error> {
        let name = Name::or_alias(name);
        let switch = ledger::SetDraining { name, is_draining };
        let Dated { view, calendar } = self.deps.ledger.call(switch).await??;
        Ok(reply::json(&AccountBody::new(view, &calendar)))
    }
}

async fn write_accounts(
    ledger: Arc<Ledger>,
    page: PageParams<AccountPlace>,
    fetched_at: Option<WireTime>,
    mut json: JsonWriter,
) -> Result<(), Error> {
    let mut walk = page.walk();
    json.open(r#"{"accounts":"#);
    loop {
        let Dated { view, calendar } = ledger.call(AccountsAfter(walk.part())).await?;
        let goes_on = walk.goes_on(&view);
        for account in view.rows {
            json.row(&AccountBody::new(account, &calendar));
        }
        if !goes_on {
            break;
        }
        json.may_pause().await;
    }
    json.raw("]");
    json.member("fetchedAt", &fetched_at);
    json.close_page(&page, &walk).await;
    Ok(())
}
