//! The clients: each takes the next job, runs it, and knows as little of accounts as it can.
//!
//! Most of them are written for one account and send no `email`: [`Client::run_carried`] calls the
//! sidecar in the upstream's place. Some call the upstream themselves:
//! [`Client::run_picked`] is the documented way to use `/pick`, call by call; copy it from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::rest::{Failure, Server, read};

/// Clients at once that send everything through the sidecar.
pub(crate) const CARRIED_CLIENTS: u32 = 10;
/// Clients at once that pick and then call the upstream. Together there are more than there are
/// slots, so that some always wait.
pub(crate) const PICKING_CLIENTS: u32 = 4;
/// Where the sidecar stands for the upstream.
const UPSTREAM_AT_SIDECAR: &str = "/v1/kling";
const START_PATH: &str = "/videos/text2video";
/// How long a pick waits for a slot, as its query says it.
const PICK_PATH: &str = "/pick?wait=60s";
/// A wait for a slot and some time to answer.
const WAIT_TIME_MAX: Duration = Duration::from_secs(70);
/// Between two looks at a job.
const POLL_PAUSE: Duration = Duration::from_millis(500);
/// How long a job may take: the simulator's take 12 s at most.
const JOB_TIME_MAX: Duration = Duration::from_secs(120);
/// How often, and how long after a refusal, a job is sent again, as the vendor's scripts do.
const ATTEMPTS_MAX: u32 = 30;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// How a client uses the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It sends its calls through the sidecar.
    Proxy,
    /// It picks, and calls the upstream itself.
    Pick,
}

/// What happened to a client.
#[derive(Debug)]
pub(crate) struct Event {
    /// Which one, from 0.
    pub(crate) client_idx: u32,
    /// What.
    pub(crate) kind: EventKind,
}

/// What can happen to a client.
#[derive(Debug)]
pub(crate) enum EventKind {
    /// It asked for a slot, and has no answer yet.
    Waits,
    /// Its job runs.
    Started {
        /// The account it runs on.
        email: String,
        /// How many accounts the sidecar tried.
        attempts: u32,
    },
    /// The upstream refused its job, and it asks for another slot.
    Refused {
        /// The account that refused.
        email: String,
        /// The status.
        status: StatusCode,
    },
    /// Its job is over.
    Done {
        /// The account it ran on.
        email: String,
    },
    /// Some call of it was not answered as it should be.
    Failed(String),
}

/// How the client of this number uses the sidecar.
pub(crate) fn way_of(client_idx: u32) -> Way {
    if client_idx < CARRIED_CLIENTS {
        Way::Proxy
    } else {
        Way::Pick
    }
}

/// All clients. Dropping it stops them where they are.
#[derive(Debug)]
pub(crate) struct Crew {
    events: mpsc::Receiver<Event>,
    _clients: JoinSet<()>,
}

impl Crew {
    /// Sends the clients off to run `job_count` jobs between them.
    pub(crate) fn start(balancer: &Server, kling: &Server, job_count: u32) -> Self {
        let client_count = CARRIED_CLIENTS + PICKING_CLIENTS;
        let (tx, events) = mpsc::channel(client_count as usize);
        let started_count = Arc::new(AtomicU32::new(0));
        let mut clients = JoinSet::new();
        for client_idx in 0..client_count.min(job_count) {
            let client = Client {
                idx: client_idx,
                balancer: balancer.clone(),
                kling: kling.clone(),
                events: tx.clone(),
            };
            clients.spawn(client.work(Arc::clone(&started_count), job_count));
        }
        Self {
            events,
            _clients: clients,
        }
    }

    /// Waits for the next event; `None` once all jobs are over. Cancel-safe.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// One client of the sidecar, and of the upstream if it picks.
#[derive(Debug)]
struct Client {
    idx: u32,
    balancer: Server,
    kling: Server,
    events: mpsc::Sender<Event>,
}

/// What a client needs to know of a lease.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    lease_id: String,
    email: String,
}

/// The answer to a submission.
#[derive(Debug, Deserialize)]
struct Submitted {
    task: Task,
}

/// The job as the upstream names it.
#[derive(Debug, Deserialize)]
struct Task {
    /// Kept as a whole number: it may exceed what a double can hold.
    id: u64,
}

/// The answer to a poll.
#[derive(Debug, Deserialize)]
struct Polled {
    status_final: bool,
}

impl Client {
    async fn work(self, started_count: Arc<AtomicU32>, job_count: u32) {
        loop {
            let job_idx = started_count.fetch_add(1, Ordering::Relaxed);
            if job_idx >= job_count {
                return;
            }
            let ended = match self.run(job_idx).await {
                Ok(email) => EventKind::Done { email },
                Err(failure) => EventKind::Failed(failure.to_string()),
            };
            self.tell(ended).await;
        }
    }

