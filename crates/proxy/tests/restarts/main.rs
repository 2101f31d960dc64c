//! The program is killed at random moments, again and again, and comes back at once or after an
//! outage that is longer than the jobs. The simulator's books judge. `orderly` has the facts that one
//! restart must keep.
//!
//! `RESTARTS_KILLS` and `RESTARTS_SEED` make a run longer, or repeat the draws of one that failed;
//! `RESTARTS_LOG` names a file that keeps the program's log.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod clients;
mod judge;
mod orderly;
mod program;
mod restarted;
mod store;
mod surroundings;

use std::{env, sync::Arc, time::Duration};

use harness::{REACTION_ROUNDS, with_accounts};
use http::Method;
use kling_sim::{ChaosPlan, Effect, JobDuration, ReplyRefs, Sim};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use clients::{Client, Kind, Starts};
use judge::Findings;
use program::Settings;
use surroundings::{ACCOUNTS, JOB_MAX, JOBS, Plan, SLOW, World};

const CLIENTS: [(Kind, usize); 3] = [(Kind::Keyed, 8), (Kind::Hasty, 2), (Kind::Picking, 2)];

/// Kills per run by default.
const KILLS: usize = 5;

/// The most kills of a program without a book. Most of them cost something.
const KILLS_WITHOUT_A_BOOK: usize = 40;

/// How long a lost submission may turn up: well above [`SLOW`].
const SETTLE: &str = "1500ms";

/// How long each step takes at the end: that starts are decided, and slots free. It only ends runs
/// that fail.
const END_MAX: Duration = Duration::from_secs(40);

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    seed: u64,
    /// The most kills.
    kills: usize,
    plan: Plan,
    /// What it is told beside the usual settings.
    settings: &'a [(&'static str, String)],
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[expect(clippy::print_stdout, reason = "a failure shows its seed")]
fn seed() -> u64 {
    let seed = from_env("RESTARTS_SEED").unwrap_or_else(rand::random);
    println!("RESTARTS_SEED={seed}");
    seed
}

async fn sim(seed: u64) -> Sim {
    let ms = Duration::from_millis;
    let sim = with_accounts(&ACCOUNTS)
        .seed(seed)
        .job_duration(JobDuration::between(ms(200), JOB_MAX))
        .reaction_rounds(REACTION_ROUNDS)
        .release_lag(ms(0)..=ms(100));
    let sim = sim.start().await.unwrap();
    let plan = ChaosPlan::new(seed)
        .with(0.8, Effect::Slow(SLOW))
        .with(0.1, Effect::Slow(SLOW / 5));
    sim.chaos(plan);
    // One of two operations that show no marks.
    if seed & 2 != 0 {
        sim.set_reply_refs_on(JOBS[1], ReplyRefs::Dropped);
    }
    sim
}

#[expect(clippy::print_stdout, reason = "a run shows what it did")]
async fn run(run: Run<'_>) -> Findings {
    println!("seed={} {:?}", run.seed, run.settings);
    let begun = Instant::now();
    // The sidecar can take a job of a second tool for the job of a pick that is not submitted yet.
    // So it ties picks only if there is no second tool.
    let has_second_tool = run.seed.is_multiple_of(2);
    let mut settings: Settings = [
        ("ACCOUNTS__REFRESH_INTERVAL", "500ms"),
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", SETTLE),
        ("FORWARD__WAIT", "5s"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec();
    settings.push(("RECONCILE__TIE_PICKS", (!has_second_tool).to_string()));
    settings.extend(run.settings.iter().cloned());

    let world = Arc::new(World::new(sim(run.seed).await));
    let (starts, stop) = (Arc::<Starts>::default(), CancellationToken::new());
    let mut clients = JoinSet::new();
    let kinds = CLIENTS.into_iter();
    let kinds = kinds.flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
    for (number, kind) in kinds.enumerate() {
        let (world, starts) = (Arc::clone(&world), Arc::clone(&starts));
        let client = Client::new(world, starts, number, run.seed);
        clients.spawn(client.work(kind, stop.clone()));
    }
    if has_second_tool {
        let world = Arc::clone(&world);
        clients.spawn(surroundings::second_tool(world, stop.clone(), run.seed));
    }
    let killed = surroundings::kill(Arc::clone(&world), settings, run.plan, run.kills, run.seed);
    let (program, kills) = killed.await;
    // What became of an interrupted start is told apart by jobs that others start meanwhile.
    let interrupted = starts.copy().len();
    let decided = timeout(END_MAX, starts.until_told(interrupted)).await;
    stop.cancel();
    let are_decided = decided.is_ok() && timeout(END_MAX, all_end(&mut clients)).await.is_ok();
    clients.shutdown().await;
    let leaked = if are_decided { leaked(&world).await } else { 0 };
    let findings = Findings::new(&world.sim.audit(), &starts.copy(), leaked);
    program.kill().await;
    println!(
        "kills={kills} {findings} seconds={:.1}",
        begun.elapsed().as_secs_f64()
    );
    findings
}

/// Waits until all clients have ended.
async fn all_end(clients: &mut JoinSet<()>) {
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

/// Waits until every slot is free. Returns how many do not become free.
async fn leaked(world: &World) -> u64 {
    let mut in_use = 0;
    let freed = async {
        loop {
            let listed = world.send(Method::GET, "/accounts", &[], "").await;
            let listed = listed.unwrap().json();
            let accounts = listed["accounts"].as_array().unwrap().iter();
            in_use = accounts.map(|it| it["inFlight"].as_u64().unwrap()).sum();
            let running: u32 = ACCOUNTS
                .map(|(email, _)| world.sim.executing(email))
                .iter()
                .sum();
            if in_use == 0 && running == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let is_freed = timeout(END_MAX, freed).await.is_ok();
    if is_freed { 0 } else { in_use.max(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_overrun_no_account_double_no_job_and_lose_no_slot() {
    let (seed, kills) = (seed(), from_env("RESTARTS_KILLS").unwrap_or(KILLS));
    let probe = sim(seed).await;
    for (offset, mark) in [(0, "auto"), (1, "off")] {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = vec![program::book_in(directory.path())];
        if program::takes(&probe, &[("FORWARD__MARK", mark)]).await {
            settings.push(("FORWARD__MARK", mark.to_owned()));
        }
        let findings = run(Run {
            seed: seed.wrapping_add(offset),
            kills,
            plan: Plan::AnyMoment,
            settings: &settings,
        })
        .await;
        assert!(findings.is_clean(), "{findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_finds_what_kills_cost_without_a_book() {
    let findings = run(Run {
        seed: seed(),
        kills: KILLS_WITHOUT_A_BOOK,
        plan: Plan::UntilHarm,
        settings: &[],
    })
    .await;
    assert!(findings.over_limit > 0, "{findings:#?}");
    assert!(!findings.doubled.is_empty(), "{findings:#?}");
}
