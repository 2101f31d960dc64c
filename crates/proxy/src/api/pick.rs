//! `/pick`: choose an account with a free slot and lease the slot, in one step.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;

use std::{borrow::Cow, future::ready, mem, sync::Arc, time::Duration};

use http::Request;
use http_body::Body;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Answering, Api,
    leases::{self, LeaseBody},
    params::{self, query_pairs, shown},
    reply::{self, Reply},
    slices::{self, JsonWriter},
};
use crate::{
    boxed::pinned,
    config::{Leases, Selection, TTL_MIN, duration, in_words},
    error::Error,
    idempotency::{self, Caller},
    ledger::{LeaseNow, PickRequest, ROWS_MAX, Slot},
    peer::RequestBody,
    picker::Picked,
    pool::{self, AccountView, Claim, Fingerprint, FingerprintHasher, Key, Known, LeaseId, Name},
};

/// The most accounts one call may exclude: more than the 200 that metrics tell apart.
const EXCLUDE_MAX: usize = 256;

/// What the query or the body of a pick says. All optional.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Params {
    email: Option<String>,
    exclude: Option<Vec<String>>,
    wait: Option<String>,
    ttl: Option<String>,
    dry_run: Option<bool>,
}

impl Params {
    fn from_query(query: &str) -> Result<Self, Error> {
        let mut params = Self::default();
        for pair in query_pairs(query) {
            let (name, value) = pair?;
            let is_new = match name {
                "email" => params.email.replace(value).is_none(),
                "wait" => params.wait.replace(value).is_none(),
                "ttl" => params.ttl.replace(value).is_none(),
                "dryRun" => params.dry_run.replace(read_flag(name, &value)?).is_none(),
                "exclude" => {
                    params.exclude.get_or_insert_default().push(value);
                    true
                }
                _ => {
                    let expected = "unknown; expected email, exclude, wait, ttl or dryRun";
                    return Err(Error::bad_request(shown(name), expected));
                }
            };
            if !is_new {
                return Err(Error::bad_request(name, "given twice"));
            }
        }
        Ok(params)
    }

    /// Query and body together. A field in both is an error, even with the same value.
    fn join(self, other: Self) -> Result<Self, Error> {
        fn one<T>(field: &str, a: Option<T>, b: Option<T>) -> Result<Option<T>, Error> {
            match (a, b) {
                (Some(_), Some(_)) => Err(Error::bad_request(
                    field,
                    "given in the query and in the body",
                )),
                (a, b) => Ok(a.or(b)),
            }
        }
        Ok(Self {
            email: one("email", self.email, other.email)?,
            exclude: one("exclude", self.exclude, other.exclude)?,
            wait: one("wait", self.wait, other.wait)?,
            ttl: one("ttl", self.ttl, other.ttl)?,
            dry_run: one("dryRun", self.dry_run, other.dry_run)?,
        })
    }

    fn is_dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }

    /// The pick that `caller` asks for with them.
    fn request(
        self,
        selection: &Selection,
        leases: &Leases,
        caller: pool::Caller,
    ) -> Result<PickRequest, Error> {
        let exclude = self.exclude.unwrap_or_default();
        if exclude.len() > EXCLUDE_MAX {
            let expected = format!("expected at most {EXCLUDE_MAX} e-mails");
            return Err(Error::bad_request("exclude", expected));
        }
        if self.email.as_deref() == Some("") {
            return Err(Error::bad_request(
                "email",
                "expected an e-mail, not nothing",
            ));
        }
        if exclude.iter().any(String::is_empty) {
            return Err(Error::bad_request(
                "exclude",
                "expected e-mails, not nothing",
            ));
        }
        let contradicts =
            |email: &String| exclude.iter().any(|name| name.eq_ignore_ascii_case(email));
        if self.email.as_ref().is_some_and(contradicts) {
            return Err(Error::bad_request(
                "exclude",
                "names the account that email asks for",
            ));
        }
        let wait = match self.wait {
            Some(text) => read_duration("wait", &text)?.min(selection.wait_max),
            None => selection.wait,
        };
        let ttl = match self.ttl {
            Some(text) => read_ttl(&text, leases)?,
            None => leases.ttl,
        };
        // Each field: the default has an empty list and an empty text, which all threads share and count.
        Ok(PickRequest {
            lease: None,
            caller,
            email: self.email.as_deref().map(Name::or_alias),
            preferred: None,
            exclude: Name::sorted(&exclude),
            ttl: Some(ttl),
            wait,
            operation: None,
            body: None,
            mark: None,
            max_jobs: None,
            place: None,
            claim: None,
        })
    }
}

fn read_flag(name: &str, value: &str) -> Result<bool, Error> {
    value
        .parse()
        .map_err(|_error| Error::bad_request(name, "expected true or false"))
}

/// An account in a dry run.
#[derive(Serialize)]
struct Standing {
    #[serde(skip)]
    is_eligible: bool,
    email: Arc<str>,
    state: &'static str,
    reason: Option<Cow<'static, str>>,
}

impl Standing {
    fn new(account: &AccountView, is_eligible: bool) -> Self {
        let reason = account.reason().map(|reason| Cow::Owned(reason.to_owned()));
        let of_the_call = Cow::Borrowed("this call asks for another one, or excludes it");
        Self {
            is_eligible,
            email: Arc::clone(&account.email),
            state: account.state.as_str(),
            reason: reason.or((!is_eligible).then_some(of_the_call)),
        }
    }
}

