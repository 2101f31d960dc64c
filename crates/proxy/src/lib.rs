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
//! Deliberately absent: what happens to the upstream call itself. A client that picked calls the
//! upstream with its own hands, and releases its lease when the job is over.

pub mod api;
pub mod cli;
pub mod config;
pub mod error;
pub mod forward;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod pool;
pub mod server;
pub mod shutdown;
pub mod sidecar;
mod sync;
pub mod telemetry;
