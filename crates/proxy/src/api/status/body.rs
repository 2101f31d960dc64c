//! The text of `/status`.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use accounts_fetcher::Listing;
use bytes::Bytes;
use serde::Serialize;
use tokio::task::yield_now;

use super::{
    Seen,
    history::Point,
    restart::{AtRisk, Keeping, Restart},
};
use crate::{
    api::{Api, accounts::AccountBody, leases::LeaseBody},
    error::Error,
    events::Event,
    ledger::{AccountsAfter, Calendar, Dated, GlanceNow, LeasesAfter, Part, Walk},
    pool::{AccountState, Glance, OperationName, WaiterView},
    wire_time::WireTime,
};

/// The most leases that are shown, oldest first: more than a person reads.
const LEASES_SHOWN_MAX: usize = 50;
/// The most events that are shown, the newest: those who want all read `/events`.
const EVENTS_SHOWN_MAX: usize = 100;
/// A piece of the text. What a client has not read yet keeps a few of them.
const PIECE_BYTES: usize = 64 * 1024;

/// What comes before the accounts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    version: &'static str,
    instance: &'a str,
    up_since: WireTime,
    ready: bool,
    reasons: Vec<String>,
    role: &'static str,
    slots: Slots,
    waiting: Waiting,
    list: ListBody,
    round: RoundBody,
    upstream: UpstreamBody,
}

/// What comes behind them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tail {
    leases: Vec<LeaseBody>,
    waiters: Vec<WaiterBody>,
    events: Vec<Event>,
    history: Vec<Point>,
    median_job_ms: BTreeMap<OperationName, u64>,
    restart: Restart,
}

#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Slots {
    in_flight: u64,
    max: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    count: usize,
    oldest_since: Option<WireTime>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody {
    fetched_at: Option<WireTime>,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoundBody {
    sent_at: Option<WireTime>,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpstreamBody {
    is_reachable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaiterBody {
    /// From 1.
    position: usize,
    operation: Option<OperationName>,
    email: Option<Arc<str>>,
    since: WireTime,
    deadline: WireTime,
    client: Option<Arc<str>>,
}

impl WaiterBody {
    fn new(position: usize, waiter: WaiterView, calendar: &Calendar) -> Self {
        Self {
            position,
            operation: waiter.operation,
            email: waiter.email,
            since: WireTime(calendar.at(waiter.since)),
            deadline: WireTime(calendar.at(waiter.deadline)),
            client: waiter.caller.client,
        }
    }
}

/// The accounts as JSON, and what they sum up to.
#[derive(Default)]
struct AccountRows {
    pieces: Vec<Bytes>,
    slots: Slots,
    drained: usize,
}

impl Api {
    /// Renders everything. Between the parts of the accounts the task steps back.
    pub(super) async fn render_status(&self) -> Result<Vec<Bytes>, Error> {
        let ledger = &self.deps.ledger;
        let rows = self.account_rows().await?;
        let glance = ledger.call(GlanceNow).await?;
        let oldest = Part {
            after: None,
            limit: LEASES_SHOWN_MAX,
        };
        let leases = ledger.call(LeasesAfter(oldest)).await?;
        let reasons = self.reasons().await;
        let seen = self.seen();
        let at_risk = AtRisk {
            leases: glance.view.leases,
            waiting: glance.view.waiters_count,
            drained: rows.drained,
            missed_answers: seen.missed_answers,
            keeping: Keeping {
                is_kept: self.deps.book.borrow().is_kept(),
                is_failing: seen.is_state_failing,
                reconciles: self.status.reconciles,
            },
        };
        let head = self.head(reasons, rows.slots, &glance, seen);
        let leases = leases
            .view
            .rows
            .iter()
            .map(|lease| LeaseBody::of(lease, &leases.calendar));
        let tail = self.tail(leases.collect(), glance, at_risk.restart());
        Ok(joined(&head, rows.pieces, &tail))
    }

    fn head(
        &self,
        reasons: Vec<String>,
        slots: Slots,
        glance: &Dated<Glance>,
        seen: Seen,
    ) -> Head<'_> {
        let first = glance.view.waiters.first();
        Head {
            version: env!("CARGO_PKG_VERSION"),
            instance: &self.status.instance,
            up_since: WireTime(self.status.up_since),
            ready: reasons.is_empty(),
            reasons,
            role: "single",
            slots,
            waiting: Waiting {
                count: glance.view.waiters_count,
                oldest_since: first.map(|waiter| WireTime(glance.calendar.at(waiter.since))),
            },
            list: ListBody {
                fetched_at: seen.list.0.map(WireTime),
                error: seen.list.1,
            },
            round: RoundBody {
                sent_at: seen.round.0.map(WireTime),
                error: seen.round.1,
            },
            upstream: UpstreamBody {
                is_reachable: seen.is_reachable,
            },
        }
    }

    fn tail(&self, leases: Vec<LeaseBody>, glance: Dated<Glance>, restart: Restart) -> Tail {
        let Dated { view, calendar } = glance;
        let waiters = (1..).zip(view.waiters);
        let waiters = waiters.map(|(position, it)| WaiterBody::new(position, it, &calendar));
        let in_ms = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let usual = view.usual.into_iter();
        Tail {
            leases,
            waiters: waiters.collect(),
            events: self.deps.events.recent(EVENTS_SHOWN_MAX),
            history: self.status.history.points(),
            median_job_ms: usual
                .map(|(operation, took)| (operation, in_ms(took)))
                .collect(),
            restart,
        }
    }

    async fn account_rows(&self) -> Result<AccountRows, Error> {
        let mut rows = AccountRows::default();
        let mut piece = Vec::new();
        let mut walk = Walk::new(None, None);
        loop {
            let part = self.deps.ledger.call(AccountsAfter(walk.part())).await?;
            let goes_on = walk.goes_on(&part);
            let Dated { view, calendar } = part;
            for account in view.rows {
                rows.slots.in_flight += u64::from(account.in_flight());
                rows.slots.max += u64::from(account.max_jobs);
                rows.drained += usize::from(account.state == AccountState::Draining);
                if !(rows.pieces.is_empty() && piece.is_empty()) {
                    piece.push(b',');
                }
                write(&mut piece, &AccountBody::new(account, &calendar));
                if piece.len() >= PIECE_BYTES {
                    rows.pieces.push(mem::take(&mut piece).into());
                }
            }
            if !goes_on {
                break;
            }
            yield_now().await;
        }
        rows.pieces.push(piece.into());
        Ok(rows)
    }
}

/// Why the list could not be fetched last, in words.
pub(super) fn list_error(listing: &Listing) -> Option<String> {
    let result = listing.last_result.filter(|it| !it.is_believed())?;
    let problem = listing.last_problem.as_deref();
    Some(problem.unwrap_or(result.as_str()).to_owned())
}

/// One object with the members of `head`, the accounts, and the members of `tail`.
fn joined(head: &Head<'_>, accounts: Vec<Bytes>, tail: &Tail) -> Vec<Bytes> {
    let mut first = Vec::new();
    write(&mut first, head);
    // The object goes on.
    first.pop();
    first.extend_from_slice(br#","accounts":["#);
    let mut rest = Vec::new();
    write(&mut rest, tail);
    // It began before.
    rest[0] = b',';
    rest.insert(0, b']');
    let mut pieces = vec![Bytes::from(first)];
    pieces.extend(accounts);
    pieces.push(rest.into());
    // A reader takes an empty piece for the end.
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn write(text: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(text, value).expect("our answers have string keys and no failing parts");
}
