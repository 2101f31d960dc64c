#![no_main]

use std::sync::LazyLock;

use harness::RawServer;

static SERVER: LazyLock<RawServer> = LazyLock::new(RawServer::new);

libfuzzer_sys::fuzz_target!(|data: &[u8]| SERVER.check(data));
