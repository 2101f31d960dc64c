//! A book that cannot be written, that another process has, or that cannot be read.

use std::{fs, net::TcpListener, time::Duration};

use harness::{eventually, send};
use http::Method;
use kling_sim::{Effect, ListFault};
use tokio::process::Command;

use crate::{
    program::{self, Program},
    restarted::{JOB, JSON, Restarted, Signal, body},
};

/// Lets the program write at most so many bytes into each file.
async fn limit_files(restarted: &Restarted, bytes: &str) {
    let pid = restarted.program.id().to_string();
    let limit = format!("--fsize={bytes}:");
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(limited.await.unwrap().success(), "prlimit of util-linux");
}

#[tokio::test]
async fn a_book_that_cannot_be_written_stops_grants_and_nothing_else() {
    let restarted = Restarted::new(&[]).await;
    restarted.pick("leased@x", "before").await;
    limit_files(&restarted, "0").await;
    let call = |method, path| restarted.call(method, path, &[], "");
    // The first one finds out, the others are told.
    for _ in 0..3 {
        let refused = call(Method::POST, "/pick").await;
        refused.assert_refused(503, "store-unavailable");
        let refused = restarted.start("keyed@x", Some("key")).await;
        refused.assert_refused(429, "store-unavailable");
    }
    assert_eq!(restarted.sim.audit().submission_count, 0);
    let readiness = call(Method::GET, "/readyz").await;
    readiness.assert_refused(503, "store-unavailable");
    let checks = call(Method::GET, "/readyz?verbose").await;
    assert!(checks.text.contains("[-] state"), "{checks:?}");
    // What needs no slot goes on.
    for path in [
        "/accounts",
        "/leases",
        "/metrics",
        "/v1/kling/accounts/leased@x",
    ] {
        assert_eq!(call(Method::GET, path).await.status, 200, "{path}");
    }
    let before = restarted.account("leased@x").await;
    assert_eq!(before["inFlight"], 1, "refused picks gave their slots back");
    // A pick that waits is granted once the disk takes writes again.
    let addr = restarted.program.addr;
    let waiting = tokio::spawn(async move {
        let path = "/pick?email=leased@x&wait=5m&ttl=10m";
        send(addr, Method::POST, path, &[], "").await.lease()
    });
    let before = restarted.account("leased@x").await;
    assert_eq!(before["inFlight"], 1, "it takes no slot meanwhile");
    assert!(!waiting.is_finished());
    limit_files(&restarted, "unlimited").await;
    let lease = waiting.await.unwrap();
    restarted.until_ready().await;
    // Its key is free: no job was started under it.
    assert_eq!(
        restarted.start("keyed@x", Some("key")).await.status,
        200,
        "the key was not used up"
    );
    let after = restarted.restart(Signal::Kill).await;
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    let kept = after.call(Method::GET, &path, &[], "").await;
    assert_eq!(kept.json()["leaseId"], lease["leaseId"]);
}

