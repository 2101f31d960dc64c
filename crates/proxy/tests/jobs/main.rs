//! The upstream client and the rounds on real sockets against the simulator.
//!
//! All tests are one binary, because each binary costs a link; the files are named by behaviour.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod life;
mod owners;
mod places;
mod unreadable;
mod upstream;
