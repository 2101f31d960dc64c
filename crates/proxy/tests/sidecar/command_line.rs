//! `kling-balancer accounts`, `pick`, `release`, `state`, `completions`: a running sidecar from
//! the command line.

use std::collections::BTreeSet;

use harness::{Running, eventually};
use http::StatusCode;
use serde_json::{Value, json};

use crate::program::{output, program};

const TOKEN: (&str, &str) = ("KLB_AUTH__TOKENS", "a-token-of-a-client");

/// Runs a command against the sidecar with only two settings: its address and a client token.
async fn ask(running: &Running, args: &[&str]) -> (Option<i32>, String) {
    let listen = running.addr.to_string();
    let (code, said) = output(args, &[("KLB_LISTEN", &listen), TOKEN]).await;
    (code, said.trim_end().to_owned())
}

async fn with_token(accounts: &[(&str, u32)]) -> Running {
    let settings = [("AUTH__TOKENS", TOKEN.1)];
    Running::configured(accounts, &settings).await
}

#[tokio::test]
async fn a_slot_is_picked_seen_and_given_back() {
    let running = with_token(&[("a@x", 1), ("b+1@x", 1)]).await;
    let picked = ask(
        &running,
        &["pick", "--email", "b+1@x", "--ttl", "5m", "--json"],
    )
    .await;
    let lease: Value = serde_json::from_str(&picked.1).unwrap();
    assert_eq!(
        (picked.0, lease["email"].as_str()),
        (Some(0), Some("b+1@x"))
    );

    let (code, table) = ask(&running, &["accounts"]).await;
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(code, Some(0));
    assert_eq!(rows[0][..3], ["ACCOUNT", "ALIAS", "SLOTS"]);
    assert_eq!(
        (&*rows[1][0], &*rows[1][2], &*rows[1][6]),
        ("a@x", "0/1", "available")
    );
    assert_eq!(
        (&*rows[2][0], &*rows[2][2], &*rows[2][6]),
        ("b+1@x", "1/1", "full")
    );

    let (code, table) = ask(&running, &["pick", "--dry-run"]).await;
    let states: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| words(line)[1].clone())
        .collect();
    assert_eq!(
        (code, &*states),
        (Some(0), &["available".into(), "full".into()][..])
    );
    let (code, table) = ask(&running, &["pick", "--dry-run", "--exclude", "a@x"]).await;
    assert!(
        code == Some(1) && table.contains("every slot is in use"),
        "{table}"
    );
    assert!(table.contains("no account can be picked now"), "{table}");

    let id = lease["leaseId"].as_str().unwrap();
    let released = ask(&running, &["release", id]).await;
    assert_eq!(released, (Some(0), "released".to_owned()));
    let again = ask(&running, &["release", id]).await;
    let expected = "kling-balancer: no such lease, or it has ended; /leases lists those that are held \
                    (404 Not Found, unknown-lease)";
    assert_eq!(again, (Some(1), expected.to_owned()));
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let running = with_token(&[("a@x", 1)]).await;
    let (code, said) = ask(&running, &["pick", "--wait", "soon"]).await;
    assert!(
        code == Some(1) && said.contains("wait: expected a duration"),
        "{said}"
    );
    let (code, said) = ask(&running, &["pick", "--exclude", "a@x"]).await;
    assert!(code == Some(1) && said.contains("see /accounts"), "{said}");
    let listen = running.addr.to_string();
    let (code, said) = output(&["accounts"], &[("KLB_LISTEN", &listen)]).await;
    assert!(
        code == Some(77) && said.contains("name a file that holds one with --token-file"),
        "{said}"
    );
    let nobody = running.sim.addr().to_string();
    let (code, said) = output(&["accounts"], &[("KLB_LISTEN", &nobody)]).await;
    assert!(
        code == Some(69) && said.contains("does not answer as"),
        "{said}"
    );
    let (code, said) = output(&["accounts"], &[("KLB_LISTEN", "127.0.0.1:1")]).await;
    assert!(
        code == Some(69) && said.contains("is kling-balancer running"),
        "{said}"
    );
    let (code, said) = output(&["accounts"], &[("KLB_LISTEN", "nowhere")]).await;
    assert!(code == Some(78) && said.contains("KLB_LISTEN"), "{said}");
}

#[tokio::test]
async fn a_client_needs_no_setting_of_the_sidecar() {
    let running = with_token(&[("a@x", 1)]).await;
    let url = format!("http://{}", running.addr);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{}\n", TOKEN.1)).unwrap();
    let token_file = path.to_str().unwrap();
    let args = ["accounts", "--url", &url, "--token-file", token_file];
    let (code, said) = output(&args, &[]).await;
    assert!(code == Some(0) && said.contains("a@x"), "{said}");

    std::fs::write(&path, "another-client-token\n").unwrap();
    let (code, said) = output(&args, &[]).await;
    assert!(
        code == Some(77) && said.contains("it does not take this client token"),
        "{said}"
    );
}

#[tokio::test]
async fn a_client_token_that_may_only_look_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "the-token-of-a-watcher\n").unwrap();
    let token_file = path.to_str().unwrap();
    let settings = [("AUTH__READ_TOKENS_FILE", token_file)];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let url = format!("http://{}", running.addr);
    let ask = async |command| {
        let args = [command, "--url", &url, "--token-file", token_file];
        output(&args, &[]).await
    };
    assert_eq!(ask("accounts").await.0, Some(0));
    for command in ["status", "top", "leases", "jobs"] {
        assert_eq!(ask(command).await.0, Some(0), "{command}");
    }
    let (code, said) = ask("pick").await;
    assert_eq!(code, Some(77));
    assert!(
        said.contains("this client token may only look; name a file"),
        "{said}"
    );
}

