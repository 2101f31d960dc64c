//! The sentence that tells a fact: the same in the log and in an event, but for the name of the account.

use std::borrow::Cow;

use super::fact::Fact;
use crate::pool::{AccountState, Decision, JobEnd};

/// The most bytes of a foreign text in a sentence.
const DETAIL_BYTES_MAX: usize = 300;

/// The sentence of an event. It names the account by its e-mail.
pub(super) fn message(fact: &Fact) -> String {
    let email = fact.account().map(|account| &*account.email);
    let mut message = sentence(fact, email).into_owned();
    if let Some(detail) = detail(fact) {
        message.push_str(" (");
        message.push_str(&detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]);
        message.push(')');
    }
    message
}

/// The sentence. In the log, which has a field for the account, it is the same for all of them.
pub(super) fn sentence(fact: &Fact, email: Option<&str>) -> Cow<'static, str> {
    let account = email.unwrap_or("account");
    let on = email.map_or(String::new(), |email| format!(" on {email}"));
    let sentence = match fact {
        Fact::AccountState { to, .. } => format!("{account} {}", of_state(*to)),
        Fact::AccountDrained(_) => format!("{account} is drained and idle: it may be removed"),
        Fact::JobStarted(_) => format!("job started{on}"),
        Fact::JobEnded { result, .. } => match result {
            JobEnd::Succeeded => format!("job succeeded{on}"),
            JobEnd::Failed => format!("job failed{on}"),
            // It may run: its lease may have been given back.
            JobEnd::Unknown => format!("job is not followed any more{on}; its result is not known"),
        },
        Fact::SubmissionLost { .. } => {
            format!("submission outcome unknown{on}; its slot stays held as uncertain")
        }
        Fact::SubmissionDecided { outcome, .. } => match outcome {
            Decision::Found => format!("lost submission found{on}: it is a job"),
            // Two rounds prove no absence: a job may have come and gone between them.
            Decision::Absent => {
                format!("lost submission is not among the running jobs{on}; its slot is free")
            }
            Decision::Unverified => {
                format!("lost submission could not be looked for in time{on}; its slot is free")
            }
            Decision::Released => format!("lost submission released by hand{on}"),
        },
        Fact::AnswerUndelivered(_) => format!(
            "a job was started{on}, and its client was gone before the answer; the same start sent again gets \
             it, and /jobs lists it"
        ),
        Fact::SidecarStarted { version } => format!("kling-balancer {version} has started"),
        Fact::NotReady { reasons } => {
            format!("not ready: no job can be started ({})", reasons.join(", "))
        }
        Fact::ListChanged(_)
        | Fact::Ready(_)
        | Fact::TokenRejected { .. }
        | Fact::TokenAccepted
        | Fact::UpstreamUnreachable { .. }
        | Fact::UpstreamReachable
        | Fact::ListFailed { .. }
        | Fact::ListFetched
        | Fact::RoundsFailed { .. }
        | Fact::RoundsAnswered { .. }
        | Fact::StateFailing { .. }
        | Fact::StateWritten => return Cow::Borrowed(of_sidecar(fact)),
    };
    Cow::Owned(sentence)
}

/// What concerns all accounts is told in the same words each time.
fn of_sidecar(fact: &Fact) -> &'static str {
    match fact {
        Fact::ListChanged(_) => "account list changed",
        Fact::Ready(_) => "ready: jobs can be started",
        Fact::TokenRejected { status: 402, .. } => {
            "the upstream asks for a paid subscription: renew that of upstream.token. No job is started; every 10 \
             minutes one is sent to find out"
        }
        Fact::TokenRejected { .. } => {
            "the upstream rejects the token: check upstream.token. No job is started"
        }
        Fact::TokenAccepted => "the upstream takes jobs of the token again; jobs are started again",
        Fact::UpstreamUnreachable { .. } => {
            "the upstream is unreachable; calls are refused until it is reachable again"
        }
        Fact::UpstreamReachable => "the upstream is reachable again",
        Fact::ListFailed { .. } => "the account list cannot be fetched",
        Fact::ListFetched => "the account list can be fetched again",
        Fact::RoundsFailed { .. } => {
            "the list of running jobs cannot be read, so jobs of other tools are not counted"
        }
        Fact::RoundsAnswered { .. } => "the list of running jobs can be read again",
        Fact::StateFailing { error: Some(_) } => {
            "the state cannot be written: no slot is granted until it can; all else goes on"
        }
        Fact::StateFailing { error: None } => {
            "writing the state takes long: no slot is granted until it is written"
        }
        Fact::StateWritten => "the state is written again: grants go on",
        Fact::AccountState { .. }
        | Fact::AccountDrained(_)
        | Fact::JobStarted(_)
        | Fact::JobEnded { .. }
        | Fact::SubmissionLost { .. }
        | Fact::SubmissionDecided { .. }
        | Fact::AnswerUndelivered(_)
        | Fact::SidecarStarted { .. }
        | Fact::NotReady { .. } => "",
    }
}

fn of_state(state: AccountState) -> &'static str {
    match state {
        AccountState::Quarantined => {
            "is quarantined: its session is broken. Add it again with POST /accounts at the upstream; then it is \
             tried again"
        }
        AccountState::Parked => {
            "is parked: it has no credit. Buy credit at the upstream, then resume the account"
        }
        AccountState::Error => "has an error that the upstream reports; see /accounts",
        AccountState::Cooling => {
            "is cooling: it refused a job for now and is not picked for a while"
        }
        AccountState::Draining => "is draining: an operator asked for it. Running jobs finish",
        AccountState::Removed => "is removed: the list no longer names it. Running jobs finish",
        AccountState::Available | AccountState::Full => "is available again",
    }
}

/// What else is known, in foreign words.
fn detail(fact: &Fact) -> Option<&str> {
    let detail = match fact {
        Fact::StateFailing { error } => error.as_deref()?,
        Fact::TokenRejected { text, .. } => text,
        Fact::SubmissionLost { error, .. }
        | Fact::UpstreamUnreachable { error, .. }
        | Fact::ListFailed { error }
        | Fact::RoundsFailed { error, .. } => error,
        Fact::AccountState { .. }
        | Fact::AccountDrained(_)
        | Fact::JobStarted(_)
        | Fact::JobEnded { .. }
        | Fact::SubmissionDecided { .. }
        | Fact::AnswerUndelivered(_)
        | Fact::ListChanged(_)
        | Fact::SidecarStarted { .. }
        | Fact::Ready(_)
        | Fact::NotReady { .. }
        | Fact::TokenAccepted
        | Fact::UpstreamReachable
        | Fact::ListFetched
        | Fact::RoundsAnswered { .. }
        | Fact::StateWritten => return None,
    };
    Some(detail).filter(|detail| !detail.is_empty())
}
