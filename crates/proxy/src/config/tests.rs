mod asked;
mod checks;
mod state;

use std::{fs, io::Write, path::PathBuf};

use secrecy::ExposeSecret;

use super::*;
use crate::cli;

const TOKEN: (&str, &str) = ("KLB_UPSTREAM__TOKEN", "user:1-x");

fn load(flags: &[&str], env: &[(&str, &str)], file: Option<&Path>) -> Result<Config, String> {
    Config::load(&parsed(flags), owned(env), file).map_err(|errors| errors.to_string())
}

fn parsed(flags: &[&str]) -> ArgMatches {
    let flags = ["kling-balancer"].iter().chain(flags);
    cli::command().try_get_matches_from(flags).unwrap()
}

fn owned(env: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    env.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn mistakes_of(text: &str) -> String {
    let file = file(text);
    let errors = load(&[], &[TOKEN], Some(file.path())).unwrap_err();
    errors.replace(&file.path().display().to_string(), "klb.toml")
}

#[test]
fn every_default_is_valid() {
    let config = load(&[], &[TOKEN], None).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.upstream.base_url, "https://api.useapi.net/v1/kling");
    assert_eq!(config.leases.job_ttl, Duration::from_secs(65 * 60));
    assert_eq!(config.selection.waiters_max, 10_000);
    assert!(config.workers.is_none() && config.metrics_listen.is_none());
}

#[test]
fn the_annotated_file_names_every_setting_with_its_default() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/kling-balancer.toml");
    load(&[], &[TOKEN], Some(&path)).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let mut section = String::new();
    let mut named = HashSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, value)) = line.split_once(" = ") {
            let has_default = !key.starts_with('#');
            let key = format!("{section}{}", key.trim_start_matches("# "));
            let setting = SETTINGS.iter().find(|setting| setting.key == key);
            let setting = setting.unwrap_or_else(|| panic!("{key} is no setting"));
            assert_eq!(has_default, !setting.default.is_empty(), "{key}");
            if has_default {
                assert_eq!(value.trim_matches('"'), setting.default, "{key}");
            }
            named.insert(setting.key);
        }
    }
    for setting in SETTINGS {
        assert!(named.contains(setting.key), "{} is missing", setting.key);
    }
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file = file("[leases]\nttl = \"1s\"\nttl_max = \"2s\"\njob_ttl = \"3s\"\n");
    let env = [
        TOKEN,
        ("KLB_LEASES__TTL_MAX", "20s"),
        ("KLB_LEASES__JOB_TTL", "30s"),
    ];
    let leases = load(&["--leases.job_ttl", "300s"], &env, Some(file.path()))
        .unwrap()
        .leases;
    let seconds = [leases.ttl, leases.ttl_max, leases.job_ttl].map(|time| time.as_secs());
    assert_eq!(seconds, [1, 20, 300]);
}

#[test]
fn an_empty_variable_is_not_given() {
    let config = load(
        &[],
        &[TOKEN, ("KLB_LEASES__TTL", ""), ("KLB_AUTH__TOKENS", "")],
        None,
    );
    assert!(config.unwrap().auth.tokens.is_empty());
}

