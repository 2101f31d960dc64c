//! What is told of the accounts and of marks, in the log.

use crate::pool::{AccountState, MarksChange, MarksKnown, StateChange};

pub(super) fn log_state_change(change: &StateChange) {
    let (account, from) = (&change.alias, change.from.as_str());
    match change.to {
        AccountState::Quarantined => tracing::error!(
            %account,
            from,
            "account is quarantined: its session is broken. Add it again with POST /accounts at the \
             upstream; then it is tried again"
        ),
        AccountState::Parked => {
            tracing::warn!(
                %account,
                from,
                "account is parked: it has no credit. Buy credit at the upstream, then resume the account"
            )
        }
        AccountState::Error => {
            tracing::warn!(
                %account,
                from,
                "the upstream reports an error of the account; see /accounts"
            )
        }
        AccountState::Cooling => {
            tracing::info!(%account, from, "account is cooling: it refused a job for now and is not picked for a while");
        }
        AccountState::Draining => {
            tracing::info!(%account, from, "account is draining: an operator asked for it. Running jobs finish")
        }
        AccountState::Removed => {
            tracing::info!(%account, from, "account is removed: the list no longer names it. Running jobs finish")
        }
        AccountState::Available | AccountState::Full => {
            tracing::info!(%account, from, "account is available again")
        }
    }
}

pub(super) fn log_marks_change(change: &MarksChange) {
    let operation = &*change.operation;
    match change.to {
        MarksKnown::Proven => tracing::info!(
            operation,
            "marks are kept: the upstream lists a job with the replyRef that was put in, so lost submissions \
             are found by it"
        ),
        MarksKnown::Doubted => tracing::warn!(
            operation,
            "a job is listed without its mark; one submission at a time is marked until one is listed with it"
        ),
        MarksKnown::Dropped => tracing::warn!(
            operation,
            "marks are off: the upstream lists jobs without the replyRef that was put in"
        ),
        MarksKnown::Refused => tracing::warn!(
            operation,
            "marks are off: the upstream refuses the replyRef that was put in, and takes the same call without it"
        ),
        MarksKnown::Suspended => tracing::warn!(
            operation,
            "marks are off until the next start: submissions with a mark failed; forward.mark=off is for good"
        ),
    }
}
