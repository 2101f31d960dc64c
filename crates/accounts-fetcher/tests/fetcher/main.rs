//! The fetcher against a scripted upstream on real sockets, and against real files.
//!
//! One binary, since each one costs a link; the files are named by behaviour.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod body;
mod file;
mod list;
mod refusal;
mod schedule;
mod secrecy;
mod tls;
mod upstream;
mod watching;
