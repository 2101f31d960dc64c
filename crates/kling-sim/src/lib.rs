//! A faithful simulator of the Kling API v1 of useapi.net that keeps its own audit.
//!
//! It accepts jobs, runs them on Tokio's clock and refuses what the upstream would refuse, over
//! real sockets. It counts for itself how many jobs each account ran at once and who tried to
//! exceed a cap, so that a test need not trust the program it tests. It can be told to answer
//! `GET /accounts` wrongly in a dozen ways. It plans nothing and balances nothing.
//!
//! ```
//! use kling_sim::{JobDuration, ListFault, Sim};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sim = Sim::builder()
//!     .account("a@example.com", 3)
//!     .account("b@example.com", 5)
//!     .job_duration(JobDuration::Manual)
//!     .start()
//!     .await?;
//! println!("{} wants the token {}", sim.base_url(), sim.token());
//! sim.list_fault(ListFault::status(503));
//! assert_eq!(sim.audit().over_limit(), 0);
//! sim.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Rooms: `world` is the upstream as a pure value, `list` scripts the account list, `audit` is
//! what the simulator saw; `api` maps requests to the world, `server` owns the sockets.

mod api;
mod audit;
mod list;
mod operation;
mod refusal;
mod reply;
mod server;
mod sim;
mod world;

pub use self::audit::{
    AccountAudit, Audit, Outcome, REPLY_REFS_MAX, SUBMISSION_BYTES_MAX, SUBMISSIONS_MAX, Submission,
};
pub use self::list::{ListAnswer, ListFault, ListRequests};
pub use self::sim::{DEFAULT_TOKEN, Sim, SimBuilder, StartError};
pub use self::world::{JobDuration, MAX_JOBS, TaskId};
