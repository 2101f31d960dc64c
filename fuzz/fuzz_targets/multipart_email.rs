//! `cargo +nightly fuzz run multipart_email`
#![no_main]

use proxy::forward::email;

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::multipart(data));
