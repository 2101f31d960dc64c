//! `cargo +nightly fuzz run json_email`
#![no_main]

use proxy::forward::email;

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::json(data));
