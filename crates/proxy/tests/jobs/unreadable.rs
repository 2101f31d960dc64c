//! Jobs that the upstream counts, though rounds cannot read which they are.

use std::time::Duration;

use harness::{
    NEVER, Slots, manual,
    rounds::{Bench, ours},
};
use kling_sim::{Answer, Effect, Fault, SchedulerRows};

/// Short, for tests that wake no round themselves.
const INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test]
async fn jobs_count_however_the_scheduler_lists_them() {
    let accounts = [("a@x", 3), ("b@x", 3)];
    for rows in [
        SchedulerRows::WithoutIds,
        SchedulerRows::WithoutEmails,
        SchedulerRows::Missing,
    ] {
        let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
        bench.sim.submit_directly("a@x", 2);
        assert!(bench.sim.set_scheduler_rows("a@x", rows));
        bench.round().await;
        assert_eq!(bench.in_use("a@x").await, Slots::foreign(2), "{rows:?}");
        assert_eq!(bench.in_use("b@x").await, Slots::NONE, "{rows:?}");
        bench.sim.finish_all();
        bench.round().await;
        assert_eq!(bench.in_use("a@x").await, Slots::NONE, "{rows:?}");
    }
}

#[tokio::test]
async fn an_own_job_is_counted_once_however_it_is_listed() {
    let accounts = [("a@x", 3)];
    for rows in [
        SchedulerRows::WithoutIds,
        SchedulerRows::WithoutEmails,
        SchedulerRows::Missing,
        SchedulerRows::Whole,
    ] {
        let bench = Bench::learned(manual(&accounts), &accounts, INTERVAL).await;
        let lease = bench.pick("a@x").await.unwrap();
        let job = bench.submit("a@x").await;
        bench.bind(lease, ours(job)).await;
        assert!(bench.sim.set_scheduler_rows("a@x", rows));
        let ok = bench.counts().ok();
        bench.until_ok(ok + 2).await;
        assert_eq!(bench.in_use("a@x").await, Slots::held(1), "{rows:?}");
        bench.sim.finish(job);
        bench.until_in_use("a@x", Slots::NONE).await;
    }
}

#[tokio::test]
async fn no_slot_is_freed_while_the_row_of_another_job_cannot_be_read() {
    let accounts = [("a@x", 3), ("b@x", 3)];
    for rows in [SchedulerRows::WithoutIds, SchedulerRows::WithoutEmails] {
        let bench = Bench::learned(manual(&accounts), &accounts, INTERVAL).await;
        let mut jobs = Vec::new();
        for email in ["a@x", "b@x"] {
            let lease = bench.pick(email).await.unwrap();
            let job = bench.submit(email).await;
            bench.bind(lease, ours(job)).await;
            jobs.push(job);
        }
        assert!(bench.sim.set_scheduler_rows("a@x", rows));
        bench.sim.submit_directly("a@x", 1);
        for job in &jobs {
            assert!(bench.sim.finish(*job));
        }
        // Without an e-mail, the row may be of any account.
        let other = if rows == SchedulerRows::WithoutIds {
            Slots::NONE
        } else {
            Slots::held(1)
        };
        bench.until_in_use("b@x", other).await;
        let ok = bench.counts().ok();
        bench.until_ok(ok + 5).await;
        assert_eq!(bench.in_use("a@x").await, Slots::held(1), "{rows:?}");
        assert_eq!(bench.in_use("b@x").await, other, "{rows:?}");
        assert!(bench.sim.set_scheduler_rows("a@x", SchedulerRows::Whole));
        bench.until_in_use("a@x", Slots::foreign(1)).await;
        bench.until_in_use("b@x", Slots::NONE).await;
    }
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_counted_as_skipped() {
    let accounts = [("a@x", 3)];
    let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
    let list = r#"{"executing":[{"id":7,"email":"a@x"},{"id":8},{"email":"a@x"},null]}"#;
    let answer = Effect::Answer(Answer::new(200).body(list));
    let fault = Fault::new(answer).on("GET", "/scheduler/available");
    bench.sim.fault(fault);
    bench.round().await;
    assert_eq!(bench.in_use("a@x").await, Slots::foreign(2));
    assert_eq!(bench.counts().skipped_entries(), 3);
}
