//! How busy the sidecar was: a point a minute of the last hour.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    ledger::{GlanceNow, Ledger, Unavailable},
    wire_time::WireTime,
};

/// The time from one point to the next.
const PAUSE: Duration = Duration::from_secs(60);
/// The most points: an hour.
const POINTS_MAX: usize = 60;

/// The points, oldest first. They end with the process.
#[derive(Debug, Default)]
pub(in crate::api) struct History(Mutex<Points>);

#[derive(Debug, Default)]
struct Points {
    kept: VecDeque<Point>,
    /// How many there were, those that are forgotten included.
    count: u64,
}

/// How busy it was at a moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Point {
    at: WireTime,
    in_flight: u64,
    max: u64,
    waiting: usize,
}

impl History {
    /// Notes a point once the accounts are known, and one each minute from then on. Runs until dropped.
    pub(super) async fn keep(&self, ledger: &Ledger) {
        ledger.learnt().await;
        let mut minutes = interval_at(Instant::now(), PAUSE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            // A ledger that cannot be reached leaves a gap.
            if let Ok(point) = point(ledger).await {
                self.note(point);
            }
        }
    }

    fn note(&self, point: Point) {
        let mut points = self.0.lock();
        if points.kept.len() == POINTS_MAX {
            points.kept.pop_front();
        }
        points.kept.push_back(point);
        points.count += 1;
    }

    /// The points, oldest first.
    pub(super) fn points(&self) -> Vec<Point> {
        self.0.lock().kept.iter().cloned().collect()
    }

    /// How many points there were so far.
    pub(super) fn points_count(&self) -> u64 {
        self.0.lock().count
    }
}

async fn point(ledger: &Ledger) -> Result<Point, Unavailable> {
    let (mut in_flight, mut max) = (0, 0);
    ledger
        .each_account(|account| {
            in_flight += u64::from(account.in_flight());
            max += u64::from(account.max_jobs);
        })
        .await?;
    Ok(Point {
        at: WireTime(Timestamp::now()),
        in_flight,
        max,
        waiting: ledger.call(GlanceNow).await?.view.waiters_count,
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::ledger::{
        PickRequest,
        tests::{ledger_of, pick},
    };

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_with_a_point_a_minute() {
        let (ledger, history) = (ledger_of(2), History::default());
        let slot = pick(&ledger, &PickRequest::default()).await.unwrap();
        let kept = timeout(PAUSE * 100 + PAUSE / 2, history.keep(&ledger)).await;
        assert!(kept.is_err(), "it is kept for ever");
        let points = history.points();
        // One at once, and one after each minute.
        assert_eq!((points.len(), history.points_count()), (POINTS_MAX, 101));
        for point in points {
            assert_eq!((point.in_flight, point.max, point.waiting), (1, 2, 0));
        }
        drop(slot);
    }
}
