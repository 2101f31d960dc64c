//! The sentence that tells a fact: the same in the log and in an event, but for the name of the account.

use super::fact::Fact;
use crate::pool::{AccountState, Decision, JobEnd};

/// The most bytes of a foreign text in a sentence.
const DETAIL_BYTES_MAX: usize = 300;

/// The sentence of an event. It names the account by its e-mail.
pub(super) fn message(fact: &Fact) -> String {
    let email = fact.account().map(|account| &*account.email);
    let mut message = sentence(fact, email);
    if let Some(detail) = detail(fact) {
        message.push_str(" (");
        message.push_str(cut(detail));
        message.push(')');
    }
    message
}

/// The sentence of the log, which has a field for the account.
pub(super) fn sentence(fact: &Fact, email: Option<&str>) -> String {
    let account = email.unwrap_or("account");
    let on = email.map_or(String::new(), |email| format!(" on {email}"));
    match fact {
        Fact::AccountState { to, .. } => format!("{account} {}", of_state(*to)),
        Fact::AccountDrained(_) => {
            format!("{account} is idle and drained: it may be removed")
        }
        Fact::JobStarted(_) => format!("job started{on}"),
        Fact::JobEnded { result, .. } => match result {
            JobEnd::Succeeded => format!("job{on} succeeded"),
            JobEnd::Failed => format!("job{on} failed"),
            JobEnd::Unknown => format!("job{on} is over; its result is not known"),
        },
        Fact::SubmissionLost { .. } => {
            format!("submission outcome unknown{on}; its slot stays held as uncertain")
        }
        Fact::SubmissionDecided { outcome, .. } => match outcome {
            Decision::Found => format!("lost submission{on} was found: it is a job"),
            Decision::Absent => format!("lost submission{on} became no job"),
            Decision::Unverified => format!(
                "lost submission{on} could not be looked for in time; its slot is free again"
            ),
            Decision::Released => format!("lost submission{on} was released by hand"),
        },
        Fact::AnswerUndelivered(_) => format!(
            "a job was started{on}, and its client was gone before the answer; the same start sent again gets \
             it, and /jobs lists it"
        ),
        Fact::ListChanged(_) => "the account list has changed".to_owned(),
        Fact::SidecarStarted { version } => format!("kling-balancer {version} has started"),
        Fact::Ready(_) => "ready: jobs can be started".to_owned(),
        Fact::NotReady { reasons } => {
            format!("not ready: no job can be started ({})", reasons.join(", "))
        }
        Fact::TokenRejected { status, .. } => of_token(*status).to_owned(),
        Fact::TokenAccepted => {
            "the upstream takes jobs of the token again; jobs are started again".to_owned()
        }
        Fact::UpstreamUnreachable { .. } => {
            "the upstream is unreachable; calls are refused until it is reachable again".to_owned()
        }
        Fact::UpstreamReachable => "the upstream is reachable again".to_owned(),
        Fact::ListFailed { .. } => "the account list cannot be fetched".to_owned(),
        Fact::ListFetched => "the account list is fetched again".to_owned(),
        Fact::RoundsFailed { .. } => {
            "the list of running jobs cannot be read, so jobs of other tools are not counted"
                .to_owned()
        }
        Fact::RoundsAnswered { .. } => "the list of running jobs can be read again".to_owned(),
        Fact::StateFailing { error: Some(_) } => {
            "the state cannot be written: no slot is granted until it can; all else goes on"
                .to_owned()
        }
        Fact::StateFailing { error: None } => {
            "writing the state takes long: no slot is granted until it is written".to_owned()
        }
        Fact::StateWritten => "the state is written again: grants go on".to_owned(),
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

fn of_token(status: u16) -> &'static str {
    if status == 402 {
        "the upstream asks for a paid subscription: renew that of upstream.token. No job is started; every 10 \
         minutes one is sent to find out"
    } else {
        "the upstream rejects the token: check upstream.token. No job is started"
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
        _ => return None,
    };
    Some(detail).filter(|detail| !detail.is_empty())
}

/// The text up to [`DETAIL_BYTES_MAX`].
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_BYTES_MAX)]
}
