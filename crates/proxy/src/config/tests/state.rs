//! Where the book is kept, and the name of a pool.

use super::*;

const SYSTEMD: (&str, &str) = ("STATE_DIRECTORY", "/var/lib/klb:/var/lib/other");

fn state(flags: &[&str], more: &[(&str, &str)]) -> Result<State, String> {
    let env = [&[TOKEN], more].concat();
    load(flags, &env, None).map(|config| config.state)
}

fn disk(path: &str, sync: SyncMode) -> Result<State, String> {
    let path = PathBuf::from(path);
    Ok(State::Disk { path, sync })
}

#[test]
fn a_path_keeps_the_book_on_disk_and_nothing_keeps_it_in_memory() {
    assert_eq!(state(&[], &[]), Ok(State::Memory));
    assert_eq!(state(&[], &[SYSTEMD]), Ok(State::Memory));
    let kind = ("KLB_STATE__KIND", "disk");
    let path = ("KLB_STATE__PATH", "x/book.db");
    for env in [&[path] as &[_], &[kind, path], &[kind, path, SYSTEMD]] {
        assert_eq!(state(&[], env), disk("x/book.db", SyncMode::Process));
    }
    let of_systemd = disk("/var/lib/klb/book.db", SyncMode::Process);
    assert_eq!(state(&[], &[kind, SYSTEMD]), of_systemd);
    let power = ["--state.path", "/b.db", "--state.sync", "power"];
    assert_eq!(state(&power, &[]), disk("/b.db", SyncMode::Power));
    assert_eq!(state(&["--state.kind", "memory"], &[]), Ok(State::Memory));
}

#[test]
fn settings_of_the_book_that_contradict_each_other_are_told() {
    for (flags, said) in [
        (
            &["--state.kind", "disk"] as &[&str],
            "--state.kind: expected state.path beside disk; set KLB_STATE__PATH",
        ),
        (
            &["--state.kind", "memory", "--state.path", "/b.db"],
            "--state.path: has no effect without a file",
        ),
        (
            &["--state.sync", "power"],
            "--state.sync: has no effect without a file",
        ),
        (
            &["--state.kind", "redis"],
            "--state.kind: expected memory or disk; redis is not built yet",
        ),
        (
            &["--state.path", "/var/lib/klb/"],
            "--state.path: expected a file such as",
        ),
        (
            &["--state.path", "/b.db", "--state.sync", "full"],
            "--state.sync: expected process or power",
        ),
    ] {
        let errors = state(flags, &[]).unwrap_err();
        assert!(errors.starts_with(said), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_check_shows_where_the_book_is_kept_and_what_says_so() {
    let rows = |env: &[(&str, &str)]| {
        let checked = Checked::new(&parsed(&["check-config"]), owned(env), None);
        assert!(checked.errors.is_none(), "{checked:?}");
        let lines = checked.in_force.lines();
        let state = lines.filter(|line| line.starts_with("state.") && !line.contains("url"));
        state
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let memory = [
        "state.kind memory default",
        "state.path - default",
        "state.sync - default",
    ];
    assert_eq!(rows(&[]), memory);
    let given = [
        "state.kind disk state.path",
        "state.path /b.db KLB_STATE__PATH",
        "state.sync process default",
    ];
    assert_eq!(rows(&[("KLB_STATE__PATH", "/b.db")]), given);
    let of_systemd = [
        "state.kind disk KLB_STATE__KIND",
        "state.path /var/lib/klb/book.db STATE_DIRECTORY",
        "state.sync process default",
    ];
    assert_eq!(rows(&[("KLB_STATE__KIND", "disk"), SYSTEMD]), of_systemd);
}

#[test]
fn a_pool_is_named_by_its_user_and_address_and_not_by_what_is_secret() {
    let id = |token: &str, url: &str| {
        let env = [("KLB_UPSTREAM__TOKEN", token)];
        load(&["--upstream.base_url", url], &env, None)
            .unwrap()
            .pool_id()
    };
    let url = "https://api.useapi.net/v1/kling";
    let ours = id("user:12-secret", url);
    // printf 'user\nuser:12\nhttps://api.useapi.net:443/v1/kling' | sha256sum
    assert_eq!(ours, "ad3fc971d9ad84e9e47bbe6788484852");
    assert_eq!(id("user:12-rotated", url), ours);
    assert_eq!(
        id("user:12-secret", "https://API.useapi.net:443/v1/kling/"),
        ours
    );
    let others = [
        id("user:1-secret", url),
        id("user:12-secret", "https://gateway/v1/kling"),
        id("another-token", url),
    ];
    for (idx, other) in others.iter().enumerate() {
        assert!(*other != ours && !others[..idx].contains(other), "{other}");
    }
    // Nothing is taken of what may be secret as a whole.
    for strange in ["yet-another", "user:12", "user:1x-a", "user:-a"] {
        assert_eq!(id(strange, url), others[2], "{strange}");
    }
    let of_file = |path: &str| {
        let config = load(&["--accounts.file", path], &[], None);
        config.unwrap().pool_id()
    };
    assert_eq!(of_file("/a.json"), of_file("/a.json"));
    assert_ne!(of_file("/a.json"), of_file("/b.json"));
}
