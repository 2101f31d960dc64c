//! kling-balancer: a sidecar that puts every Kling job on a random account with a free slot.
//!
//! ```text
//!            accounts-fetcher ──snapshots──▶ ledger (pool behind one lock)
//!                                               ▲   │
//! client ──▶ server ──▶ api (gate, /pick, …) ───┘   └──▶ metrics
//! ```
//!
//! The [`pool`] is the heart: accounts, slots, the choice, the waiters; pure, without I/O, lock or
//! clock. The [`ledger`] keeps it, tells waiters, and ends leases in time. The [`api`] turns
//! requests into questions to the ledger; [`error`] holds the one mapping from what went wrong to
//! what a client is told. [`config`] makes one valid configuration of flags, environment and file,
//! or a list of every mistake. [`sidecar`] wires the parts; [`server`] owns the sockets.
//!
//! [`forward`], [`jobs`] and [`upstream`] are the parts of the transparent proxy that stand by now:
//! what a passing call means and how an e-mail is put in, rounds with the upstream's list of
//! running jobs and who owns them, and the client towards the upstream. The sidecar does not run
//! them yet: a client that picked calls the upstream with its own hands.

pub mod api;
pub mod cli;
pub mod config;
pub mod error;
pub mod forward;
pub mod health;
pub mod jobs;
pub mod ledger;
pub mod metrics;
pub mod picker;
pub mod pool;
#[cfg(test)]
mod readme;
pub mod server;
pub mod shutdown;
pub mod sidecar;
mod sync;
pub mod telemetry;
pub mod upstream;
