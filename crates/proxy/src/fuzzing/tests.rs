//! The corpora.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::*;

/// The most files of all corpora, and the most bytes: they are read in every run of the tests.
const FILES_MAX: usize = 300;
const BYTES_MAX: usize = 1024 * 1024;

/// Targets whose corpora other tests run.
const ELSEWHERE: [&str; 2] = ["account_list", "server"];

type Check = fn(&[u8]);

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus_of(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn what_holds_for_every_input_holds_for_the_corpora() {
    let targets: [(&str, Check); 9] = [
        ("form_email", form_email),
        ("json_email", json_email),
        ("multipart_email", multipart_email),
        ("pick_params", pick_params),
        ("pool_events", pool_events),
        ("pool_model", pool_model),
        ("pool_world", pool_world),
        ("rounds", rounds),
        ("task_answers", task_answers),
    ];
    let (mut files, mut bytes) = (0, 0);
    for (target, check) in targets {
        for input in corpus_of(target) {
            check(&input);
            (files, bytes) = (files + 1, bytes + input.len());
        }
    }
    for input in ELSEWHERE.into_iter().flat_map(corpus_of) {
        (files, bytes) = (files + 1, bytes + input.len());
    }
    assert!(
        files <= FILES_MAX && bytes <= BYTES_MAX,
        "{files} files, {bytes} bytes"
    );
    let known = targets.map(|(target, _)| target);
    let known: BTreeSet<_> = known
        .into_iter()
        .chain(ELSEWHERE)
        .map(str::to_owned)
        .collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let files = fs::read_dir(fuzz().join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().path());
        names
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("corpus"), known, "each target has a corpus, and runs");
    assert_eq!(names("fuzz_targets"), known, "each corpus has a target");
}
