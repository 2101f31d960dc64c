//! `/leases`: shows, renews, binds and releases leases.

mod written;

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    Api, params,
    pick::read_ttl,
    reply::{self, Reply},
    slices::{self, JsonWriter, PageParams},
};
use crate::{
    error::Error,
    ledger::{self, Calendar, Dated, LeasesAfter, Ledger, Release, UpdateLease},
    peer::RequestBody,
    pool::{LeaseId, LeasePlace, LeaseView, Mark, TaskId, Update},
    wire_time::WireTime,
};

pub(super) use written::written;

/// A lease on the wire.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseBody {
    lease_id: LeaseId,
    email: Arc<str>,
    alias: accounts_fetcher::Alias,
    state: &'static str,
    kind: &'static str,
    /// What its job does.
    operation: Option<Arc<str>>,
    /// The name of the token of the client that asked for it.
    client: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
    max_jobs: u32,
    in_flight: u32,
    /// A string: ids can exceed `2^53`, which many readers of JSON round.
    task_id: Option<String>,
    /// The `replyRef` of its job; of a pick, the one that its client may send.
    #[serde(serialize_with = "as_optional_text")]
    mark: Option<Mark>,
    created_at: WireTime,
    expires_at: Option<WireTime>,
}

impl LeaseBody {
    pub(super) fn new(lease: &Dated<LeaseView>) -> Self {
        Self::of(&lease.view, &lease.calendar)
    }

    pub(super) fn of(lease: &LeaseView, calendar: &Calendar) -> Self {
        Self {
            lease_id: lease.id,
            email: Arc::clone(&lease.email),
            alias: lease.alias,
            state: lease.state.as_str(),
            kind: lease.kind.as_str(),
            operation: lease.operation.clone(),
            client: lease.caller.client.clone(),
            // One from before a restart may tell none.
            request_id: Some(Arc::clone(&lease.caller.request_id)).filter(|id| !id.is_empty()),
            max_jobs: lease.max_jobs,
            in_flight: lease.in_flight,
            task_id: lease
                .task_id
                .as_ref()
                .map(|task_id| task_id.as_str().to_owned()),
            mark: lease.mark,
            created_at: WireTime(calendar.at(lease.created_at)),
            expires_at: lease.expires_at.map(|at| WireTime(calendar.at(at))),
        }
    }
}

fn as_optional_text<S: Serializer>(mark: &Option<Mark>, serializer: S) -> Result<S::Ok, S::Error> {
    match mark {
        Some(mark) => serializer.collect_str(mark),
        None => serializer.serialize_none(),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpdateParams {
    ttl: Option<String>,
    /// Raw, since its digits must not pass through a double.
    task_id: Option<Box<RawValue>>,
}

impl Api {
    /// Answers with the leases, oldest first.
    pub(super) async fn list_leases(&self, query: &str) -> Result<Reply, Error> {
        let page = PageParams::from_query(query)?;
        let ledger = Arc::clone(&self.deps.ledger);
        slices::json(|json| write_leases(ledger, page, json)).await
    }

    /// Gives a slot back.
    pub(super) async fn release(&self, id: &str) -> Result<Reply, Error> {
        let id = read_id(id)?;
        if self.deps.ledger.call(Release { id }).await? {
            Ok(reply::empty(StatusCode::NO_CONTENT))
        } else {
            Err(Error::UnknownLease)
        }
    }

    /// Renews a lease, binds it, or shows it.
    pub(super) async fn lease(
        &self,
        request: Request<RequestBody>,
        id: &str,
    ) -> Result<Reply, Error> {
        let id = read_id(id)?;
        let lease = if request.method() == Method::PUT {
            let update = self.read_update(params::json_object(request).await?)?;
            self.deps.ledger.call(UpdateLease { id, update }).await??
        } else {
            let lease = self.deps.ledger.call(ledger::LeaseNow { id }).await?;
            lease.ok_or(Error::UnknownLease)?
        };
        Ok(reply::json(&LeaseBody::new(&lease)))
    }

    fn read_update(&self, params: UpdateParams) -> Result<Update, Error> {
        if params.ttl.is_none() && params.task_id.is_none() {
            return Err(Error::bad_request("body", "expected ttl, taskId or both"));
        }
        let ttl = params
            .ttl
            .as_deref()
            .map(|text| read_ttl(text, &self.leases))
            .transpose()?;
        let task_id = params.task_id.as_deref().map(read_task_id).transpose()?;
        Ok(Update { ttl, task_id })
    }
}

async fn write_leases(
    ledger: Arc<Ledger>,
    page: PageParams<LeasePlace>,
    mut json: JsonWriter,
) -> Result<(), Error> {
    let mut walk = page.walk();
    json.open(r#"{"leases":"#);
    loop {
        let part = ledger.call(LeasesAfter(walk.part())).await?;
        for lease in &part.rows {
            json.row(&LeaseBody::of(lease, &part.calendar));
        }
        if !walk.goes_on(&part) {
            break;
        }
        json.may_pause().await;
    }
    json.raw("]");
    json.close_page(&page, &walk).await;
    Ok(())
}

/// Text that is not an id names no lease.
fn read_id(text: &str) -> Result<LeaseId, Error> {
    text.parse().map_err(|_error| Error::UnknownLease)
}

fn read_task_id(raw: &RawValue) -> Result<TaskId, Error> {
    TaskId::from_json(raw).map_err(|_error| {
        Error::bad_request(
            "taskId",
            "expected a whole number, or a string of its digits",
        )
    })
}
