//! The simulator as a value: built, asked, scripted, and gone when dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{BASE_PATH, Shared};
use crate::audit::Audit;
use crate::list::{ListAnswer, ListFault, ListRequests};
use crate::server;
use crate::world::{JobDuration, TaskId, World};

/// The token of a simulator that was given none.
pub const DEFAULT_TOKEN: &str = "user:1-sim";

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}")]
pub struct StartError {
    addr: SocketAddr,
    source: io::Error,
}

/// A simulator to be. See [`Sim::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SimBuilder {
    accounts: Vec<(String, u32)>,
    token: String,
    seed: u64,
    job_duration: JobDuration,
    addr: SocketAddr,
}

impl SimBuilder {
    /// Adds an account; one that is there already is resized.
    ///
    /// Any cap is taken as it is, also one outside of the upstream's 1 to 50.
    pub fn account(mut self, email: impl Into<String>, max_jobs: u32) -> Self {
        self.accounts.push((email.into(), max_jobs));
        self
    }

    /// Sets the token every call must carry; [`DEFAULT_TOKEN`] otherwise.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            ..self
        }
    }

    /// Sets the seed of task ids and job durations; 1 otherwise.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets how long jobs take; 5 s to 20 s otherwise.
    pub fn job_duration(self, job_duration: JobDuration) -> Self {
        Self {
            job_duration,
            ..self
        }
    }

    /// Sets the address to listen on; a free port of the loopback interface otherwise.
    pub fn listen(self, addr: SocketAddr) -> Self {
        Self { addr, ..self }
    }

    /// Binds the address and serves it on the current Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be bound.
    pub async fn start(self) -> Result<Sim, StartError> {
        let cannot_listen = |source| StartError {
            addr: self.addr,
            source,
        };
        let listener = TcpListener::bind(self.addr).await.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let mut world = World::new(self.seed, self.job_duration, Timestamp::now());
        for (email, max_jobs) in self.accounts {
            world.set_account(email, max_jobs);
        }
        let shared = Arc::new(Shared::new(world, self.token));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(server::serve(
            listener,
            Arc::clone(&shared),
            tasks.clone(),
            stop.clone(),
        ));
        tracing::info!(%addr, "simulator listens");
        Ok(Sim {
            addr,
            shared,
            tasks,
            stop,
        })
    }
}

/// A running simulator. Dropping it ends the listener and all connections.
#[derive(Debug)]
pub struct Sim {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sim {
    /// Starts to describe a simulator, so far without accounts.
    pub fn builder() -> SimBuilder {
        SimBuilder {
            accounts: Vec::new(),
            token: DEFAULT_TOKEN.to_owned(),
            seed: 1,
            job_duration: JobDuration::default(),
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// The address it listens on, with the true port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of the API, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE_PATH}", self.addr)
    }

    /// The token every call must carry.
    #[must_use]
    pub fn token(&self) -> &str {
        self.shared.token()
    }

    /// Adds an account at the end of the list, or resizes it where it stands.
    pub fn set_account(&self, email: impl Into<String>, max_jobs: u32) {
        self.shared
            .visit(|world| world.set_account(email.into(), max_jobs));
    }

    /// Takes an account off the list; `false` if it was not there. Its jobs go on.
    pub fn remove_account(&self, email: &str) -> bool {
        self.shared.visit(|world| world.remove_account(email))
    }

    /// Puts an account into its error state, or out of it with `None`; `false` if it is not
    /// configured. In error it shows no session and answers job starts with 596.
    pub fn set_account_error(&self, email: &str, error: Option<&str>) -> bool {
        self.shared
            .visit(|world| world.set_account_error(email, error.map(str::to_owned)))
    }

    /// Ends a job now, whatever its duration; `false` if there is none that still runs.
    pub fn finish(&self, task_id: impl Into<TaskId>) -> bool {
        self.shared.visit(|world| world.finish(task_id.into()))
    }

    /// Answers every `GET /accounts` with `fault` until [`Sim::clear_list_fault`].
    pub fn list_fault(&self, fault: ListFault) {
        self.shared.visit(|world| world.listing.fault(fault));
    }

    /// Answers `GET /accounts` with the true list again.
    pub fn clear_list_fault(&self) {
        self.script_list::<ListAnswer>([]);
    }

    /// Answers the next `GET /accounts` with `answers`, one each, and then with the true list.
    pub fn script_list<A: Into<ListAnswer>>(&self, answers: impl IntoIterator<Item = A>) {
        let answers = answers.into_iter().map(Into::into);
        self.shared.visit(|world| world.listing.script(answers));
    }

    /// How often `GET /accounts` was asked, and how many were under way at once.
    #[must_use]
    pub fn list_requests(&self) -> ListRequests {
        self.shared.visit(|world| world.listing.requests())
    }

    /// A copy of the audit as of now.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.shared.visit(|world| world.audit())
    }

    /// Ends the listener and all connections, and waits until they are gone.
    ///
    /// Cancelling it leaves them ending by themselves.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
