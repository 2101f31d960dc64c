//! What grows with the size of the book: with its accounts, its leases and jobs, its waiters.
//!
//! Each row is measured at several sizes, so that the numbers of one row tell how its cost grows.
//! A book is built once for its rows, and only if one of them runs; each iteration leaves it as it
//! found it, but for the time.

mod accounts;
mod filled;
mod fixtures;
mod jobs;
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
    name = book;
    config = criterion();
    targets = jobs::bind, jobs::round, waiters::release, waiters::give_up, waiters::expire,
        accounts::refused, accounts::swap, accounts::forget
}
criterion_main!(book);
