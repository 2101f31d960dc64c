//! What the pool costs inside the process: a pick beside a floor, and what grows with the size of the
//! book: with its accounts, its leases and jobs, its waiters.
//!
//! Each row of what grows is measured at several sizes, so that the numbers of one row tell how its
//! cost grows. A book is built once for its rows, and only if one of them runs; each iteration leaves
//! it as it found it, but for the time.

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
    targets = picks::pick_and_release, picks::refused, picks::apply, jobs::bind, jobs::round,
        waiters::release, waiters::give_up, waiters::expire, accounts::refused, accounts::swap,
        accounts::forget
}
criterion_main!(pool);
