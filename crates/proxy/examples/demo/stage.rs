//! What the demo runs on: the simulator and the sidecar, both listening on loopback.

use std::{error::Error, io, iter, net::SocketAddr, time::Duration};

use http::{HeaderValue, Method};
use kling_sim::{Audit, JobDuration, Sim};
use proxy::{
    cli,
    config::{Config, ConfigErrors, ENV_PREFIX},
    sidecar::{Sidecar, StartError, TaskEnded},
    sockets::PassedSockets,
};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::rest::Server;

/// The simulated accounts and their slots: ten slots together.
pub(crate) const ACCOUNTS: [(&str, u32); 3] = [
    ("a@example.com", 2),
    ("b@example.com", 3),
    ("c@example.com", 5),
];
/// Between these two lengths a job takes any, in seconds.
pub(crate) const JOB_SECONDS: (u64, u64) = (4, 12);
/// How long after a job's end the upstream lets go of its slot, in milliseconds.
const RELEASE_LAG_MS: (u64, u64) = (500, 2000);
/// Where the sidecar listens if its usual port is taken: the system chooses.
const ANY_PORT: &str = "127.0.0.1:0";
/// How long the sidecar may take until it grants picks: it fetches one list over loopback.
const START_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two questions whether it does.
const START_PAUSE: Duration = Duration::from_millis(50);
/// How long running calls may finish at the end.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// The two servers, and how to call them.
#[derive(Debug)]
pub(crate) struct Stage {
    sim: Sim,
    running: JoinHandle<Result<(), TaskEnded>>,
    shutdown: CancellationToken,
    balancer: Server,
    kling: Server,
    taken: Option<SocketAddr>,
}

impl Stage {
    /// Starts both and returns when the sidecar grants picks.
    ///
    /// # Errors
    /// If the address is not to be had, or the sidecar does not become ready.
    pub(crate) async fn start(listen: Option<SocketAddr>) -> Result<Self, Box<dyn Error>> {
        let (low, high) = JOB_SECONDS;
        let job_duration =
            JobDuration::between(Duration::from_secs(low), Duration::from_secs(high));
        let (soon, late) = RELEASE_LAG_MS;
        let release_lag = Duration::from_millis(soon)..=Duration::from_millis(late);
        let mut sim = Sim::builder()
            .job_duration(job_duration)
            .release_lag(release_lag)
            .seed(1);
        for (email, max_jobs) in ACCOUNTS {
            sim = sim.account(email, max_jobs);
        }
        let sim = sim.start().await?;
        let shutdown = CancellationToken::new();
        let (sidecar, taken) = start_sidecar(&sim, listen, &shutdown).await?;
        let authorization = HeaderValue::try_from(format!("Bearer {}", sim.token()))?;
        let stage = Self {
            balancer: Server::new(format!("http://{}", sidecar.addr()?)),
            kling: Server::new(sim.base_url()).authorized(authorization),
            running: tokio::spawn(sidecar.run()),
            sim,
            shutdown,
            taken,
        };
        stage.await_ready().await?;
        Ok(stage)
    }

    /// The sidecar.
    pub(crate) fn balancer(&self) -> &Server {
        &self.balancer
    }

    /// The simulated upstream.
    pub(crate) fn kling(&self) -> &Server {
        &self.kling
    }

    /// The address the sidecar should have had, if another program had it.
    pub(crate) fn taken(&self) -> Option<SocketAddr> {
        self.taken
    }

    /// The simulator itself, for what only its master can do.
    pub(crate) fn sim(&self) -> &Sim {
        &self.sim
    }

    /// What the simulator saw so far.
    pub(crate) fn audit(&self) -> Audit {
        self.sim.audit()
    }

    /// Waits until the sidecar ends, which it does not do unasked. Cancel-safe.
    pub(crate) async fn broke_down(&mut self) {
        // How it ended makes no difference: there is no demo without it.
        drop((&mut self.running).await);
    }

    /// Ends both and lets running calls finish, for a moment.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        let ended = async {
            drop(self.running.await);
            self.sim.shutdown().await;
        };
        // Whoever calls longer than that is cut off by the end of the process.
        drop(time::timeout(END_TIME_MAX, ended).await);
    }

    /// Picks are refused until the first list is there.
    async fn await_ready(&self) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + START_TIME_MAX;
        while let Err(failure) = self.balancer.call(Method::GET, "/readyz", None).await {
            if Instant::now() > deadline {
                return Err(failure.into());
            }
            time::sleep(START_PAUSE).await;
        }
        Ok(())
    }
}

/// Starts the sidecar at `listen`, or at a free port if no address was given and its
/// usual port is taken; the address of that port is returned then.
async fn start_sidecar(
    sim: &Sim,
    listen: Option<SocketAddr>,
    shutdown: &CancellationToken,
) -> Result<(Sidecar, Option<SocketAddr>), Box<dyn Error>> {
    let config = config(sim, listen.map(|addr| addr.to_string()))?;
    match Sidecar::start(&config, PassedSockets::default(), shutdown.clone()).await {
        Err(StartError::Bind { addr, source })
            if listen.is_none() && source.kind() == io::ErrorKind::AddrInUse =>
        {
            let config = self::config(sim, Some(ANY_PORT.to_owned()))?;
            let sidecar =
                Sidecar::start(&config, PassedSockets::default(), shutdown.clone()).await?;
            Ok((sidecar, Some(addr)))
        }
        started => Ok((started?, None)),
    }
}

/// The settings as a deployment would give them, but at a faster pace: half a minute until a list is
/// fetched again is too long for a demo. The user's own environment is left out: a real
/// token in it must not get here. The address is a flag, so that complaints name `--listen`.
fn config(sim: &Sim, listen: Option<String>) -> Result<Config, ConfigErrors> {
    let env = [
        ("UPSTREAM__BASE_URL", sim.base_url()),
        ("UPSTREAM__TOKEN", sim.token().to_owned()),
        ("ACCOUNTS__REFRESH_INTERVAL", "1s".to_owned()),
        ("RECONCILE__INTERVAL", "1s".to_owned()),
        ("SELECTION__WAIT", "60s".to_owned()),
    ]
    .map(|(name, value)| (format!("{ENV_PREFIX}{name}"), value));
    let listen = listen.map(|addr| format!("--listen={addr}"));
    let command_line = iter::once("kling-balancer".to_owned()).chain(listen);
    let flags = cli::command().get_matches_from(command_line);
    Config::load(&flags, env.into_iter(), None)
}
