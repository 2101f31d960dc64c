//! What the README says of the file.
//!
//! Without sqlite3 the test is left out, unless `CLIENTS=all` says that all programs must be there.

use super::*;

const README: &str = include_str!("../../../../../../README.md");

#[tokio::test]
async fn the_backup_of_the_readme_has_all_of_a_book_in_use() {
    let probed = Command::new("sqlite3").arg("--version").output();
    if !probed.is_ok_and(|output| output.status.success()) {
        let must_be = std::env::var_os("CLIENTS").is_some_and(|which| which == "all");
        assert!(!must_be, "sqlite3 is not installed");
        return;
    }
    let desk = Desk::new();
    let mut journal = desk.opened().await.journal;
    let many = (0..1000).map(|idx| put(Table::Lease, &idx.to_string(), "{}"));
    journal.commit(many.collect()).await.unwrap();
    let copies = Desk::new();
    let backup = README.lines().find(|line| line.starts_with("sqlite3 "));
    let command = backup.expect("the README says how");
    let directory = |desk: &Desk| desk.directory.path().display().to_string();
    let command = command
        .replace("/var/lib/kling-balancer", &directory(&desk))
        .replace("/var/backups", &directory(&copies));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // It disturbs nothing.
    journal.commit(vec![gone(Table::Lease, "0")]).await.unwrap();
    assert_eq!(desk.stored().len(), 999);

    let mut copy = copies.opened().await;
    assert!(!copy.is_fresh && copy.moved_aside.is_none());
    assert_eq!(copy.journal.load().await.unwrap().len(), 1000);
}
