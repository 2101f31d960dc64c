//! How the program reports mistakes in its settings.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::program::{output, program};

const TOKEN: &str = "user:1-very-secret-token";
const CLIENT_TOKEN: &str = "very-secret-client-token";

#[tokio::test]
async fn every_mistake_is_reported_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klb.toml");
    let text =
        "listen = \"nowhere\"\n\n[upstream]\nbase_ulr = \"http://x\"\n\n[leases]\nttl = \"2h\"\n";
    std::fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let env = [
        ("KLB_ACCOUNTS__TIMEOUT", "soon"),
        ("KLB_ACOUNTS__FILE", "x"),
    ];
    for task in ["serve", "check-config"] {
        let (code, said) = output(
            &[task, "--config", file, "--selection.strategy", "best"],
            &env,
        )
        .await;
        assert_eq!(code, Some(78), "{said}");
        for wanted in [
            format!("{file}:1: listen: expected an IP address and a port, such as 127.0.0.1:8080"),
            format!("{file}:4: unknown key `upstream.base_ulr`; did you mean `upstream.base_url`?"),
            format!("{file}:7: leases.ttl: expected at most leases.ttl_max"),
            "KLB_ACCOUNTS__TIMEOUT: expected a duration with a unit, such as 500ms, 30s or 5m"
                .to_owned(),
            "KLB_ACOUNTS__FILE: unknown environment variable; did you mean `KLB_ACCOUNTS__FILE`?"
                .to_owned(),
            "--selection.strategy: expected random, the only strategy there is".to_owned(),
            "upstream.token: missing; set KLB_UPSTREAM__TOKEN".to_owned(),
        ] {
            assert!(said.contains(&wanted), "{wanted}\nis not in\n{said}");
        }
        let serves_not = said.contains("`serve` does not start");
        assert_eq!(serves_not, task == "check-config", "{said}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_told() {
    let mut command = program(&["check-config"], &[("KLB_UPSTREAM__TOKEN", TOKEN)]);
    command.env("KLB_AUTH__TOKENS", OsStr::from_bytes(b"\xff\xfe"));
    let said = command.output().await.unwrap();
    assert_eq!(said.status.code(), Some(78));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(
        text.starts_with("KLB_AUTH__TOKENS: expected visible ASCII"),
        "{text}"
    );
}

#[tokio::test]
async fn an_unknown_flag_is_a_wrong_setting() {
    let (code, said) = output(&["--leases.tt", "5s"], &[]).await;
    assert_eq!(code, Some(78));
    assert!(said.contains("--leases.ttl"), "{said}");
    assert_eq!(output(&["--version"], &[]).await.0, Some(0));
}

#[tokio::test]
async fn valid_settings_are_said_to_be_so() {
    let (code, said) = output(&["check-config"], &[("KLB_UPSTREAM__TOKEN", TOKEN)]).await;
    assert_eq!((code, said.as_str()), (Some(0), "the settings are valid\n"));
}

#[tokio::test]
async fn settings_can_be_checked_where_the_token_is_not_known() {
    let (code, said) = output(&["check-config"], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the settings are valid\n"), "{said}");
    assert!(said.contains("warning: upstream.token: missing"), "{said}");
    assert_eq!(output(&["serve"], &[]).await.0, Some(78));
}

#[tokio::test]
async fn every_setting_in_force_is_printed_beside_what_is_wrong() {
    let env = [
        ("KLB_UPSTREAM__TOKEN", TOKEN),
        ("KLB_UPSTREAM__BASE_URL", "http://gateway/v1"),
        ("KLB_LEASES__TTL", "soon"),
    ];
    let (code, said) = output(&["check-config", "--print"], &env).await;
    assert_eq!(code, Some(78), "{said}");
    let row = |key: &str| {
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("{key} ")));
        let words = line
            .unwrap_or_else(|| panic!("{key} in {said}"))
            .split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("leases.ttl")[1..], ["soon", "KLB_LEASES__TTL"]);
    assert_eq!(row("leases.ttl_max")[1..], ["1h", "default"]);
    assert_eq!(
        row("upstream.token")[1..],
        ["<redacted>", "KLB_UPSTREAM__TOKEN"]
    );
    assert!(
        said.contains("KLB_LEASES__TTL: expected a duration"),
        "{said}"
    );
    assert!(!said.contains(TOKEN), "{said}");

    let (code, said) = output(&["check-config"], &env[..2]).await;
    let doubt = "warning: KLB_UPSTREAM__BASE_URL: http://gateway/v1 does not end in /kling";
    assert!(code == Some(0) && said.contains(doubt), "{said}");
}

#[tokio::test]
async fn listening_beyond_this_machine_needs_tokens() {
    let env = [
        ("KLB_UPSTREAM__TOKEN", TOKEN),
        ("KLB_LISTEN", "0.0.0.0:8080"),
    ];
    let (code, said) = output(&["check-config"], &env).await;
    assert_eq!(code, Some(78));
    assert!(said.contains("KLB_LISTEN: beyond this machine"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("klb.toml");
    std::fs::write(&path, "[auth]\ntokens = []\n").unwrap();
    let args = ["check-config", "--config", path.to_str().unwrap()];
    assert_eq!(
        output(&args, &env).await.0,
        Some(78),
        "no token is among none"
    );
    let none = [env[0], env[1], ("KLB_AUTH__TOKENS", "[]")];
    assert_eq!(output(&["check-config"], &none).await.0, Some(78));
    for (name, value) in [
        ("KLB_AUTH__TOKENS", CLIENT_TOKEN),
        ("KLB_AUTH__ALLOW_UNAUTHENTICATED", "true"),
    ] {
        let env = [env[0], env[1], (name, value)];
        assert_eq!(output(&["check-config"], &env).await.0, Some(0), "{name}");
    }
}