/// The answer of `state --json`.
async fn state(running: &Running) -> Value {
    let (code, said) = ask(running, &["state", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn a_state_in_memory_is_shown_as_what_ends_with_the_process() {
    let running = Running::with(&[("a@x", 1)]).await;
    running.pick("").await;
    let (code, table) = ask(&running, &["state"]).await;
    let expected = "kept in  memory: it ends with the process";
    assert_eq!((code, &*table), (Some(0), expected));
    let state = state(&running).await;
    assert_eq!(state["kind"], "memory", "{state}");
    assert_eq!(state["committedAt"], Value::Null, "{state}");
    assert_eq!(state["records"]["lease"], 0, "nothing is kept: {state}");
}

#[tokio::test]
async fn a_state_on_disk_is_shown_with_its_records_and_what_is_known_of_marks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.db");
    let settings = [
        ("STATE__PATH", path.to_str().unwrap()),
        ("RECONCILE__INTERVAL", "100ms"),
    ];
    let running = Running::configured(&[("a@x", 3)], &settings).await;
    running.pick("").await;
    let operations = ["/videos/text2video", "/images/kolors"];
    for operation in operations {
        let path = format!("/v1/kling{operation}");
        let started = running.post(&path, r#"{"prompt":"a boat"}"#).await;
        assert_eq!(started.status, StatusCode::OK, "{started:?}");
    }
    let proven = json!({"/videos/text2video": "proven", "/images/kolors": "proven"});
    let state = eventually(async || {
        let state = state(&running).await;
        (state["marks"] == proven).then_some(state)
    })
    .await;
    assert_eq!(
        (&state["kind"], &state["sessions"]),
        (&json!("disk"), &json!(1))
    );
    assert!(state["bytes"].as_u64() > Some(0), "{state}");
    let committed_at = state["committedAt"].as_str().unwrap();
    committed_at.parse::<jiff::Timestamp>().unwrap();
    // A grant is told once it is written.
    assert_eq!(state["records"]["lease"], 3, "{state}");

    let (code, table) = ask(&running, &["state"]).await;
    assert_eq!(code, Some(0), "{table}");
    let lines = table.lines().map(|line| line.split_whitespace());
    let lines: BTreeSet<_> = lines
        .map(|words| words.collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "kept in disk",
        "processes 1",
        "lease 3",
        "list 1",
        "marks /images/kolors proven",
        "marks /videos/text2video proven",
    ] {
        assert!(lines.contains(line), "no {line} in\n{table}");
    }
    assert!(!table.contains("foreign-job"), "there are none\n{table}");
}

#[tokio::test]
async fn a_refused_pick_says_when_to_come_back() {
    let running = with_token(&[("a@x", 1)]).await;
    assert_eq!(ask(&running, &["pick"]).await.0, Some(0));
    let (code, said) = ask(&running, &["pick"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("(429 Too Many Requests, saturated); come back in "),
        "{said}"
    );
}

#[tokio::test]
async fn that_no_account_is_known_yet_is_said_with_the_reason() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_url = format!("http://{}/v1/kling", nobody.local_addr().unwrap());
    drop(nobody);
    let settings = [
        ("UPSTREAM__BASE_URL", dead_url.as_str()),
        ("AUTH__TOKENS", TOKEN.1),
    ];
    let running = Running::unlearned(&[("a@x", 1)], &settings).await;
    let cause = "no connection to the upstream: Connection refused";
    running
        .until(|readiness| readiness.text.contains(cause))
        .await;
    let (code, said) = ask(&running, &["accounts"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("kling-balancer: no account is known yet: "),
        "{said}"
    );
    assert!(said.contains(cause) && !said.contains("ACCOUNT"), "{said}");
    let (code, said) = ask(&running, &["accounts", "--json"]).await;
    let json = said.lines().next().unwrap();
    assert!(
        code == Some(1) && json.starts_with(r#"{"accounts":[]"#),
        "{said}"
    );

    let bearer = format!("Bearer {}", TOKEN.1);
    let headers = [("authorization", bearer.as_str())];
    let refused = running
        .send(http::Method::POST, "/pick", &headers, "")
        .await;
    refused.assert_refused(503, "learning");
    assert!(refused.text.contains(cause), "{refused:?}");
}

#[tokio::test]
async fn shells_can_complete_command_lines() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = output(&["completions", shell], &[]).await;
        assert_eq!(code, Some(0));
        assert!(
            script.contains("kling-balancer") && script.contains("dry-run"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_has_read_enough() {
    let running = Running::with(&[("a@x", 1)]).await;
    let listen = running.addr.to_string();
    for args in [
        &["completions", "bash"] as &[&str],
        &["check-config", "--print"],
        &["status"],
        &["accounts", "--json"],
        &["top"],
        &["events"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = program(args, &[("KLB_LISTEN", &listen)]);
        let ended = command
            .stdout(writer)
            .spawn()
            .unwrap()
            .wait_with_output()
            .await;
        let ended = ended.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_accounts_are_shown() {
    let names: Vec<_> = (0..20_000).map(|n| format!("{n:05}@x")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
    let running = with_token(&accounts).await;
    let (code, table) = ask(&running, &["accounts"]).await;
    assert_eq!(code, Some(0), "{table}");
    let shown = table.lines().skip(1).map(|line| &line[..7]);
    assert!(shown.eq(names.iter()), "each once, in the list's order");
    let (code, json) = ask(&running, &["accounts", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(json["accounts"].as_array().unwrap().len(), names.len());
    assert_eq!(json.get("next"), None, "this is all of them");
}