#[tokio::test]
async fn a_start_of_an_account_outside_the_list_is_sent_once_it_is_in_the_book() {
    let restarted = Restarted::new(&[("ACCOUNTS__REFRESH_INTERVAL", "1h")]).await;
    restarted.sim.list_fault(ListFault::Stalled);
    restarted.sim.set_account("new@x", 2);
    limit_files(&restarted, "0").await;
    // The first one finds out, the second one is told.
    for key in [None, None, Some("key")] {
        let refused = restarted.start("new@x", key).await;
        refused.assert_refused(429, "store-unavailable");
    }
    assert_eq!(restarted.sim.audit().submission_count, 0);
    limit_files(&restarted, "unlimited").await;
    restarted.until_ready().await;
    // Its answer never comes, and its process is killed.
    restarted.fail_next("new@x", Effect::StallAfter);
    let addr = restarted.program.addr;
    let interrupted = tokio::spawn(async move {
        let body = body("new@x");
        let sent = harness::try_send(addr, Method::POST, JOB, &[JSON], &body);
        sent.await.is_err()
    });
    eventually(async || (restarted.sim.executing("new@x") == 1).then_some(())).await;
    restarted.sim.clear_list_fault();
    let after = restarted.restart(Signal::Kill).await;
    assert!(interrupted.await.unwrap(), "its client was not answered");
    after.until_ready().await;
    let again = after.start("new@x", None).await;
    again.assert_refused(502, "outcome-unknown");
    assert_eq!(after.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_book_with_records_that_are_not_understood_is_refused_and_not_changed() {
    let restarted = Restarted::new(&[]).await;
    restarted.pick("leased@x", "kept").await;
    let Restarted {
        sim,
        settings,
        program,
        directory,
    } = restarted;
    program.terminate().await;
    let path = directory.path().join("book.db");
    let records = |sql: &str| {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch(sql).unwrap();
        let mut select = conn
            .prepare("SELECT kind, name, value FROM record")
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows = select.query_map([], row).unwrap();
        rows.collect::<Result<Vec<(String, String, String)>, _>>()
            .unwrap()
    };
    let before = records(
        "UPDATE record SET value = replace(value, 'reserved', 'suspended') WHERE kind = 'lease';
         UPDATE record SET value = json_set(value, '$.version', '99.1.0') WHERE kind = 'session';",
    );
    let ended = program::command("serve", &sim, &settings).output();
    let ended = tokio::time::timeout(Duration::from_secs(20), ended);
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    for part in [
        "book.db",
        "unknown variant `suspended`",
        "start kling-balancer 99.1.0",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(records(""), before);
}

#[tokio::test]
async fn a_second_process_waits_for_the_book_and_says_so() {
    let first = Restarted::new(&[]).await;
    let lease = first.pick("leased@x", "kept").await;
    // It is asked before it can tell where it listens.
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = first.settings.clone();
    settings.push(("LISTEN", addr.to_string()));
    let second = Program::spawn(&first.sim, &settings);
    let told = eventually(async || {
        let answer = harness::try_send(addr, Method::GET, "/readyz", &[], "").await;
        answer.ok()
    })
    .await;
    told.assert_refused(503, "learning");
    assert!(told.text.contains("another process"), "{told:?}");
    let call = |method, path, body: &'static str| async move {
        send(addr, method, path, &[JSON], body).await
    };
    assert_eq!(call(Method::GET, "/livez", "").await.status, 200);
    call(Method::POST, "/pick", "")
        .await
        .assert_refused(503, "learning");
    // The page shows a person what `/status` says.
    assert_eq!(call(Method::GET, "/dashboard/app.js", "").await.status, 200);
    call(Method::GET, "/status", "")
        .await
        .assert_refused(503, "learning");
    // A job that is told 503 is given up.
    let start = send(addr, Method::POST, JOB, &[JSON], &body("keyed@x")).await;
    start.assert_refused(429, "learning");
    let Restarted { sim, program, .. } = first;
    program.terminate().await;
    let second = second.serving().await;
    assert_eq!(second.addr, addr);
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    let kept = send(addr, Method::GET, &path, &[], "").await;
    assert_eq!(kept.json()["leaseId"], lease["leaseId"]);
    drop(sim);
}

#[tokio::test]
async fn a_book_of_other_accounts_is_refused_and_one_that_is_damaged_is_moved_aside() {
    let restarted = Restarted::new(&[]).await;
    restarted.pick("leased@x", "kept").await;
    let Restarted {
        sim,
        settings,
        program,
        directory,
    } = restarted;
    program.terminate().await;
    let mut others = settings.clone();
    others.push(("UPSTREAM__TOKEN", "user:99999-other".to_owned()));
    let ended = program::command("serve", &sim, &others).output();
    let ended = tokio::time::timeout(Duration::from_secs(20), ended);
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("accounts of another token"), "{said}");
    fs::write(directory.path().join("book.db"), "no book at all").unwrap();
    let program = Program::start(&sim, &settings).await;
    let leases = send(program.addr, Method::GET, "/leases", &[], "").await;
    assert_eq!(leases.json()["leases"], serde_json::json!([]));
    let names = fs::read_dir(directory.path()).unwrap();
    let names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let is_aside = |name: &String| name.starts_with("book.db.corrupt-");
    let aside = names.iter().find(|name| is_aside(name));
    let aside = aside.unwrap_or_else(|| panic!("{names:?}"));
    let kept = fs::read(directory.path().join(aside)).unwrap();
    assert_eq!(kept, b"no book at all");
}
