//! What `check-config` finds, and how it is told.

use super::*;

#[test]
fn a_file_that_cannot_be_read_is_the_only_mistake_that_is_told() {
    let nowhere = Some(Path::new("/nowhere/klb.toml"));
    for flags in [&[] as &[&str], &["--listen", "0.0.0.0:8080"]] {
        let said = load(flags, &[], nowhere).unwrap_err();
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let broken = file("[upstream\ntoken = \"user:1-x\"\n");
    let said = load(&[], &[], Some(broken.path())).unwrap_err();
    assert!(!said.contains("missing"), "{said}");
}

#[test]
fn a_misspelt_section_or_a_key_without_its_section_is_recognised() {
    let said =
        mistakes_of("token_file = \"x\"\n[upstraem]\ntoken = \"x\"\n[lease]\nttl = \"5s\"\n");
    let wanted = "\
klb.toml:1: unknown key `token_file`; did you mean `upstream.token_file`?
klb.toml:2: unknown section `upstraem`; did you mean `upstream`?
klb.toml:4: unknown section `lease`; did you mean `leases`?";
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.join("\n"), wanted);
    let env = [TOKEN, ("KLB_TOKEN_FILE", "x"), ("KLB_WAIT", "5s")];
    let said = load(&[], &env, None).unwrap_err();
    assert!(
        said.contains("did you mean `KLB_UPSTREAM__TOKEN_FILE`?"),
        "{said}"
    );
    let both = "did you mean `KLB_SELECTION__WAIT` or `KLB_FORWARD__WAIT`?";
    assert!(said.contains(both), "{said}");
}

#[test]
fn limits_that_nothing_fits_into_and_filters_that_hide_everything_are_mistakes() {
    for (flag, value, said) in [
        (
            "--forward.body_max",
            "16",
            "expected 512 B to 64.0 GiB, written with its unit",
        ),
        ("--forward.buffer_total", "256", "expected 512 B to"),
        (
            "--log.filter",
            "loud=",
            "expected a level (off, error, warn",
        ),
        ("--log.filter", "inof", "expected a level"),
        ("--log.filter", "info,proxy=loud", "expected a level"),
        ("--log.filter", "info, proxy=debug", "expected a level"),
        ("--log.filter", "", "expected a level"),
        (
            "--upstream.base_url",
            "https://api.useapi.net/v1",
            "expected https://api.useapi.net/v1/kling",
        ),
        (
            "--upstream.base_url",
            "http://api.useapi.net/v1/kling",
            "expected https://api.useapi",
        ),
    ] {
        let errors = load(&[flag, value], &[TOKEN], None).unwrap_err();
        let wanted = format!("{flag}: {said}");
        assert!(errors.starts_with(&wanted), "{value}: {errors}");
    }
    for filter in ["INFO", "warn,proxy=debug", "off", "proxy::jobs=trace"] {
        load(&["--log.filter", filter], &[TOKEN], None).unwrap();
    }
}

#[test]
fn what_is_valid_and_probably_not_meant_is_doubted() {
    assert_eq!(
        load(&[], &[TOKEN], None).unwrap().doubts,
        Vec::<String>::new()
    );
    for (flags, said) in [
        (
            ["--upstream.base_url", "http://gateway/v1"],
            "http://gateway/v1 does not end in /kling",
        ),
        (
            ["--upstream.request_timeout", "5s"],
            "an answer that comes later counts as lost",
        ),
        (["--accounts.refresh_interval", "24h"], "noticed that late"),
        (["--leases.job_ttl", "1m"], "given away while it runs"),
        (
            ["--reconcile.interval", "1h"],
            "a slot comes back that long",
        ),
        (["--reconcile.settle", "0s"], "may become a job later"),
        (
            ["--forward.body_max", "2KiB"],
            "a job start that holds an image is larger",
        ),
        (
            ["--forward.wait", "1h"],
            "it is cut to selection.wait_max, 10m",
        ),
        (
            ["--forward.retry_statuses", "[429, 503]"],
            "[503] have no effect",
        ),
    ] {
        let doubts = load(&flags, &[TOKEN], None).unwrap().doubts;
        let [doubt] = &*doubts else {
            panic!("{flags:?}: {doubts:?}")
        };
        assert!(doubt.starts_with(&format!("{}: ", flags[0])), "{doubt}");
        assert!(doubt.contains(said), "{doubt}");
    }
}

#[test]
fn a_check_shows_every_setting_with_its_source_and_needs_no_token() {
    let file = file("[leases]\nttl = \"90s\"\n");
    let env = [
        ("KLB_AUTH__TOKENS", "client-secret-words"),
        ("KLB_UPSTREAM__TOKEN", "user:1-secret"),
    ];
    let flags = parsed(&["check-config", "--forward.retry_statuses", "[429]"]);
    let (_, flags) = cli::task(&flags);
    let checked = Checked::new(flags, owned(&env), Some(file.path()));
    assert!(
        checked.errors.is_none() && checked.doubts.is_empty(),
        "{checked:?}"
    );
    let place = format!("{}:2", file.path().display());
    let rows: Vec<Vec<_>> = checked
        .in_force
        .lines()
        .map(|line| {
            line.split("  ")
                .filter(|cell| !cell.is_empty())
                .map(str::trim)
                .collect()
        })
        .collect();
    for row in [
        ["leases.ttl", "90s", &place],
        ["leases.ttl_max", "1h", "default"],
        ["upstream.token", "<redacted>", "KLB_UPSTREAM__TOKEN"],
        ["auth.tokens", "<redacted>", "KLB_AUTH__TOKENS"],
        ["forward.retry_statuses", r#"["429"]"#, "flag"],
        ["forward.wait", "25s", "default"],
        ["metrics.listen", "-", "default"],
    ] {
        assert!(
            rows.iter().any(|it| *it == row),
            "{row:?} in {}",
            checked.in_force
        );
    }
    assert_eq!(rows.len(), 1 + SETTINGS.len());
    assert!(!checked.in_force.contains("secret"));

    let checked = Checked::new(&parsed(&["check-config"]), owned(&[]), None);
    assert!(checked.errors.is_none(), "{checked:?}");
    let [said] = &*checked.doubts else {
        panic!("{checked:?}")
    };
    assert!(
        said.starts_with("upstream.token: missing; set KLB_UPSTREAM__TOKEN"),
        "{said}"
    );
    assert!(said.contains("`serve` does not start"), "{said}");
}

#[test]
fn extra_roots_are_read_at_the_start() {
    let empty = file("no certificate\n");
    let garbage = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (path, said) in [
        ("/nowhere", "the file /nowhere cannot be read"),
        (empty.path().to_str().unwrap(), "holds no certificate"),
        (
            garbage.path().to_str().unwrap(),
            "holds a certificate that cannot be used",
        ),
    ] {
        let errors = load(&["--upstream.ca_file", path], &[TOKEN], None).unwrap_err();
        let is_told = errors.starts_with("--upstream.ca_file: the file ") && errors.contains(said);
        assert!(is_told, "{errors}");
    }
}
