//! What is told of the accounts, of jobs, and of marks.

use crate::{
    events::{AccountFacts, Events, Fact},
    ledger::Calendar,
    pool::{MarksChange, MarksKnown, StateChange},
};

pub(super) fn tell_state_change(events: &Events, calendar: &Calendar, change: StateChange) {
    events.publish(&Fact::AccountState {
        account: AccountFacts {
            email: change.email,
            alias: change.alias,
        },
        from: change.from,
        to: change.to,
        until: change.until.map(|until| calendar.at(until)),
        reason: change.reason,
    });
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
