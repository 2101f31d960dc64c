//! `/jobs`: what became of job starts.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api,
    params::{query_pairs, shown},
    reply::Reply,
    slices::{self, JsonWriter},
};
use crate::{
    error::Error,
    pool::TaskId,
    records::{JobRecords, Record},
    wire_time::WireTime,
};

/// Which records are wanted. All optional.
#[derive(Debug, Default)]
struct Filter {
    request_id: Option<String>,
    key: Option<String>,
    client: Option<String>,
    task_id: Option<TaskId>,
    since: Option<Timestamp>,
}

impl Filter {
    fn from_query(query: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for pair in query_pairs(query) {
            let (name, value) = pair?;
            let is_new = match name {
                "requestId" => filter.request_id.replace(value).is_none(),
                "key" => filter.key.replace(value).is_none(),
                "client" => filter.client.replace(value).is_none(),
                "taskId" => {
                    let task_id = value
                        .parse()
                        .map_err(|_error| Error::bad_request(name, "expected digits"))?;
                    filter.task_id.replace(task_id).is_none()
                }
                "since" => {
                    let since = value.parse().map_err(|_error| {
                        let expected = "expected a time such as 2026-01-31T12:00:00Z";
                        Error::bad_request(name, expected)
                    })?;
                    filter.since.replace(since).is_none()
                }
                _ => {
                    let expected = "unknown; expected requestId, key, client, taskId or since";
                    return Err(Error::bad_request(shown(name), expected));
                }
            };
            if !is_new {
                return Err(Error::bad_request(name, "given twice"));
            }
        }
        Ok(filter)
    }

    fn accepts(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        is(&self.request_id, Some(&record.request_id))
            && is(&self.key, record.key.as_deref())
            && is(&self.client, record.client_name.as_deref())
            && (self.task_id.is_none() || self.task_id.as_ref() == record.task_id())
            && self.since.is_none_or(|since| since <= record.at)
    }
}

/// What became of one job start, on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobBody {
    request_id: Arc<str>,
    client: Option<Arc<str>>,
    operation: Arc<str>,
    email: Option<Arc<str>>,
    /// A string: ids can exceed `2^53`, which many readers of JSON round.
    task_id: Option<String>,
    outcome: &'static str,
    is_delivered: bool,
    at: WireTime,
    result: Option<&'static str>,
}

impl JobBody {
    fn new(record: &Record) -> Self {
        Self {
            request_id: Arc::clone(&record.request_id),
            client: record.client_name.clone(),
            operation: Arc::clone(&record.body.operation),
            email: record.email.clone(),
            task_id: record.task_id().map(|id| id.as_str().to_owned()),
            outcome: record.outcome.as_str(),
            is_delivered: record.is_delivered(),
            at: WireTime(record.at),
            result: record.result.map(|result| result.as_str()),
        }
    }
}

impl Api {
    /// Answers with the records that the query asks for, newest first.
    pub(super) async fn list_jobs(&self, query: &str) -> Result<Reply, Error> {
        let filter = Filter::from_query(query)?;
        // Without the upstream's token no call is carried.
        let upstream = self.deps.upstream.as_ref();
        let records = upstream.map(|it| Arc::clone(it.forward.records()));
        if let Some(records) = &records {
            records.resolve_lost(&self.deps.ledger).await?;
        }
        slices::json(|json| write_jobs(records, filter, json)).await
    }
}

/// Writes a part of the records after the other: neither their table nor the memory is taken for all of them.
async fn write_jobs(
    records: Option<Arc<JobRecords>>,
    filter: Filter,
    mut json: JsonWriter,
) -> Result<(), Error> {
    json.open(r#"{"jobs":"#);
    if let Some(records) = records {
        let mut next = None;
        loop {
            let part;
            (part, next) = records.part(next, |record| filter.accepts(record));
            for (_, record) in &part {
                json.row(&JobBody::new(record));
            }
            if next.is_none() {
                break;
            }
            json.may_pause().await;
        }
    }
    json.raw("]");
    json.close().await;
    Ok(())
}
