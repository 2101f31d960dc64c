//! How rounds count jobs that start and end.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use harness::{
    NEVER, Slots, eventually, manual,
    rounds::{Bench, client, ours, settings},
};
use kling_sim::TaskIds;
use proxy::{
    jobs::{CHECKS_MAX, Rounds},
    ledger::{PickError, Statistics},
    pool::{Cause, Refusal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// Short, for tests that wake no round themselves.
const INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_foreign_job_is_counted_within_one_round_and_leaves_when_it_is_finished() {
    let accounts = [("a@x", 3), ("b@x", 1)];
    let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
    let jobs = bench.sim.submit_directly("a@x", 2);
    bench.round().await;
    assert_eq!(bench.in_use("a@x").await, Slots::foreign(2));
    assert_eq!(bench.in_use("b@x").await, Slots::NONE);
    assert!(bench.sim.finish(jobs[0]));
    bench.round().await;
    assert_eq!(bench.in_use("a@x").await, Slots::foreign(1));
    for job in jobs {
        let owner = bench.owners.of_task(&ours(job));
        assert_eq!(owner.as_deref(), Some("a@x"), "a round teaches owners");
    }
}

#[tokio::test]
async fn the_first_round_comes_at_once_and_knows_what_runs_already() {
    let accounts = [("a@x", 2)];
    let mut bench = Bench::quiet(manual(&accounts), &accounts, NEVER).await;
    bench.sim.submit_directly("a@x", 2);
    let learning = PickError::Refused(Refusal::Learning);
    assert_eq!(bench.pick("a@x").await, Err(learning));
    assert_eq!(bench.counts().last_success(), None);
    bench.run();
    bench.until_ok(1).await;
    assert_eq!(bench.in_use("a@x").await, Slots::foreign(2));
    assert!(bench.counts().last_success().is_some());
    assert_eq!(bench.counts().skipped_entries(), 0);
}

/// The e-mail has a plus, which a query must not turn into a space.
async fn a_bound_slot_returns_without_a_poll(task_ids: TaskIds) {
    let accounts = [("a+1@x", 1)];
    let lag = Duration::from_millis(200);
    let sim = manual(&accounts).task_ids(task_ids).release_lag(lag..=lag);
    let bench = Bench::learned(sim, &accounts, INTERVAL).await;
    let lease = bench.pick("a+1@x").await.unwrap();
    let job = bench.submit("a+1@x").await;
    bench.bind(lease, ours(job)).await;
    let before = bench.counts().ok();
    bench.until_ok(before + 2).await;
    assert_eq!(bench.in_use("a+1@x").await, Slots::held(1), "it runs");

    assert!(bench.sim.finish(job));
    assert_eq!(bench.sim.executing("a+1@x"), 1, "it still counts upstream");
    loop {
        // Ours is read before theirs: the upstream's count only falls meanwhile.
        let held = bench.in_use("a+1@x").await.held;
        let counted = bench.sim.executing("a+1@x");
        if held == 0 {
            assert_eq!(
                counted, 0,
                "a slot came back that the upstream still counts"
            );
            break;
        }
        tokio::task::yield_now().await;
    }
    let ended = bench.ledger.call(Statistics).await.unwrap().ended_counts;
    assert_eq!(ended[Cause::Finished as usize], 1);
    assert_eq!(ended.iter().sum::<u64>(), 1);
}

#[tokio::test]
async fn a_bound_slot_returns_when_the_upstream_no_longer_counts_its_job() {
    a_bound_slot_returns_without_a_poll(TaskIds::Digits15).await;
}

#[tokio::test]
async fn ids_of_18_digits_live_and_end_as_others_do() {
    a_bound_slot_returns_without_a_poll(TaskIds::Digits18).await;
}

#[tokio::test]
async fn negative_ids_live_and_end_as_others_do() {
    a_bound_slot_returns_without_a_poll(TaskIds::Negative).await;
}

#[tokio::test]
async fn an_unlisted_job_that_is_not_final_keeps_its_slot() {
    let accounts = [("a@x", 1)];
    // The upstream stops tracking the job at once; the job keeps running.
    let sim = manual(&accounts).tracking(Duration::ZERO);
    let bench = Bench::learned(sim, &accounts, NEVER).await;
    let lease = bench.pick("a@x").await.unwrap();
    let job = bench.submit("a@x").await;
    bench.bind(lease, ours(job)).await;
    for _ in 0..3 {
        bench.round().await;
    }
    assert_eq!(bench.in_use("a@x").await, Slots::held(1));
    let path = format!("/v1/kling/tasks/{job}");
    assert!(bench.paths().contains(&path), "it was asked for");
    assert!(bench.sim.finish(job));
    bench.round().await;
    bench.until_in_use("a@x", Slots::NONE).await;
}

#[tokio::test]
async fn a_round_says_nothing_about_what_happened_after_it_was_sent() {
    let accounts = [("a@x", 1)];
    let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = Arc::new(client(settings(&base_url, "t")));
    let rounds = Rounds::new(upstream, Arc::clone(&bench.ledger), Arc::default());
    let scripted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(request(&mut stream).await.contains("/scheduler/available"));
        // A job starts after the list is made and before it arrives.
        let lease = bench.pick("a@x").await.unwrap();
        bench.bind(lease, "7".parse().unwrap()).await;
        answer(&mut stream, r#"{"executing":[]}"#).await;
        eventually(async || (rounds.counts().ok() == 1).then_some(())).await;
        rounds.wake();
        let next = request(&mut stream).await;
        assert!(next.contains("/scheduler/available"), "{next}");
        answer(&mut stream, r#"{"executing":[]}"#).await;
        let next = request(&mut stream).await;
        assert!(next.contains("/tasks/7?email=a%40x "), "{next}");
    };
    tokio::select! {
        () = rounds.run(NEVER) => unreachable!("rounds run for ever"),
        () = scripted => {}
    }
}

async fn request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    String::from_utf8(seen).unwrap()
}

async fn answer(stream: &mut TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
}

#[tokio::test]
async fn an_idle_sidecar_notices_a_pick_within_an_interval() {
    let accounts = [("a@x", 1)];
    let interval = Duration::from_millis(500);
    let bench = Bench::learned(manual(&accounts), &accounts, interval).await;
    let begun = Instant::now();
    bench.pick("a@x").await.unwrap();
    bench.until_ok(2).await;
    // A round of an idle book would come after six intervals.
    assert!(begun.elapsed() < 4 * interval, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_round_is_followed_by_a_bounded_number_of_checks_and_by_the_next_round_at_once() {
    let count = u32::try_from(CHECKS_MAX).unwrap() + 6;
    let accounts = [("a@x", count)];
    let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
    for id in 1..=count {
        let lease = bench.pick("a@x").await.unwrap();
        // The upstream answers 404, so the job is gone.
        bench.bind(lease, id.to_string().parse().unwrap()).await;
    }
    let before = bench.paths().len();
    bench.round().await;
    bench.until_in_use("a@x", Slots::NONE).await;
    let paths = bench.paths().split_off(before);
    let is_round = |path: &String| path.ends_with("/scheduler/available");
    let checks: Vec<_> = paths.split(is_round).map(<[String]>::len).collect();
    assert_eq!(checks, [0, CHECKS_MAX, 6, 0], "checks after each round");
}
