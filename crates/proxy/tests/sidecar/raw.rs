//! Raw bytes, as a fuzzer sends them.

use std::fs;

use harness::RawServer;

#[test]
fn whatever_is_sent_is_answered_in_http_and_strands_no_slot() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/server");
    let files: Vec<_> = fs::read_dir(corpus).unwrap().collect();
    assert!(!files.is_empty(), "there is no corpus");
    let server = RawServer::new();
    for file in files {
        server.check(&fs::read(file.unwrap().path()).unwrap());
    }
}
