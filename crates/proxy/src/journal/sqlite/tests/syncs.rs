//! How often a commit waits for the disk.
//!
//! Without strace the test is left out, unless `CLIENTS=all` says that all programs must be there.

use super::*;

const BOOK: &str = "KLB_TEST_BOOK";
const SYNC: &str = "KLB_TEST_SYNC";
const COMMITS: &str = "KLB_TEST_COMMITS";

/// Commits as often as it is told. It is no test unless another one runs it.
#[tokio::test]
async fn child_that_commits_some() {
    let (Some(path), Some(commits)) = (given(BOOK), given(COMMITS)) else {
        return;
    };
    let sync = match given(SYNC).as_deref() {
        Some("power") => SyncMode::Power,
        _ => SyncMode::Process,
    };
    let opened = Sqlite::open(Path::new(&path), sync, POOL, || ()).await;
    let mut journal = opened.unwrap().journal;
    for number in 0..commits.parse().unwrap() {
        let changes = vec![put(Table::Lease, &format!("{number}"), "{}")];
        journal.commit(changes).await.unwrap();
    }
    journal.close().await;
}

/// How often such a child waits for the disk in its life.
fn syncs(sync: &str, commits: u32) -> usize {
    let desk = Desk::new();
    let log = desk.directory.path().join("strace");
    let path = desk.path();
    let settings = [
        (BOOK, path.to_str().unwrap()),
        (SYNC, sync),
        (COMMITS, &commits.to_string()),
    ];
    let told = child(
        "journal::sqlite::tests::syncs::child_that_commits_some",
        &settings,
    );
    let mut traced = Command::new("strace");
    traced.args([
        "-f",
        "-qq",
        "-e",
        "trace=fsync,fdatasync,sync_file_range,msync",
        "-o",
    ]);
    traced
        .arg(&log)
        .arg(told.get_program())
        .args(told.get_args());
    let output = traced.envs(settings).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.contains("sync(")).count()
}

#[test]
fn a_commit_waits_for_the_disk_only_if_it_is_to_survive_the_loss_of_power() {
    let probed = Command::new("strace").arg("-V").output();
    if !probed.is_ok_and(|output| output.status.success()) {
        let must_be = std::env::var_os("CLIENTS").is_some_and(|which| which == "all");
        assert!(!must_be, "strace is not installed");
        return;
    }
    let more = |sync| syncs(sync, 30).checked_sub(syncs(sync, 0)).unwrap();
    assert_eq!(more("process"), 0);
    assert_eq!(more("power"), 30);
}
