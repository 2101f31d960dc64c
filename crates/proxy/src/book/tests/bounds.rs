//! What piles up while nothing can be written.

use std::collections::BTreeSet;

use super::*;
use crate::{
    kling::scheduler::RunningJob,
    ledger::{RoundBase, tests::follow_round},
    pool::{Round, RoundChange, TaskId},
};

/// How many foreign jobs run at once.
const RUNNING: usize = 100;
/// The most records of a commit after it: the jobs that run, those that ran when the last commit was taken, their
/// account, the clock, and the first records of a run.
const CHANGES_MAX: usize = 2 * RUNNING + 10;

/// A round that lists these jobs on `a@x`.
async fn round(stage: &Stage, jobs: impl Iterator<Item = usize>) {
    let ticket = stage.ledger.call(RoundBase).await.unwrap();
    let executing = jobs.map(|id| RunningJob {
        task_id: task(id),
        email: "a@x".to_owned(),
        mark: None,
    });
    let round = Round {
        sent_at: ticket.sent_at,
        executing: executing.collect(),
        ..Round::default()
    };
    let change = RoundChange::between(ticket.running, round);
    follow_round(&stage.ledger, change).await;
    advance(Duration::from_millis(10)).await;
}

fn task(id: usize) -> TaskId {
    id.to_string().parse().unwrap()
}

/// The foreign jobs that are durable.
fn written(disk: &Disk) -> BTreeSet<String> {
    let records = disk.records.lock();
    let foreign = records
        .keys()
        .filter(|(table, _)| *table == Table::ForeignJob);
    foreign.map(|(_, name)| name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn foreign_jobs_that_come_and_go_while_the_disk_is_full_leave_nothing_to_write() {
    let stage = Stage::with(Disk::new(), 1, true).await;
    stage.let_through(10_000_000);
    round(&stage, 0..RUNNING).await;
    stage.ledger.flushed().await.unwrap();
    assert_eq!(written(&stage.disk).len(), RUNNING);
    stage.disk.is_full.store(true, Ordering::Relaxed);
    stage.disk.largest.store(0, Ordering::Relaxed);
    let rounds_count = 100_000 / RUNNING;
    for nth in 1..=rounds_count {
        let first = nth * RUNNING;
        round(&stage, first..first + RUNNING).await;
    }
    assert!(stage.ledger.is_failing());
    stage.disk.is_full.store(false, Ordering::Relaxed);
    while stage.ledger.flushed().await.is_err() {
        advance(Duration::from_millis(10)).await;
    }
    let running = rounds_count * RUNNING..(rounds_count + 1) * RUNNING;
    let running: BTreeSet<_> = running.map(|id| id.to_string()).collect();
    assert_eq!(written(&stage.disk), running);
    let largest = stage.disk.largest.load(Ordering::Relaxed);
    assert!(largest <= CHANGES_MAX, "{largest}");
    round(&stage, 0..0).await;
    stage.ledger.flushed().await.unwrap();
    assert_eq!(written(&stage.disk), BTreeSet::new());
}
