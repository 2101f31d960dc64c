//! A running fetcher, seen through its watch channel.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use accounts_fetcher::{
    Credentials, FetchResult, Fetcher, HttpSource, Listing, Snapshot, Source, Timing,
    tls_client_config,
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::upstream::Upstream;

pub(crate) const TOKEN: &str = "user:1234-s3cr3t";

/// How long a test waits at most; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Short pauses, and deadlines too long to matter.
pub(crate) const TIMING: Timing = Timing {
    refresh_interval: Duration::from_millis(100),
    timeout: Duration::from_secs(60),
    backoff_max: Duration::from_millis(100),
};

/// A fetcher that runs for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Watching(watch::Receiver<Listing>);

impl Watching {
    pub(crate) fn new(source: Source, timing: Timing) -> Watching {
        let (fetcher, rx) = Fetcher::new(source, timing);
        tokio::spawn(fetcher.run());
        Watching(rx)
    }

    pub(crate) fn upstream(upstream: &Upstream) -> Watching {
        Watching::new(Source::Http(source(upstream.addr)), TIMING)
    }

    /// The first listing, among those not skipped, that `is_awaited`.
    pub(crate) async fn until(&mut self, is_awaited: impl FnMut(&Listing) -> bool) -> Listing {
        if let Ok(listing) = timeout(PATIENCE, self.0.wait_for(is_awaited)).await {
            return listing.expect("the fetcher runs").clone();
        }
        panic!("not seen in time; the last was {:?}", self.0.borrow())
    }

    /// The listing once a fetch has ended with `result`.
    pub(crate) async fn counted(&mut self, result: FetchResult, count: u64) -> Listing {
        self.until(|listing| listing.counts.get(result) >= count)
            .await
    }

    /// The first list that was believed.
    pub(crate) async fn first_list(&mut self) -> Arc<Snapshot> {
        self.until(|listing| listing.snapshot.is_some())
            .await
            .snapshot
            .unwrap()
    }
}

pub(crate) fn source(host: impl ToString) -> HttpSource {
    source_with_idle_timeout(host, Duration::from_secs(60))
}

pub(crate) fn source_with_idle_timeout(host: impl ToString, idle: Duration) -> HttpSource {
    let base_url = format!("http://{}/v1/kling", host.to_string());
    let base_url = base_url.parse().unwrap();
    let tls = tls_client_config(&base_url, &[]).unwrap();
    HttpSource::new(
        base_url,
        Credentials::new(&TOKEN.into()).unwrap(),
        Duration::from_secs(5),
        idle,
        tls,
    )
}

/// Asserts that `listing` still holds the very snapshot `before`.
#[track_caller]
pub(crate) fn assert_kept(listing: &Listing, before: &Arc<Snapshot>, why: impl Debug) {
    let snapshot = listing
        .snapshot
        .as_ref()
        .expect("a list once believed stays");
    assert!(
        Arc::ptr_eq(snapshot, before),
        "{why:?} replaced the last good list"
    );
}

pub(crate) fn max_jobs(snapshot: &Snapshot) -> Vec<(&str, u32)> {
    snapshot
        .accounts
        .iter()
        .map(|account| (&*account.email, account.max_jobs))
        .collect()
}
