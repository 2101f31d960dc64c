//! The sidecar on real sockets against the simulator.
//!
//! All tests are one binary, because each binary costs a link; the files are named by behaviour.
//! Asserts on what the upstream saw read the simulator's own books.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
mod bad_input;
mod carry;
mod clients;
mod command_line;
mod commands;
mod connections;
mod events;
mod footprint;
mod gate;
mod idempotency;
mod leases;
mod list_faults;
mod load;
mod metrics;
mod openapi;
mod pick;
mod process;
mod program;
mod pseudo_terminal;
mod raw;
mod service_manager;
mod settings;
mod shutdown;
mod status;
mod tls;
mod tokens;
mod top;
mod waiting;
