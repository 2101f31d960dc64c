//! What is told of the sidecar as a whole: whether jobs can be started, and whether the list comes.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::Listing;
use tokio::{join, select, sync::watch, time::sleep};

use super::inventory;
use crate::{
    error::Error,
    events::{Events, Fact},
    ledger::Ledger,
    picker::Picker,
    service_manager::{self, Notice},
};

/// The least time between two looks: what flickers in between is not told.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Tells of the start and of what changes from then on, and lets readers of `events` know. Runs until dropped;
/// cancel-safe.
pub(super) fn tell(
    events: Events,
    listing: watch::Receiver<Listing>,
    picker: Arc<Picker>,
    ledger: Arc<Ledger>,
) -> impl Future<Output = ()> {
    // Before anything else happens.
    events.publish(&Fact::SidecarStarted {
        version: env!("CARGO_PKG_VERSION"),
    });
    async move {
        join!(events.run(), watch(&events, listing, &picker, &ledger));
    }
}

/// Tells that no job can be started from now on, since the process ends.
pub(super) fn tell_end(events: &Events) {
    let reasons = vec![Error::ShuttingDown.facts().reason];
    events.publish(&Fact::NotReady { reasons });
}

/// Tells `events` when jobs can be started and when not any more, and when the list cannot be fetched and is fetched
/// again. It looks when something happened that may change that.
async fn watch(
    events: &Events,
    mut listing: watch::Receiver<Listing>,
    picker: &Picker,
    ledger: &Ledger,
) {
    let mut was_ready = None;
    let mut was_failing = false;
    let mut is_learnt = false;
    loop {
        let problem = listing.borrow_and_update().last_problem.clone();
        if problem.is_some() != was_failing {
            was_failing = problem.is_some();
            events.publish(&match problem {
                Some(problem) => Fact::ListFailed {
                    error: problem.to_string(),
                },
                None => Fact::ListFetched,
            });
        }
        tell_readiness(&mut was_ready, events, picker, ledger).await;
        if was_ready.is_some() {
            sleep(LOOK_PAUSE).await;
        }
        select! {
            () = events.changed() => {}
            changed = listing.changed() => if changed.is_err() {
                return;
            },
            () = ledger.learnt(), if !is_learnt => is_learnt = true,
        }
    }
}

/// Tells whether jobs can be started, if that is another word than before. A sidecar that has just started says nothing
/// until it knows.
async fn tell_readiness(
    was_ready: &mut Option<bool>,
    events: &Events,
    picker: &Picker,
    ledger: &Ledger,
) {
    match picker.unavailable_reason().await {
        None if *was_ready == Some(true) => {}
        None => {
            // Counting many accounts takes a while: the end may have been told meanwhile, and is the last word.
            if let Ok(found) = inventory::found(ledger).await
                && !picker.shutdown().is_cancelled()
            {
                *was_ready = Some(true);
                let status = format!("Ready: accounts {}, slots {}", found.accounts, found.slots);
                events.publish(&Fact::Ready(found));
                service_manager::tell(Notice::Status(status)).await;
            }
        }
        Some(_) if *was_ready == Some(false) => {}
        Some(Error::Learning(_)) if was_ready.is_none() => {}
        // `tell_end` tells it, and the service manager knows.
        Some(Error::ShuttingDown) => *was_ready = Some(false),
        Some(error) => {
            *was_ready = Some(false);
            let reasons = vec![error.facts().reason];
            let status = format!("Not ready: {}", reasons.join(", "));
            events.publish(&Fact::NotReady { reasons });
            service_manager::tell(Notice::Status(status)).await;
        }
    }
}
