//! A faithful simulator of the Kling API v1 of useapi.net that keeps its own audit.
//!
//! It accepts jobs, runs them on Tokio's clock and refuses what the upstream would refuse, over
//! real sockets. It counts for itself how many jobs each account ran at once and who tried to
//! exceed a cap, so that a test does not have to trust the program it tests. A request with the
//! header `x-sim-tool` counts as one from a second tool on the same accounts. A test can script
//! wrong answers to `GET /accounts` in a dozen ways ([`ListFault`]), and to any request
//! ([`Fault`]), and choose what becomes of a `replyRef` ([`ReplyRefs`]). Moderation refuses a prompt with the word `forbidden`; a prompt with the word
//! `doomed` starts a job that fails. The results of a job that succeeded are files that the
//! simulator serves. It plans nothing and balances nothing.
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
//! Modules: `operation` is the table of what the API offers, `world` is the upstream as a pure
//! value, `list` and `fault` are the scripts, `audit` is what the simulator saw. `api` takes
//! requests through their steps, `control` answers the simulator's own calls, and `server` owns the
//! sockets. The small facts that several
//! modules share lie below them: `account`, `head`, `media`, `origin`, `outcome`, `prompt`,
//! `reply_refs`, `task_id` and `upload`. Imports form no ring.

mod account;
mod api;
mod audit;
mod body;
mod call;
mod control;
mod encode;
mod fault;
mod head;
mod list;
mod media;
mod operation;
mod origin;
mod outcome;
mod prompt;
mod refusal;
mod reply;
mod reply_refs;
mod server;
mod shared;
mod sim;
mod task_id;
mod upload;
mod world;

pub use account::{MAX_JOBS, SchedulerRows};
pub use audit::{AccountAudit, Audit, REQUEST_BODY_BYTES_MAX, RequestSeen, Submission};
pub use encode::Encoding;
pub use fault::{Answer, ChaosPlan, Effect, Fault};
pub use head::Head;
pub use list::{ListAnswer, ListFault, ListRequests};
pub use origin::{Origin, TOOL_HEADER};
pub use outcome::Outcome;
pub use reply_refs::ReplyRefs;
pub use sim::{DEFAULT_TOKEN, Sim, SimBuilder, StartError};
pub use task_id::{TaskId, TaskIds};
pub use world::{HistoryStyle, JobDuration, SAMPLE_IDS};
