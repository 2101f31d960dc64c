//! What the integration tests of `proxy` share: simulators with their accounts, a running sidecar
//! or only its rounds beside one, a small client, and the patience to wait.
//!
//! It is a crate, so that it is compiled once for all test binaries and each may use a part of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod client;
mod document;
mod gzip;
mod raw;
pub mod rounds;
mod sidecar;
mod slots;
pub mod tls;
mod waiting;

use kling_sim::{JobDuration, Sim, SimBuilder};

pub use client::{Answer, send, try_send};
pub use document::Document;
pub use gzip::stored_gzip;
pub use raw::RawServer;
pub use sidecar::{Running, listening};
pub use slots::Slots;
pub use waiting::{NEVER, PATIENCE, eventually, within};

/// More rounds of a tenth of a second than pass on a busy machine between a pick and the arrival of its job start.
pub const REACTION_ROUNDS: u64 = 5;

/// A simulator with these accounts: e-mails, and how many jobs each may run.
pub fn with_accounts(accounts: &[(&str, u32)]) -> SimBuilder {
    accounts.iter().fold(Sim::builder(), |sim, (email, max)| {
        sim.account(*email, *max)
    })
}

/// The same, and jobs end when the test says so.
pub fn manual(accounts: &[(&str, u32)]) -> SimBuilder {
    with_accounts(accounts).job_duration(JobDuration::Manual)
}
