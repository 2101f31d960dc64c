//! The costs of the pool inside the process: a pick beside a floor, and the costs that grow with
//! the accounts, the leases and jobs, the waiters.
//!
//! Each growing cost is measured at several sizes, so that the numbers of one row show how it
//! grows. A pool is built once for its rows, and only if one of them runs; each iteration leaves it
//! as it found it, except for the time.

mod accounts;
mod filled;
mod fixtures;
mod jobs;
mod picks;
mod waiters;

use criterion::{criterion_group, criterion_main};

use fixtures::criterion;

/// How many accounts, leases or jobs there are.
const SIZES: [(&str, u32); 4] = [
    ("10", 10),
    ("1k", 1_000),
    ("10k", 10_000),
    ("100k", 100_000),
];

criterion_group! {
    name = pool;
    config = criterion();
    targets = picks::pick_and_release, picks::contended, picks::refused, picks::apply, jobs::bind, jobs::round, jobs::round_changed,
        waiters::release, waiters::give_up, waiters::expire, accounts::refused, accounts::swap,
        accounts::page, accounts::forget
}
criterion_main!(pool);
