//! kling-balancer: a sidecar that puts every Kling job on a random account with a free slot.
//!
//! ```text
//!            accounts-fetcher ──snapshots──▶ ledger (pool behind one lock) ◀── jobs (rounds)
//!                                               ▲   │                             │
//! client ──▶ server ──▶ api (gate, /pick, …) ───┤   └──▶ metrics                  │
//!                        └──▶ forward ──────────┘                                 │
//!                                └───────────────▶ upstream ◀─────────────────────┘
//! ```
//!
//! The [`pool`] makes every decision about slots; it is pure, without I/O, lock or clock. The [`ledger`] keeps
//! it, tells waiters, and ends leases in time. [`jobs`] asks the upstream in rounds which jobs run. [`owners`]
//! knows which account owns what. [`forward`] carries calls to the upstream: it takes the slot of a job start,
//! puts the e-mail in, and settles the slot by the answer. [`upstream`] is the only client there, and tells
//! "nothing was sent" from "lost". `kling` knows the vendor's paths and JSON. `api` answers our own paths;
//! `error` holds the only mapping from what went wrong to what a client is told. [`config`] makes one valid
//! configuration of flags, environment and file, or a list of every mistake. [`sidecar`] wires the parts;
//! `server` owns the sockets.
//!
//! `ARCHITECTURE.md` says where which rule is decided.

mod api;
mod backoff;
#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching;
mod book;
mod boxed;
pub mod cli;
pub mod client;
pub mod config;
mod error;
pub mod events;
pub mod exit;
pub mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod hex;
mod idempotency;
pub mod jobs;
mod journal;
mod keyed_hash;
mod kling;
pub mod ledger;
mod metrics;
pub mod owners;
mod peer;
mod picker;
pub mod pool;
#[cfg(test)]
mod readme;
mod records;
mod reload;
mod server;
pub mod service_manager;
pub mod shutdown;
pub mod sidecar;
pub mod sockets;
mod sync;
pub mod telemetry;
pub mod terminal;
pub mod upstream;
mod wire_time;
