//! The fuzz targets: what must hold for every input, each a function that panics if it does not. `fuzz/` runs them
//! under a fuzzer, the tests on the committed corpora.
//!
//! The list of accounts has its target in `accounts-fetcher`, the server in the harness: it is tried from outside.

#[cfg(test)]
mod tests;

pub use crate::{
    api::pick_params,
    forward::email::check::{form_email, json_email, multipart_email},
    kling::check::task_answers,
    pool::fuzzing::{
        events::run as pool_events, model::run as pool_model, rounds::run as rounds,
        world::run as pool_world,
    },
};
