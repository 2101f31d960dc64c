//! kling-balancer: a sidecar that puts every Kling job on a random account with a free slot.

pub mod pool;
pub mod ledger;
mod sync;
pub mod cli;
pub mod config;
