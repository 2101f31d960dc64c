//! Everything at once: thousands of submissions against a simulator that injects every fault, while
//! accounts come and go and a second tool starts jobs. The simulator's books judge.
//!
//! `CHAOS_SUBMISSIONS` and `CHAOS_SEED` make a run longer, or repeat one that failed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod clients;
mod exchange;
mod judge;
mod resends;
mod surroundings;

use std::{env, sync::Arc, time::Duration};

use harness::{PATIENCE, REACTION_ROUNDS, Running, eventually, with_accounts};
use kling_sim::JobDuration;
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use clients::{Client, Told};
use judge::Judge;
use surroundings::{ACCOUNTS, plan};

const CLIENTS: usize = 32;
/// Jobs per seed by default.
const SUBMISSIONS: usize = 400;
const SEEDS: [u64; 2] = [20_250_708, 4_711];
/// Ends a run that hangs.
const RUN_MAX: Duration = Duration::from_secs(600);

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "a failure shows its seed")]
async fn whatever_goes_wrong_no_account_is_overrun_no_job_doubled_and_no_slot_lost() {
    let drawn = SEEDS.into_iter().chain([rand::random()]);
    let seeds = from_env("CHAOS_SEED").map_or_else(|| drawn.collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("CHAOS_SEED={seed}");
        timeout(RUN_MAX, run(seed)).await.expect("it hangs");
    }
}

#[expect(clippy::print_stdout, reason = "a long run shows what it did")]
async fn run(seed: u64) {
    // The sidecar can take a job of a second tool for the job of a pick that is not submitted yet.
    // So it ties picks only if there is no second tool; else they are bound or counted twice.
    let has_second_tool = seed.is_multiple_of(2);
    let ties_picks = if has_second_tool { "false" } else { "true" };
    let submissions = from_env("CHAOS_SUBMISSIONS").unwrap_or(SUBMISSIONS);
    let ms = Duration::from_millis;
    let sim = with_accounts(&ACCOUNTS)
        .seed(seed)
        .job_duration(JobDuration::Manual)
        .reaction_rounds(REACTION_ROUNDS)
        .release_lag(ms(0)..=ms(150));
    let settings = [
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "1s"),
        ("UPSTREAM__REQUEST_TIMEOUT", "250ms"),
        ("SELECTION__WAIT", "60s"),
        // Shorter than clients wait for an answer.
        ("FORWARD__WAIT", "5s"),
        ("RECONCILE__TIE_PICKS", ties_picks),
    ];
    let running = Running::beside(sim.start().await.unwrap(), &settings).await;
    running.until(|readiness| readiness.status == 200).await;
    let running = Arc::new(running);
    running.sim.chaos(plan(seed));

    let submitted = disturbed(&running, seed, has_second_tool, submissions);
    let mut told = submitted.await;
    running.sim.clear_faults();
    surroundings::restore(&running).await;

    // Before jobs start that could be taken for lost ones.
    let listed = eventually(async || {
        let listed = running.get("/jobs").await.json();
        let jobs = listed["jobs"].as_array().unwrap();
        // A client that hung up may leave a submission under way.
        let are_settled = jobs.iter().all(|it| it["outcome"] != "submitting");
        are_settled.then_some(listed)
    })
    .await;

    // An untracked job still holds its slot if the answer to that call was lost.
    running.sim.finish_all();
    agreed(&running, |jobs| jobs == 0).await;
    // While jobs run and nothing else happens, both books agree slot by slot.
    for (email, _) in ACCOUNTS {
        running.sim.submit_directly(email, 1);
    }
    told.extend(clients::start_on_each(running.addr).await);
    agreed(&running, |jobs| jobs > 0).await;
    running.sim.finish_all();
    agreed(&running, |jobs| jobs == 0).await;
    let leases = running.get("/leases").await.json();
    assert_eq!(leases["leases"].as_array().unwrap().len(), 0, "{leases}");

    let judge = Judge::new(running.sim.audit(), &told, &listed, has_second_tool);
    println!("{judge}");
    judge.judge();
    let unverified = r#"kling_balancer_leases_ended_total{cause="unverified"}"#;
    assert_eq!(running.metric(unverified).await, 0.0);
    let undelivered = "kling_balancer_undelivered_answers_total";
    assert!(running.metric(undelivered).await > 0.0, "nobody hung up");
    for cause in ["absent", "finished", "refused", "expired", "released"] {
        let series = format!("kling_balancer_leases_ended_total{{cause=\"{cause}\"}}");
        assert!(running.metric(&series).await > 0.0, "nothing was {cause}");
    }
}

/// Runs the clients and all disturbances around them. Returns what the clients know of their jobs.
async fn disturbed(
    running: &Arc<Running>,
    seed: u64,
    has_second_tool: bool,
    submissions: usize,
) -> Vec<(String, Told)> {
    let stop = CancellationToken::new();
    let mut around = JoinSet::new();
    around.spawn(surroundings::end_jobs(
        Arc::clone(running),
        stop.clone(),
        seed,
    ));
    let mut disturbers = JoinSet::new();
    disturbers.spawn(surroundings::operate(
        Arc::clone(running),
        stop.clone(),
        seed,
    ));
    if has_second_tool {
        disturbers.spawn(surroundings::second_tool(
            Arc::clone(running),
            stop.clone(),
            seed,
        ));
    }
    disturbers.spawn(surroundings::fail_rounds(
        Arc::clone(running),
        stop.clone(),
        seed,
    ));
    disturbers.spawn(surroundings::heal(Arc::clone(running), stop.clone()));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client::new(Arc::clone(running), number, seed);
        clients.spawn(client.work(submissions / CLIENTS));
    }
    let told = clients.join_all().await.concat();
    stop.cancel();
    disturbers.join_all().await;
    around.join_all().await;
    told
}

/// Waits until our book and the upstream's agree about every account, no slot is uncertain, and
/// the number of running jobs is the wanted one.
async fn agreed(running: &Running, is_wanted: impl Fn(u32) -> bool) {
    let mut seen = String::new();
    let agreement = async {
        loop {
            let listed = running.get("/accounts").await.json();
            let leases = running.get("/leases").await.json();
            let executing =
                ACCOUNTS.map(|(email, _)| format!("{email}: {}", running.sim.executing(email)));
            seen = format!("{listed}\n{leases}\nexecuting: {executing:?}");
            let is_settled = |lease: &Value| lease["state"] == "bound";
            let agrees = |account: &Value| {
                let executing = running.sim.executing(account["email"].as_str().unwrap());
                account["inFlight"] == executing && account["uncertain"] == 0
            };
            let jobs = ACCOUNTS.map(|(email, _)| running.sim.executing(email));
            let accounts = listed["accounts"].as_array().unwrap();
            let leases = leases["leases"].as_array().unwrap();
            if is_wanted(jobs.iter().sum())
                && accounts.len() == ACCOUNTS.len()
                && accounts.iter().all(agrees)
                && leases.iter().all(is_settled)
            {
                return;
            }
        }
    };
    let is_met = timeout(PATIENCE, agreement).await.is_ok();
    assert!(is_met, "the books do not agree: {seen}");
}
