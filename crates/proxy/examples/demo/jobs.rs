//! The clients: each takes the next job, leases a slot, runs the job and gives the slot back.
//!
//! [`Client::run`] is the documented way to use `/pick`, call by call; copy it from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::rest::{Failure, Server, read};

/// Clients at once: more than there are slots, so that some always wait.
pub(crate) const CLIENTS: u32 = 14;
/// How long a pick waits for a slot, as its query says it.
const PICK_PATH: &str = "/pick?wait=60s";
/// The wait of a pick and some time to answer.
const PICK_TIME_MAX: Duration = Duration::from_secs(70);
/// Between two looks at a job.
const POLL_PAUSE: Duration = Duration::from_millis(500);
/// How long a job may take: the simulator's take 12 s at most.
const JOB_TIME_MAX: Duration = Duration::from_secs(120);

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is over and its slot given back.
    Done {
        /// The account it ran on.
        email: String,
    },
    /// Some call of it was not answered with 2xx.
    Failed(String),
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
        let (tx, events) = mpsc::channel(CLIENTS as usize);
        let started_count = Arc::new(AtomicU32::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS.min(job_count) {
            let client = Client {
                balancer: balancer.clone(),
                kling: kling.clone(),
            };
            clients.spawn(client.work(Arc::clone(&started_count), job_count, tx.clone()));
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

/// One client of the sidecar and of the upstream.
#[derive(Debug)]
struct Client {
    balancer: Server,
    kling: Server,
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
    async fn work(self, started_count: Arc<AtomicU32>, job_count: u32, tx: mpsc::Sender<Event>) {
        loop {
            let job_idx = started_count.fetch_add(1, Ordering::Relaxed);
            if job_idx >= job_count {
                return;
            }
            let event = match self.run(job_idx).await {
                Ok(email) => Event::Done { email },
                Err(failure) => Event::Failed(failure.to_string()),
            };
            if tx.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Runs one job from pick to release, and returns the account it ran on.
    ///
    /// A lease is given back when its job is over, or when the upstream surely refused it. After
    /// anything else the job may be running: its slot is left to the lease's own end.
    async fn run(&self, job_idx: u32) -> Result<String, Failure> {
        let lease: Lease = read(
            PICK_PATH,
            &self
                .balancer
                .call_within(PICK_TIME_MAX, Method::POST, PICK_PATH, None)
                .await?,
        )?;
        let task = match self.submit(job_idx, &lease).await {
            Err(failure) if failure.is_client_error() => {
                self.release(&lease).await?;
                return Err(failure);
            }
            submitted => submitted?,
        };
        // From now on the slot is held for the job, not for the ttl of a lease nobody uses.
        let path = format!("/leases/{}", lease.lease_id);
        let bound = json!({ "taskId": task.id });
        self.balancer.call(Method::PUT, &path, Some(bound)).await?;
        self.await_end(&task, &lease).await?;
        self.release(&lease).await?;
        Ok(lease.email)
    }

    async fn submit(&self, job_idx: u32, lease: &Lease) -> Result<Task, Failure> {
        let path = "/videos/text2video";
        let job = json!({
            "email": lease.email,
            "prompt": "a paper boat on a calm river at dawn",
            // The audit recognises a job sent twice by its reference.
            "replyRef": format!("demo-{job_idx}"),
        });
        let answer = self.kling.call(Method::POST, path, Some(job)).await?;
        read::<Submitted>(path, &answer).map(|submitted| submitted.task)
    }

    async fn await_end(&self, task: &Task, lease: &Lease) -> Result<(), Failure> {
        let email = utf8_percent_encode(&lease.email, NON_ALPHANUMERIC);
        let path = format!("/tasks/{}?email={email}", task.id);
        let polled_to_the_end = async {
            loop {
                time::sleep(POLL_PAUSE).await;
                let answer = self.kling.call(Method::GET, &path, None).await?;
                if read::<Polled>(&path, &answer)?.status_final {
                    return Ok(());
                }
            }
        };
        match time::timeout(JOB_TIME_MAX, polled_to_the_end).await {
            Ok(end) => end,
            Err(_) => Err(Failure::Unanswered {
                call: path.clone(),
                problem: format!("not final after {JOB_TIME_MAX:?}").into(),
            }),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), Failure> {
        let path = format!("/leases/{}", lease.lease_id);
        self.balancer.call(Method::DELETE, &path, None).await?;
        Ok(())
    }
}
