//! Rounds: asking the upstream which jobs run, and reading the histories of accounts with undecided
//! submissions.
//!
//! What rounds no longer list is asked about beside them (`checks`), and so are histories.
//!
//! Invariants: one round at a time, and its `sent_at` is taken before anything is sent, so that the
//! ledger never believes an answer to be newer than it is; a round that is not answered changes nothing.
//!
//! The ledger decides what a round means for a slot.

mod checks;
mod counts;
mod freshness;
mod histories;
mod scheduler;

use std::{sync::Arc, time::Duration};

use accounts_fetcher::Chain;
use tokio::{
    join,
    sync::{Mutex, Notify},
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::Instrument;

use crate::{
    backoff::{doubled, shortened},
    events::Fact,
    ledger::{FollowRound, FollowRoundOn, IsBusy, Ledger, RoundBase},
    owners::Owners,
    pool::{Findings, Round, RoundChange, RoundProgress},
    upstream::Upstream,
};
use checks::Checks;
use freshness::Freshness;
use scheduler::RoundError;

pub use checks::CHECKS_MAX;
pub use counts::RoundCounts;
pub use freshness::ROUND_WAIT_MAX;
pub use histories::Histories;

/// How much rarer rounds are while no slot is in use and no caller waits, and at most while they fail.
pub const IDLE_FACTOR: u32 = 6;
/// How much more frequent rounds are while the upstream still counts a job that is over: it does so for
/// seconds.
pub const RELEASE_FACTOR: u32 = 5;
/// The first pause after a round failed, unless the interval is shorter. It doubles each time.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The least time between two rounds: ten rounds a second at most, however often one is asked for.
const ROUND_GAP: Duration = Duration::from_millis(100);

/// Asks the upstream which jobs run, and tells the ledger.
#[derive(Debug)]
pub struct Rounds {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    owners: Arc<Owners>,
    woken: Notify,
    checks: Checks,
    freshness: Freshness,
    counts: RoundCounts,
    /// Held while rounds run.
    single: Mutex<()>,
}

impl Rounds {
    /// Rounds that begin with [`run`](Self::run).
    pub fn new(upstream: Arc<Upstream>, ledger: Arc<Ledger>, owners: Arc<Owners>) -> Self {
        Self {
            checks: Checks::new(Arc::clone(&upstream), Arc::clone(&ledger)),
            upstream,
            ledger,
            owners,
            woken: Notify::new(),
            freshness: Freshness::new(),
            counts: RoundCounts::default(),
            single: Mutex::new(()),
        }
    }

    /// Runs rounds until dropped: one at once, then one every `interval` while slots are in use or
    /// callers wait, sooner after a job ended, and rarer otherwise. A second call waits for the end of the first.
    ///
    /// Cancel-safe: what a round that is cut off leaves to follow is followed when the next one is answered.
    pub async fn run(&self, interval: Duration) {
        let _single = self.single.lock().await;
        join!(self.ask_on(interval), self.checks.run(|| self.wake()));
    }

    /// Sends one round after the other.
    async fn ask_on(&self, interval: Duration) {
        let mut failed_count = 0;
        let mut is_degraded = false;
        loop {
            let begun = Instant::now();
            self.freshness.begin();
            let round = self.round(begun, interval, &mut is_degraded);
            match round.instrument(tracing::info_span!("round")).await {
                Ok(is_release_due) => {
                    if failed_count > 0 {
                        let events = self.ledger.events();
                        events.publish(&Fact::RoundsAnswered { failed_count });
                    }
                    failed_count = 0;
                    let factor = if is_release_due { RELEASE_FACTOR } else { 1 };
                    self.pause(begun, interval / factor).await;
                }
                Err(error) => {
                    self.note_failure(&error, failed_count);
                    self.freshness.fail();
                    sleep(pause_after(interval, failed_count)).await;
                    failed_count += 1;
                }
            }
        }
    }

    /// Asks for a round at once: something happened that only a round can explain. While rounds fail
    /// this changes nothing: they are tried again soon anyway.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// How the rounds went so far.
    pub fn counts(&self) -> &RoundCounts {
        &self.counts
    }

    /// Whether a grant now rests on a fresh round: one that was sent two intervals and its own duration ago at
    /// most.
    pub fn is_fresh(&self) -> bool {
        self.freshness.is_fresh()
    }

    /// The same, for a caller that has read the clock already.
    pub(crate) fn is_fresh_at(&self, now: Instant) -> bool {
        self.freshness.is_fresh_at(now)
    }

    /// Asks for a round if none is fresh, and waits for it, [`ROUND_WAIT_MAX`] at most. False if it fails or is not
    /// answered by then: grants rest on the last round then, without waiting, until the next one is sent.
    ///
    /// Cancel-safe.
    pub async fn freshen(&self) -> bool {
        self.freshness.wait(|| self.wake()).await
    }

    /// Whether grants go on, though no round is fresh.
    pub fn are_grants_stale(&self) -> bool {
        self.freshness.is_given_up()
    }

    /// Sends one round. True if the upstream lists jobs that are over: it will release them soon.
    async fn round(
        &self,
        begun: Instant,
        interval: Duration,
        is_degraded: &mut bool,
    ) -> Result<bool, RoundError> {
        let ticket = self.ledger.call(RoundBase).await?;
        let mut listed = scheduler::executing(&self.upstream).await?;
        let skipped_count = listed.skipped_count();
        if (skipped_count > 0) != *is_degraded {
            *is_degraded = skipped_count > 0;
            if *is_degraded {
                tracing::warn!(
                    skipped_count,
                    "the list of running jobs holds entries that cannot be read. They count on their accounts, and \
                     no slot there is freed meanwhile because its job is not listed"
                );
            } else {
                tracing::info!("every entry of the list of running jobs can be read again");
            }
        }
        listed.name_by_owner(|task_id| Some(self.owners.of_task(task_id)?.to_string()));
        self.owners.learn_running(&listed.jobs);
        let round = Round::of(listed, ticket.sent_at);
        // The ticket keeps the compared jobs alive until the pool is unlocked: freeing it takes a while.
        let change = RoundChange::between(ticket.running.clone(), round);
        let (findings, lag) = self.follow(change).await?;
        self.counts.note_ok(skipped_count, lag);
        self.freshness.end(begun, interval);
        self.checks.begin(findings.unlisted);
        Ok(findings.is_release_due)
    }

    /// Has the ledger follow what a round changes. Returns how long ago the round was sent, too.
    async fn follow(&self, change: RoundChange) -> Result<(Findings, Duration), RoundError> {
        let sent_at = change.sent_at();
        let mut followed = self.ledger.call(FollowRound { change }).await?;
        loop {
            match followed.ok_or(RoundError::Overtaken)? {
                (RoundProgress::Whole(findings), lag) => return Ok((findings, lag)),
                (RoundProgress::Partial, _) => yield_now().await,
            }
            followed = self.ledger.call(FollowRoundOn { sent_at }).await?;
        }
    }

    fn note_failure(&self, error: &RoundError, failed_count: u32) {
        let advice = error.advice();
        let error = Chain(error).to_string();
        if failed_count == 0 {
            let error = error.clone();
            let events = self.ledger.events();
            events.publish(&Fact::RoundsFailed { error, advice });
        }
        tracing::debug!(error, "round failed");
        self.counts.note_failed(error);
    }

    /// Waits for the time of the next round, for a call of [`wake`](Self::wake), or for the end of a ttl,
    /// which only a round can decide about.
    async fn pause(&self, begun: Instant, interval: Duration) {
        for _ in 0..IDLE_FACTOR {
            let sooner = async {
                tokio::select! {
                    () = self.woken.notified() => {}
                    () = self.ledger.round_due() => {}
                }
            };
            if timeout(interval, sooner).await.is_ok() {
                sleep_until(begun + ROUND_GAP).await;
                return;
            }
            if self.ledger.call(IsBusy).await != Ok(false) {
                return;
            }
        }
    }
}

/// The pause after a round failed that `failed_count` others came before.
fn pause_after(interval: Duration, failed_count: u32) -> Duration {
    let first = interval.min(BACKOFF_MIN);
    let longest = interval.saturating_mul(IDLE_FACTOR);
    shortened(doubled(first, failed_count, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_the_idle_pause() {
        let seconds = Duration::from_secs;
        for (interval, failed_count, longest) in [
            (seconds(10), 0, seconds(1)),
            (seconds(10), 3, seconds(8)),
            (seconds(10), 6, seconds(60)),
            (seconds(10), u32::MAX, seconds(60)),
            (Duration::from_millis(100), 0, Duration::from_millis(100)),
            (Duration::from_millis(100), 9, Duration::from_millis(600)),
        ] {
            for _ in 0..100 {
                let pause = pause_after(interval, failed_count);
                assert!(
                    longest / 2 <= pause && pause <= longest,
                    "{pause:?} after {failed_count}"
                );
            }
        }
    }
}