/// What the head of a pick says: its idempotency key, and its query.
fn read_head(
    request: &Request<RequestBody>,
    caller: &Caller,
) -> Result<(Option<Key>, Params), Error> {
    let key = idempotency::read(request.headers(), caller, request.method(), "/pick")?;
    let params = Params::from_query(request.uri().query().unwrap_or_default())?;
    Ok((key, params))
}

impl Api {
    /// Answers a pick that came at `asked_at`, and counts how it ended.
    ///
    /// One without a body is read at once: what it is awaited with would have room for its request twice, and be as long
    /// again.
    pub(super) fn pick(
        &self,
        request: &mut Request<RequestBody>,
        caller: Caller,
        request_id: Arc<str>,
        asked_at: Instant,
    ) -> Answering<'_> {
        let (key, params) = match read_head(request, &caller) {
            Ok(read) => read,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let caller = caller.of_call(request_id);
        if !request.body().is_end_stream() {
            let request = mem::take(request);
            return Box::pin(async move {
                let in_body = Box::pin(params::json_object(request)).await?;
                let params = params.join(in_body)?;
                let is_dry_run = params.is_dry_run();
                let pick = self.asked(key, params, caller)?;
                // A client may take its time to say what it asks for.
                self.answer_pick(pick, is_dry_run, Instant::now()).await
            });
        }
        let is_dry_run = params.is_dry_run();
        match self.asked(key, params, caller) {
            Ok(pick) => pinned(|| self.answer_pick(pick, is_dry_run, asked_at)),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    /// The pick that a call asks for.
    fn asked(
        &self,
        key: Option<Key>,
        params: Params,
        caller: pool::Caller,
    ) -> Result<PickRequest, Error> {
        let mut pick = params.request(&self.selection, &self.leases, caller)?;
        pick.claim = key.map(|key| Claim {
            key,
            fingerprint: fingerprint(&pick),
        });
        Ok(pick)
    }

    async fn answer_pick(
        &self,
        pick: PickRequest,
        is_dry_run: bool,
        asked_at: Instant,
    ) -> Result<Reply, Error> {
        if is_dry_run {
            return Box::pin(self.dry_run(&pick)).await;
        }
        match self.deps.picker.pick(&pick, asked_at).await? {
            Picked::Slot(slot) => Ok(granted(slot)),
            Picked::Known(Known::Held(lease)) => Box::pin(self.held(lease.id)).await,
            Picked::Known(known) => Err(known.into()),
        }
    }

    /// The lease that an earlier pick under the same key was granted.
    async fn held(&self, id: LeaseId) -> Result<Reply, Error> {
        let lease = self.deps.ledger.call(LeaseNow { id }).await?;
        // The lease has just ended: the key is free, and the next pick under it gets a new lease.
        let lease = lease.ok_or(Error::KeyInUse { tasks: Vec::new() })?;
        Ok(reply::json(&LeaseBody::new(&lease)))
    }

    async fn dry_run(&self, pick: &PickRequest) -> Result<Reply, Error> {
        let mut found = Vec::new();
        let walk = self.deps.ledger.dry_run(pick, |account, is_eligible| {
            found.push(Standing::new(account, is_eligible));
        });
        walk.await
            .map_err(|error| self.deps.picker.explain(error.into()))?;
        slices::json(|json| write_dry_run(found, json)).await
    }
}

/// Reads the ttl of a pick.
pub(super) fn read_ttl(text: &str, leases: &Leases) -> Result<Duration, Error> {
    let ttl = read_duration("ttl", text)?;
    if (TTL_MIN..=leases.ttl_max).contains(&ttl) {
        return Ok(ttl);
    }
    let (min, max) = (TTL_MIN, leases.ttl_max);
    let expected = format!("expected {} to {}", in_words(min), in_words(max));
    Err(Error::bad_request("ttl", expected))
}

async fn write_dry_run(found: Vec<Standing>, mut json: JsonWriter) -> Result<(), Error> {
    json.open(r#"{"eligible":"#);
    for part in found.chunks(ROWS_MAX) {
        for account in part.iter().filter(|account| account.is_eligible) {
            json.row(&account.email);
        }
        json.may_pause().await;
    }
    json.open(r#"],"accounts":"#);
    for part in found.chunks(ROWS_MAX) {
        for account in part {
            json.row(account);
        }
        json.may_pause().await;
    }
    json.raw("]");
    json.close().await;
    Ok(())
}

fn granted(slot: Slot) -> Reply {
    let (lease, hold) = slot.into_parts();
    let mut reply = reply::written_json(leases::written(&lease, &lease.calendar));
    reply.body_mut().carry(hold);
    reply
}

/// Differs between two different picks under the same key.
fn fingerprint(request: &PickRequest) -> Fingerprint {
    let mut hashing = FingerprintHasher::default();
    hashing.field(b"/pick");
    // No pick asks for an account without a name, or for no ttl.
    let email = request.email.as_ref().map(|name| name.given().as_bytes());
    hashing.field(email.unwrap_or_default());
    for time in [request.ttl.unwrap_or_default(), request.wait] {
        hashing.field(&time.as_nanos().to_le_bytes());
    }
    for name in request.exclude.iter() {
        hashing.field(name.given().as_bytes());
    }
    hashing.finish()
}

fn read_duration(field: &str, text: &str) -> Result<Duration, Error> {
    duration(text).map_err(|expected| Error::bad_request(field, expected))
}
