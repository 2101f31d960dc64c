//! The simulator over real sockets. All tests are one binary, since each further binary would link
//! everything again.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod binary;
mod blame;
mod capacity;
mod client;
mod compression;
mod control;
mod faults;
mod history;
mod hung;
mod job_starts;
mod life;
mod list_faults;
mod refusals;
mod reply_refs;
mod resources;
mod results;
mod samples;
mod shapes;
mod tasks;
mod witness;