    /// Tells the audience, if there still is one.
    async fn tell(&self, kind: EventKind) {
        let client_idx = self.idx;
        let _is_heard = self.events.send(Event { client_idx, kind }).await;
    }

    /// Runs one job, again if the upstream refuses it, and returns the account it ran on.
    async fn run(&self, job_idx: u32) -> Result<String, Failure> {
        let mut attempts_left = ATTEMPTS_MAX;
        loop {
            attempts_left -= 1;
            self.tell(EventKind::Waits).await;
            let ran = match way_of(self.idx) {
                Way::Proxy => self.run_carried(job_idx).await,
                Way::Pick => self.run_picked(job_idx).await,
            };
            match ran {
                Err(failure) if is_worth_another_try(&failure) && attempts_left > 0 => {
                    time::sleep(ATTEMPT_PAUSE).await;
                }
                ran => return ran,
            }
        }
    }

    /// Runs a job as a client of one account does: no `email`, no slot, no release.
    async fn run_carried(&self, job_idx: u32) -> Result<String, Failure> {
        let path = format!("{UPSTREAM_AT_SIDECAR}{START_PATH}");
        let answer = self
            .balancer
            .call_within(WAIT_TIME_MAX, Method::POST, &path, Some(job(job_idx)))
            .await?;
        let task = read::<Submitted>(&path, &answer)?.task;
        let (email, attempts) = (answer.account.clone(), answer.attempts);
        self.tell(EventKind::Started { email, attempts }).await;
        let path = format!("{UPSTREAM_AT_SIDECAR}/tasks/{}", task.id);
        await_end(&self.balancer, &path).await?;
        Ok(answer.account)
    }

    /// Runs a job from pick to release, calling the upstream itself.
    ///
    /// A lease is given back when its job is over, or when the upstream surely refused it. After
    /// anything else the job may be running: its slot is left to the lease's own end.
    async fn run_picked(&self, job_idx: u32) -> Result<String, Failure> {
        let picked = self
            .balancer
            .call_within(WAIT_TIME_MAX, Method::POST, PICK_PATH, None)
            .await?;
        let lease: Lease = read(PICK_PATH, &picked)?;
        let email = lease.email.clone();
        let mut job = job(job_idx);
        job["email"] = email.clone().into();
        let answer = match self.kling.call(Method::POST, START_PATH, Some(job)).await {
            Err(failure) if failure.is_refusal() => {
                self.release(&lease).await?;
                if let Some(status) = failure.status() {
                    self.tell(EventKind::Refused { email, status }).await;
                }
                return Err(failure);
            }
            answer => answer?,
        };
        let task = read::<Submitted>(START_PATH, &answer)?.task;
        let attempts = 1;
        self.tell(EventKind::Started { email, attempts }).await;
        // From now on the slot is held for the job, not for the ttl of an unused lease.
        let path = format!("/leases/{}", lease.lease_id);
        let bound = json!({ "taskId": task.id });
        self.balancer.call(Method::PUT, &path, Some(bound)).await?;
        let email = utf8_percent_encode(&lease.email, NON_ALPHANUMERIC);
        let path = format!("/tasks/{}?email={email}", task.id);
        await_end(&self.kling, &path).await?;
        self.release(&lease).await?;
        Ok(lease.email)
    }

    /// Gives a lease back. One that is gone already is as good: its job was seen to end.
    async fn release(&self, lease: &Lease) -> Result<(), Failure> {
        let path = format!("/leases/{}", lease.lease_id);
        match self.balancer.call(Method::DELETE, &path, None).await {
            Err(failure) if failure.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
            released => released.map(drop),
        }
    }
}

fn job(job_idx: u32) -> Value {
    json!({
        "prompt": "a paper boat on a calm river at dawn",
        // The audit recognises a job sent twice by its reference.
        "replyRef": format!("demo-{job_idx}"),
    })
}

/// The upstream surely did not take it, and another account may.
fn is_worth_another_try(failure: &Failure) -> bool {
    let status = failure.status().map(|status| status.as_u16());
    matches!(status, Some(429 | 596))
}

async fn await_end(server: &Server, path: &str) -> Result<(), Failure> {
    let polled_to_the_end = async {
        loop {
            time::sleep(POLL_PAUSE).await;
            let answer = server.call(Method::GET, path, None).await?;
            if read::<Polled>(path, &answer)?.status_final {
                return Ok(());
            }
        }
    };
    match time::timeout(JOB_TIME_MAX, polled_to_the_end).await {
        Ok(end) => end,
        Err(_) => Err(Failure::Unanswered {
            call: path.to_owned(),
            problem: format!("not final after {JOB_TIME_MAX:?}").into(),
        }),
    }
}