#[test]
fn what_kubernetes_sets_for_a_service_is_no_setting() {
    let service = [
        TOKEN,
        ("KLB_PORT", "tcp://10.0.0.1:8080"),
        ("KLB_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("KLB_SERVICE_HOST", "10.0.0.1"),
        ("KLB_SERVICE_PORT_API", "8080"),
    ];
    load(&[], &service, None).unwrap();
    for wrong in ["KLB_PORTS", "KLB_SERVICES", "KLB_SERVICE"] {
        let said = load(&[], &[TOKEN, (wrong, "x")], None).unwrap_err();
        assert!(said.starts_with(wrong), "{said}");
    }
}

#[test]
fn lists_are_written_as_in_toml_or_as_one_word() {
    let env = [
        TOKEN,
        (
            "KLB_AUTH__TOKENS",
            r#"["the-first-of-two", "second-of-the-two"]"#,
        ),
        ("KLB_AUTH__ALLOWED_HOSTS", "One.example"),
        ("KLB_FORWARD__RETRY_STATUSES", "[429]"),
    ];
    let auth = load(&[], &env, None).unwrap().auth;
    assert_eq!(auth.tokens.full().count(), 2);
    assert!(auth.allowed_hosts.contains("one.example"));
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_line_and_what_was_expected() {
    let said = mistakes_of(
        "listen = 8080\nlistne = 1\n[accounts]\nrefresh_interval = \"50ms\"\ntimeout = 5\n\
         [upstream]\nbase_url = \"ftp://x\"\n[selection]\nwaiters_max = -1\nstrategy = \"first\"\n\
         [reconcile]\ninterval = \"1ms\"\n[forward]\nretry_statuses = [42]\nbody_max = \"big\"\n\
         [state]\nkind = \"redis\"\n[auth]\nallow_unauthenticated = \"yes\"\n[log]\nformat = \"xml\"\n\
         [metrics.deep]\nx = 1\n[leases.ttl]\nx = 1\n",
    );
    for wanted in [
        "klb.toml:1: listen: expected an IP address and a port, such as 127.0.0.1:8080",
        "klb.toml:2: unknown key `listne`; did you mean `listen`?",
        "klb.toml:4: accounts.refresh_interval: expected at least 100ms",
        "klb.toml:5: accounts.timeout: expected a duration with a unit, such as 500ms, 30s or 5m",
        "klb.toml:7: upstream.base_url: expected an http:// or https:// address",
        "klb.toml:9: selection.waiters_max: expected a whole number from 0 to 1000000",
        "klb.toml:10: selection.strategy: expected random, the only strategy there is",
        "klb.toml:12: reconcile.interval: expected 0 or at least 100ms",
        "klb.toml:14: forward.retry_statuses: expected HTTP statuses such as [429, 596]",
        "klb.toml:15: forward.body_max: expected a size such as 512KiB or 16MiB",
        "klb.toml:17: state.kind: expected memory or disk; redis is not built yet",
        "klb.toml:19: auth.allow_unauthenticated: expected true or false",
        "klb.toml:21: log.format: expected text or json",
        "klb.toml:22: unknown key `metrics.deep`",
        "klb.toml:24: leases.ttl: expected a value or a list of values, not a table",
    ] {
        assert!(said.contains(wanted), "{wanted}\nis not in\n{said}");
    }
    assert_eq!(said.lines().count(), 15, "{said}");
}

#[test]
fn syntax_errors_are_told_with_their_line_beside_the_other_mistakes() {
    let said = mistakes_of("listen = \n[leases]\nttl = \"0s\"\n");
    assert!(said.contains("klb.toml:1: "), "{said}");
    assert!(
        said.contains("klb.toml:3: leases.ttl: expected at least 1s"),
        "{said}"
    );
}

#[test]
fn a_base_url_is_an_address_we_may_call() {
    for (url, said) in [
        (
            "https://user:secret@x/v1",
            "expected an address without user and password",
        ),
        ("https://x/v1?a=b", "expected an address without ? and #"),
        (
            "http://169.254.169.254/v1",
            "expected a host that is not link-local",
        ),
        (
            "http://[fe80::1]/v1",
            "expected a host that is not link-local",
        ),
        (
            "file:///etc/passwd",
            "expected an http:// or https:// address",
        ),
        ("api.useapi.net", "expected an http:// or https:// address"),
    ] {
        let errors = load(&["--upstream.base_url", url], &[TOKEN], None).unwrap_err();
        assert!(
            errors.starts_with(&format!("--upstream.base_url: {said}")),
            "{url}: {errors}"
        );
        assert!(!errors.contains("secret"));
    }
    let config = load(
        &["--upstream.base_url", "http://x:1/v1/kling/"],
        &[TOKEN],
        None,
    )
    .unwrap();
    assert_eq!(config.upstream.base_url, "http://x:1/v1/kling");
}

#[test]
fn a_token_comes_from_one_place_and_is_never_shown() {
    let holder = file("  user:2-file\n");
    let path = holder.path().to_str().unwrap();
    let token_of = |config: Config| config.upstream.token.unwrap().expose_secret().to_owned();
    assert_eq!(
        token_of(load(&["--upstream.token_file", path], &[], None).unwrap()),
        "user:2-file"
    );
    let marked = file("\u{feff}user:2-file\n");
    let marked = marked.path().to_str().unwrap();
    assert_eq!(
        token_of(load(&["--upstream.token_file", marked], &[], None).unwrap()),
        "user:2-file"
    );

    let said = load(&["--upstream.token_file", path], &[TOKEN], None).unwrap_err();
    assert!(
        said.contains("only one of upstream.token and upstream.token_file"),
        "{said}"
    );
    let said = load(&["--upstream.token_file", "/nowhere"], &[], None).unwrap_err();
    assert!(said.contains("the file /nowhere cannot be read"), "{said}");
    let empty = file("\n");
    let path = empty.path().to_str().unwrap();
    let said = load(&["--upstream.token_file", path], &[], None).unwrap_err();
    assert!(said.contains("is empty"), "{said}");
    assert!(
        load(&[], &[], None)
            .unwrap_err()
            .contains("upstream.token: missing")
    );
    load(&["--accounts.file", "list.json"], &[], None).unwrap();

    let spaced = file("user:3 secret");
    let path = spaced.path().to_str().unwrap();
    let said = load(&["--upstream.token_file", path], &[], None).unwrap_err();
    assert!(
        said.starts_with("--upstream.token_file: the file holds no token"),
        "{said}"
    );
    let said = load(&[], &[("KLB_UPSTREAM__TOKEN", "user:3 secret")], None).unwrap_err();
    assert!(
        said.contains("expected visible ASCII") && !said.contains("secret"),
        "{said}"
    );
    let shown = format!(
        "{:?}",
        load(
            &[],
            &[TOKEN, ("KLB_AUTH__TOKENS", "a-client-secret!")],
            None
        )
    );
    assert!(
        !shown.contains("user:1-x") && !shown.contains("client-secret"),
        "{shown}"
    );
    let flag = cli::command().try_get_matches_from(["kling-balancer", "--upstream.token", "x"]);
    assert!(flag.is_err(), "no secret on a command line");
}

#[test]
fn client_tokens_are_what_was_meant() {
    let tokens = |value| {
        let auth = load(&[], &[TOKEN, ("KLB_AUTH__TOKENS", value)], None)?.auth;
        Ok::<_, String>(shown(auth.tokens.full()))
    };
    assert_eq!(
        tokens(" of-16-characters "),
        Ok(vec!["of-16-characters".to_owned()])
    );
    assert_eq!(
        tokens(r#"["the-first-of-two", "second-of-the-two"]"#),
        Ok(vec![
            "the-first-of-two".to_owned(),
            "second-of-the-two".to_owned()
        ])
    );
    for wrong in [
        "[the-first-of-two, second-of-the-two]",
        "the-first-of-two second-of-the-two",
        "[\"the-first-of-two\", \"\"]",
        "one-of-15-bytes",
        "the-first-of-two,second-of-the-two",
        ",",
        "a1,b2",
        "gr\u{fc}n",
        "\u{fffd}",
    ] {
        assert!(
            tokens(wrong)
                .unwrap_err()
                .starts_with("KLB_AUTH__TOKENS: expected"),
            "{wrong}"
        );
    }
    let listed = file("the-first-of-two\n\n studio  second-of-the-two \n");
    let path = listed.path().to_str().unwrap();
    let auth = load(&["--auth.tokens_file", path], &[TOKEN], None)
        .unwrap()
        .auth;
    let read: Vec<_> = auth.tokens.full().map(|it| it.name.as_deref()).collect();
    assert_eq!(read, [None, Some("studio")]);
    for wrong in [
        "studio a-long-client-token b",
        "studio a-short-one",
        "a1,b2",
    ] {
        let wrong = file(&format!("the-first-of-two\n{wrong}\n"));
        let path = wrong.path().to_str().unwrap();
        for key in ["--auth.tokens_file", "--auth.read_tokens_file"] {
            let said = load(&[key, path], &[TOKEN], None).unwrap_err();
            assert!(
                said.starts_with(&format!("{key}: line 2: expected")),
                "{said}"
            );
            assert!(!said.contains("long") && !said.contains("a1"), "{said}");
        }
    }
}

fn shown<'a>(tokens: impl Iterator<Item = &'a tokens::ClientToken>) -> Vec<String> {
    tokens
        .map(|it| it.token.expose_secret().to_owned())
        .collect()
}

#[test]
fn a_refused_client_token_says_what_to_do() {
    for (wrong, advice) in [
        (
            "a1b2c3d4e5",
            "at least 16 characters; `openssl rand -hex 32`",
        ),
        (
            "a1,b2",
            "several as [\"…\", \"…\"], or one a line in auth.tokens_file",
        ),
    ] {
        let said = load(&[], &[TOKEN, ("KLB_AUTH__TOKENS", wrong)], None).unwrap_err();
        assert!(said.contains(advice) && !said.contains(wrong), "{said}");
    }
}

#[test]
fn a_token_that_may_only_look_is_no_other_token() {
    let read = file("watcher the-token-of-a-watcher\nanother-of-a-watcher");
    let path = read.path().to_str().unwrap();
    let with = |more: &[(&str, &str)]| {
        let env = [&[TOKEN], more].concat();
        load(&["--auth.read_tokens_file", path], &env, None)
    };
    let auth = with(&[("KLB_LISTEN", "0.0.0.0:8080")]).unwrap().auth;
    assert_eq!(
        shown(auth.tokens.read_only()),
        ["the-token-of-a-watcher", "another-of-a-watcher"]
    );
    assert!(auth.tokens.full().next().is_none() && !auth.tokens.is_empty());

    let same = file("studio another-of-a-watcher");
    let same = same.path().to_str().unwrap();
    for place in [
        ("KLB_AUTH__TOKENS", "another-of-a-watcher"),
        ("KLB_AUTH__TOKENS_FILE", same),
    ] {
        let said = with(&[place]).unwrap_err();
        assert!(
            said.starts_with(
                "--auth.read_tokens_file: expected tokens that are not in auth.tokens"
            ) && said.contains("token 2 of the file"),
            "{said}"
        );
        assert!(!said.contains("watcher"), "{said}");
    }
}

#[test]
fn a_token_file_is_read_to_a_limit() {
    for key in [
        "--auth.tokens_file",
        "--auth.read_tokens_file",
        "--upstream.token_file",
    ] {
        let said = load(&[key, "/dev/zero"], &[], None).unwrap_err();
        assert!(said.contains("larger than 262144 bytes"), "{said}");
    }
}

#[test]
fn web_origins_have_the_form_that_browsers_send() {
    for wrong in [
        "localhost:3000",
        "http://x/",
        "http://",
        "://x",
        "*",
        "null",
        "http://x:1,http://y",
        "http://a@x",
    ] {
        let said = load(&["--auth.allowed_origins", wrong], &[TOKEN], None).unwrap_err();
        assert!(
            said.contains("expected web origins such as"),
            "{wrong}: {said}"
        );
    }
    let origins = r#"["http://X:1", "https://y"]"#;
    let auth = load(&["--auth.allowed_origins", origins], &[TOKEN], None)
        .unwrap()
        .auth;
    assert!(auth.allowed_origins.contains("http://x:1"), "{auth:?}");
}

#[test]
fn hosts_are_names_that_a_request_may_have() {
    for wrong in [
        "a.example,b.example",
        "http://a",
        "a/",
        "user@a",
        "a b",
        " ",
    ] {
        let said = load(&["--auth.allowed_hosts", wrong], &[TOKEN], None).unwrap_err();
        assert!(
            said.contains("expected host names such as"),
            "{wrong}: {said}"
        );
    }
    for right in [
        "Sidecar.internal",
        "sidecar:8080",
        "fd00::1",
        "[fd00::1]:8080",
    ] {
        load(&["--auth.allowed_hosts", right], &[TOKEN], None).unwrap();
    }
}

#[test]
fn an_address_in_brackets_is_a_word() {
    let config = load(&["--listen", "[::1]:8080"], &[TOKEN], None).unwrap();
    assert_eq!(config.listen, "[::1]:8080".parse().unwrap());
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    for (flags, said) in [
        (
            ["--leases.ttl", "2h"],
            "--leases.ttl: expected at most leases.ttl_max",
        ),
        (
            ["--selection.wait", "11m"],
            "--selection.wait: expected at most selection.wait_max",
        ),
        (
            ["--metrics.listen", "127.0.0.1:8080"],
            "--metrics.listen: expected another address",
        ),
        (
            ["--listen", "[::]:8080"],
            "--listen: beyond this machine anyone could spend",
        ),
    ] {
        let errors = load(&flags, &[TOKEN], None).unwrap_err();
        assert!(errors.starts_with(said), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = load(&[], &[TOKEN], Some(Path::new("/nowhere/klb.toml"))).unwrap_err();
    assert!(
        said.starts_with("/nowhere/klb.toml: cannot be read ("),
        "{said}"
    );
}
