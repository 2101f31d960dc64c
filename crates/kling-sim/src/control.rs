//! The simulator's own calls: what a test does through [`Sim`](crate::Sim), over HTTP.
//!
//! They lie below [`CONTROL_PATH`] and require no token.
//!
//! | call | what it does |
//! |---|---|
//! | `GET audit` | shows the audit |
//! | `POST faults` | adds a fault: [`FaultAsked`] |
//! | `DELETE faults` | ends all faults |
//! | `POST reply-refs` | sets what becomes of `replyRef`s: [`ReplyRefsAsked`] |
//! | `POST accounts/{email}` | changes the state of an account: [`AccountAsked`] |

use std::{num::NonZeroU32, time::Duration};

use http::{StatusCode, request::Parts};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    body,
    encode::Encoding,
    fault::{Answer, Effect, Fault},
    refusal::Refusal,
    reply::{self, Reply},
    reply_refs::ReplyRefs,
    shared::Shared,
    world::World,
};

/// The path below which the simulator's own calls lie.
pub(crate) const CONTROL_PATH: &str = "/_sim/";

/// The largest body of such a call: many times what any of them needs.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The most faults that calls may add: more than there are operations and accounts to tell apart.
const FAULTS_MAX: usize = 1_000;

/// A fault, as a call asks for it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FaultAsked {
    effect: EffectAsked,
    /// `jobStarts`, or a method and a path below the base path; absent: all requests.
    on: Option<String>,
    /// The account that requests must name.
    account: Option<String>,
    /// After how many requests it ends; absent: never.
    times: Option<NonZeroU32>,
}

/// An [`Effect`] that takes no more than a number or a name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum EffectAsked {
    Status(u16),
    DelayMs(u64),
    SlowMs(u64),
    StallBefore,
    StallAfter,
    ResetBefore,
    ResetAfter,
    TruncateAfter,
    DripMs(u64),
    Encode(Encoding),
}

/// What becomes of `replyRef`s.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplyRefsAsked {
    reply_refs: ReplyRefs,
    /// A job start, as in `POST /videos/text2video`; absent: all of them.
    on: Option<String>,
}

/// What becomes of an account; what is absent stays as it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AccountAsked {
    hung: Option<bool>,
    has_credit: Option<bool>,
    /// Why it is in error; empty: it is no longer.
    error: Option<String>,
}

/// Answers a call whose path below [`CONTROL_PATH`] is `path`.
pub(crate) async fn answer(shared: &Shared, head: &Parts, path: &str, body: Incoming) -> Reply {
    let done = match (head.method.as_str(), path.split_once('/')) {
        ("GET" | "HEAD", None) if path == "audit" => return audit(shared),
        ("POST", None) if path == "faults" => add_fault(shared, body).await,
        ("DELETE", None) if path == "faults" => {
            shared.visit(|world| world.faults.clear());
            Ok(())
        }
        ("POST", None) if path == "reply-refs" => set_reply_refs(shared, body).await,
        ("POST", Some(("accounts", email))) => change_account(shared, email, body).await,
        _ => Err(Refusal::NoRoute),
    };
    done.map_or_else(Reply::from, |()| reply::no_content())
}

fn audit(shared: &Shared) -> Reply {
    let audit = shared.visit(|world| world.audit());
    let json = serde_json::to_vec(&audit).expect("an audit is strings and numbers");
    reply::json_text(StatusCode::OK, json)
}

async fn add_fault(shared: &Shared, body: Incoming) -> Result<(), Refusal> {
    let fault = read::<FaultAsked>(body).await?.fault()?;
    shared.visit(|world| {
        if world.faults.count() >= FAULTS_MAX {
            return Err(Refusal::TooManyFaults { limit: FAULTS_MAX });
        }
        world.faults.add(fault);
        Ok(())
    })
}

async fn set_reply_refs(shared: &Shared, body: Incoming) -> Result<(), Refusal> {
    let ReplyRefsAsked { reply_refs, on } = read(body).await?;
    let Some(on) = on else {
        shared.visit(|world| world.reply_refs.set(reply_refs));
        return Ok(());
    };
    let path = on.strip_prefix("POST ").unwrap_or_default();
    let is_known = shared.visit(|world| world.set_reply_refs_on(path, reply_refs));
    is_known.then_some(()).ok_or(Refusal::FieldInvalid {
        field: "on",
        expected: "a job start, as in POST /videos/text2video",
    })
}

async fn change_account(shared: &Shared, email: &str, body: Incoming) -> Result<(), Refusal> {
    let asked: AccountAsked = read(body).await?;
    let email = percent_decode_str(email).decode_utf8_lossy();
    let is_known = shared.visit(|world| asked.change(world, &email));
    is_known.then_some(()).ok_or(Refusal::AccountUnknown)
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Refusal> {
    let read = body::read(body, BODY_BYTES_MAX as u64, BODY_BYTES_MAX).await;
    read.end?;
    serde_json::from_slice(&read.kept).map_err(|error| Refusal::ControlInvalid {
        error: error.to_string(),
    })
}

impl FaultAsked {
    fn fault(self) -> Result<Fault, Refusal> {
        let mut fault = Fault::new(self.effect.effect()?);
        if let Some(on) = self.on {
            fault = match on.split_once(' ') {
                Some((method, path)) if path.starts_with('/') => fault.on(method, path),
                None if on == "jobStarts" => fault.on_job_starts(),
                Some(_) | None => {
                    return Err(Refusal::FieldInvalid {
                        field: "on",
                        expected: "jobStarts, or as in GET /tasks/{task_id}",
                    });
                }
            };
        }
        if let Some(email) = self.account {
            fault = fault.account(email);
        }
        if let Some(times) = self.times {
            fault = fault.times(times.get());
        }
        Ok(fault)
    }
}

impl EffectAsked {
    fn effect(self) -> Result<Effect, Refusal> {
        Ok(match self {
            Self::Status(status) if StatusCode::from_u16(status).is_ok() => {
                Effect::Answer(Answer::new(status))
            }
            Self::Status(_) => {
                return Err(Refusal::FieldInvalid {
                    field: "status",
                    expected: "100 to 999",
                });
            }
            Self::DelayMs(delay) => Effect::Delay(Duration::from_millis(delay)),
            Self::SlowMs(whole) => Effect::Slow(Duration::from_millis(whole)),
            Self::StallBefore => Effect::StallBefore,
            Self::StallAfter => Effect::StallAfter,
            Self::ResetBefore => Effect::ResetBefore,
            Self::ResetAfter => Effect::ResetAfter,
            Self::TruncateAfter => Effect::TruncateAfter,
            Self::DripMs(interval) => Effect::Drip(Duration::from_millis(interval)),
            Self::Encode(encoding) => Effect::Encode(encoding),
        })
    }
}

impl AccountAsked {
    /// Changes the account; `false` if it is not configured.
    fn change(self, world: &mut World, email: &str) -> bool {
        if !world.is_account(email) {
            return false;
        }
        if let Some(is_hung) = self.hung {
            world.set_account_hung(email, is_hung);
        }
        if let Some(has_credit) = self.has_credit {
            world.set_account_credit(email, has_credit);
        }
        if let Some(error) = self.error {
            world.set_account_error(email, Some(error).filter(|error| !error.is_empty()));
        }
        true
    }
}
