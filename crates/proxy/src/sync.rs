//! The lock of the ledger: the standard one, or shuttle's when a model checker drives the threads.
//!
//! It is poisoned by a panic, unlike all other locks here: half a change could overrun an account.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
