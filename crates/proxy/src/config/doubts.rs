//! Settings that are valid, and probably not meant.
//!
//! An error is what cannot work. Here is what works in a way that costs an evening, or money.

use std::time::Duration;

use super::{
    Config,
    source::Layers,
    value::{duration, in_words},
};

/// The path of the Kling API ends so, at the vendor's own address and behind a gateway.
const BASE_URL_END: &str = "/kling";
/// Statuses that prove a refusal.
const PROVING: [u16; 3] = [429, 412, 596];
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A sentence for each doubtful setting.
pub(super) fn doubts(config: &Config, layers: &Layers) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut doubt = |key: &'static str, is_doubtful: bool, why: &str| {
        if is_doubtful {
            doubts.push(format!("{}: {why}", layers.naming(key)));
        }
    };
    let base_url = &config.upstream.base_url;
    let why = format!(
        "{base_url} does not end in {BASE_URL_END}; the Kling API of useapi.net is at \
         https://api.useapi.net/v1/kling"
    );
    doubt(
        "upstream.base_url",
        !base_url.path().ends_with(BASE_URL_END),
        &why,
    );
    doubt(
        "upstream.request_timeout",
        config.upstream.request_timeout < 30 * SECOND,
        "a job start takes seconds, speech and logins take minutes; an answer that comes later counts as lost",
    );
    doubt(
        "accounts.refresh_interval",
        config.accounts.refresh_interval > 60 * MINUTE,
        "an account that is added or broken is noticed that late",
    );
    doubt(
        "leases.job_ttl",
        config.leases.job_ttl < 10 * MINUTE,
        "a job may run for an hour; the slot of a longer one is given away while it runs",
    );
    if let Some(interval) = config.reconcile.interval {
        doubt(
            "reconcile.interval",
            interval > 5 * MINUTE,
            "a slot comes back that long after the end of its job",
        );
        doubt(
            "reconcile.settle",
            config.reconcile.settle < 10 * SECOND,
            "a submission whose answer was lost may become a job later, when its slot is given away",
        );
    }
    doubt(
        "forward.body_max",
        config.forward.body_max < 64 * 1024,
        "a job start that holds an image is larger, and refused",
    );
    let wait_max = config.selection.wait_max;
    let wait = layers
        .word("forward.wait")
        .and_then(|word| duration(&word).ok());
    doubt(
        "forward.wait",
        wait.is_some_and(|wait| wait > wait_max),
        &format!("it is cut to selection.wait_max, {}", in_words(wait_max)),
    );
    let unproving = config.forward.retry_statuses.iter();
    let unproving: Vec<_> = unproving.filter(|it| !PROVING.contains(it)).collect();
    doubt(
        "forward.retry_statuses",
        !unproving.is_empty(),
        &format!(
            "{unproving:?} have no effect: only 429, 412 and 596 prove that no job was started"
        ),
    );
    doubts
}
