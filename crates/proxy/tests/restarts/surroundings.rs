//! What happens around the clients: the program is killed and comes back, and a second tool starts
//! jobs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use harness::{Answer, try_send};
use http::Method;
use kling_sim::Sim;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    judge,
    program::{Program, Settings},
};

/// Few slots for the clients, so that a slot too many shows.
pub(crate) const ACCOUNTS: [(&str, u32); 4] = [("a@x", 1), ("b@x", 2), ("c@x", 2), ("d@x", 1)];

/// The operations that clients start jobs with.
pub(crate) const JOBS: [&str; 2] = ["/videos/text2video", "/images/kolors"];

/// The longest time in which a submission is answered; the job starts at any moment of it.
pub(crate) const SLOW: Duration = Duration::from_millis(500);

/// The longest job. With [`SLOW`] it is shorter than an outage.
pub(crate) const JOB_MAX: Duration = Duration::from_millis(600);

/// Longer than the sidecar lets a call wait, and than an answer takes after that.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// The upstream, and where the program listens while it runs.
pub(crate) struct World {
    pub(crate) sim: Sim,
    addr: watch::Sender<Option<SocketAddr>>,
}

impl World {
    pub(crate) fn new(sim: Sim) -> Self {
        Self {
            sim,
            addr: watch::Sender::new(None),
        }
    }

    /// Sends a request to the program as soon as one listens. `None`: no whole answer came.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut addr = self.addr.subscribe();
        let addr = addr.wait_for(Option::is_some).await.unwrap().unwrap();
        let sent = try_send(addr, method, path, headers, body);
        timeout(ANSWER_MAX, sent).await.expect("it hangs").ok()
    }

    /// Sends a request to the upstream itself. `tool`: as a second tool does.
    pub(crate) async fn send_directly(
        &self,
        method: Method,
        path: &str,
        body: &str,
        is_tool: bool,
    ) -> Answer {
        let bearer = format!("Bearer {}", self.sim.token());
        let mut headers = vec![
            ("authorization", &*bearer),
            ("content-type", "application/json"),
        ];
        headers.extend(is_tool.then_some(("x-sim-tool", "second")));
        let path = format!("/v1/kling{path}");
        let sent = try_send(self.sim.addr(), method, &path, &headers, body);
        timeout(ANSWER_MAX, sent).await.expect("it hangs").unwrap()
    }
}

/// When the program is killed, and when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It is killed before its first round, before it is ready, or in full work. It comes back at
    /// once, or after all jobs are over.
    AnyMoment,
    /// It is killed in full work, and comes back at once, until the books show harm of every kind.
    UntilHarm,
}

impl Plan {
    fn is_over(self, world: &World) -> bool {
        let shows_harm = || {
            let audit = world.sim.audit();
            audit.over_limit_ours() > 0 && !judge::doubled(&judge::jobs(&audit)).is_empty()
        };
        self == Self::UntilHarm && shows_harm()
    }

    /// How long it runs until it is killed.
    fn up_time(self, rng: &mut SmallRng) -> Duration {
        let range = match self {
            Self::AnyMoment => 0..[50, 500, 2_000, 4_000][rng.random_range(0..4)],
            Self::UntilHarm => 1_000..2_000,
        };
        Duration::from_millis(rng.random_range(range))
    }

    /// How long it is away.
    fn outage(self, rng: &mut SmallRng) -> Duration {
        match self {
            Self::AnyMoment if rng.random_bool(0.5) => {
                SLOW + JOB_MAX + Duration::from_millis(rng.random_range(0..300))
            }
            Self::AnyMoment | Self::UntilHarm => Duration::ZERO,
        }
    }
}

/// Starts the program, and kills it as planned. Returns the last one, which runs on, and
/// how often one was killed.
pub(crate) async fn kill(
    world: Arc<World>,
    settings: Settings,
    plan: Plan,
    kills_max: usize,
    seed: u64,
) -> (Program, usize) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 1);
    let mut program = Program::start(&world.sim, &settings).await;
    let mut kills = 0;
    while kills < kills_max && !plan.is_over(&world) {
        kills += 1;
        world.addr.send_replace(Some(program.addr));
        // It draws the moment of the kill, and waits for no event.
        sleep(plan.up_time(&mut rng)).await;
        program.kill().await;
        world.addr.send_replace(None);
        sleep(plan.outage(&mut rng)).await;
        program = Program::start(&world.sim, &settings).await;
    }
    world.addr.send_replace(Some(program.addr));
    (program, kills)
}

/// Starts jobs on the same accounts, without asking us.
pub(crate) async fn second_tool(world: Arc<World>, stop: CancellationToken, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 2);
    for number in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let (email, _) = ACCOUNTS[rng.random_range(0..ACCOUNTS.len())];
        let path = JOBS[rng.random_range(0..JOBS.len())];
        let prompt = format!("tool-{number}");
        let body = json!({"email": email, "prompt": prompt}).to_string();
        world.send_directly(Method::POST, path, &body, true).await;
        sleep(Duration::from_millis(rng.random_range(0..600))).await;
    }
}
