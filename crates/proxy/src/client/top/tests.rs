use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;

use super::{
    keys::{Switch, Wish},
    view::{Mode, Sort, View},
};
use crate::{
    client::answers::{Account, Status, Time},
    terminal::written,
};

/// A status with everything in it, and when it was asked for.
pub(super) fn example() -> (Status, Timestamp) {
    let status: Status = serde_json::from_str(include_str!("example.json")).unwrap();
    let now = "2026-01-31T12:00:00Z".parse().unwrap();
    (status.told_at(now), now)
}

fn view() -> View {
    View::new("http://sidecar:1".to_owned(), example().0)
}

/// A view of so many accounts.
fn view_of(count: usize) -> View {
    let mut view = view();
    let account = |idx| Account {
        email: format!("{idx:05}@x"),
        state: "available".to_owned(),
        max_jobs: 1,
        ..Account::default()
    };
    view.status.accounts = (0..count).map(account).collect();
    view
}

fn press(view: &mut View, code: KeyCode) -> Option<Wish> {
    view.take_event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn type_in(view: &mut View, keys: &str) {
    for key in keys.chars() {
        assert_eq!(press(view, KeyCode::Char(key)), None);
    }
}

fn shown(view: &View, size: (u16, u16)) -> String {
    written(&view.lines(size, example().1), false)
}

fn emails(view: &View) -> Vec<&str> {
    view.rows().iter().map(|row| &row.email[..1]).collect()
}

#[test]
fn a_picture_fits_every_size() {
    for count in [0, 1, 4, 300] {
        let mut view = view_of(count);
        for mode in [Mode::Table, Mode::Help, Mode::Filter] {
            view.mode = mode;
            for size in [
                (1, 1),
                (10, 2),
                (20, 3),
                (40, 5),
                (80, 9),
                (80, 24),
                (300, 80),
            ] {
                let lines = view.lines(size, example().1);
                assert_eq!(lines.len(), usize::from(size.1), "{size:?}");
                let widest = lines.iter().map(|line| line.width()).max().unwrap();
                assert!(widest <= usize::from(size.0), "{size:?}: {widest}");
            }
        }
    }
}

#[test]
fn what_has_no_room_beside_the_accounts_is_left_out() {
    let all = shown(&view(), (120, 40));
    for part in ["ACCOUNT", "QUEUE", "SLOT ON", "EVENTS"] {
        assert!(all.contains(part), "no {part} in\n{all}");
    }
    let few = shown(&view(), (120, 10));
    assert!(
        few.contains("d@example.com") && !few.contains("EVENTS"),
        "{few}"
    );
    let many = shown(&view_of(300), (120, 40));
    assert!(
        many.contains("EVENTS") && many.contains("1 to 22 shown"),
        "{many}"
    );
}

#[test]
fn why_the_chosen_account_is_stuck_has_a_line_of_its_own() {
    let mut view = view();
    let why = "its session is broken (596: session expired)";
    let narrow = shown(&view, (80, 24));
    assert!(narrow.lines().any(|line| line.trim() == why), "{narrow}");
    press(&mut view, KeyCode::Down);
    assert!(!shown(&view, (80, 24)).contains(why));
}

#[test]
fn the_next_free_slot_is_told_where_none_is_free() {
    let mut view = view();
    assert!(!shown(&view, (120, 30)).contains("the next is free"));
    view.status
        .accounts
        .retain(|account| account.state != "available");
    let full = shown(&view, (120, 30));
    assert!(
        full.contains("slots 5/11 in use, the next is free ~in 42s"),
        "{full}"
    );
    let later = example().1 + std::time::Duration::from_secs(60);
    let late = written(&view.lines((120, 30), later), false);
    assert!(late.contains("the next is free soon"), "{late}");
}

#[test]
fn a_long_error_hides_nothing() {
    let mut view = view();
    view.status.list.error = Some("no connection to the upstream: Connection refused ".repeat(3));
    view.status.upstream.is_reachable = false;
    let text = shown(&view, (120, 30));
    let lines: Vec<_> = text.lines().take(4).collect();
    assert!(lines[1].contains("upstream unreachable"), "{text}");
    assert!(lines[1].ends_with("running jobs 3s old"), "{text}");
    assert!(
        lines[2].starts_with("account list: no connection"),
        "{text}"
    );
    assert!(lines[3].starts_with("safe to restart: "), "{text}");
}

#[test]
fn the_chosen_account_is_always_shown() {
    let mut view = view_of(300);
    for (key, expected) in [
        (KeyCode::Down, "> 00001@x"),
        (KeyCode::PageDown, "> 00011@x"),
        (KeyCode::End, "> 00299@x"),
        (KeyCode::Down, "> 00299@x"),
        (KeyCode::PageUp, "> 00289@x"),
        (KeyCode::Home, "> 00000@x"),
        (KeyCode::Up, "> 00000@x"),
    ] {
        assert_eq!(press(&mut view, key), None);
        for size in [(80, 8), (80, 24), (80, 60)] {
            let text = shown(&view, size);
            assert!(text.contains(expected), "{key:?} {size:?}\n{text}");
        }
    }
    // It stays chosen when the list changes, and the first one is when it goes.
    press(&mut view, KeyCode::PageDown);
    view.status.accounts.remove(0);
    assert!(shown(&view, (80, 24)).contains("> 00010@x"));
    view.status
        .accounts
        .retain(|account| account.email != "00010@x");
    assert!(shown(&view, (80, 24)).contains("> 00001@x"));
    view.status.accounts.clear();
    assert_eq!(press(&mut view, KeyCode::Down), None);
    assert_eq!(press(&mut view, KeyCode::Char('d')), None);
    assert_eq!(view.mode, Mode::Table);
}

#[test]
fn accounts_are_sorted_by_each_column_and_back() {
    let mut view = view();
    view.status.accounts.swap(0, 3);
    view.status.accounts[1].until = Time(Some(example().1));
    for (sort, expected) in [
        (Sort::State, ["b", "c", "a", "d"]),
        (Sort::Account, ["a", "b", "c", "d"]),
        (Sort::Slots, ["d", "a", "c", "b"]),
        (Sort::Since, ["c", "a", "b", "d"]),
        // The full one is expected to have a free slot.
        (Sort::Until, ["b", "a", "d", "c"]),
        (Sort::Jobs, ["a", "d", "b", "c"]),
    ] {
        assert_eq!((view.sort, emails(&view)), (sort, expected.to_vec()));
        type_in(&mut view, "r");
        let reversed = expected.into_iter().rev();
        assert_eq!(emails(&view), reversed.collect::<Vec<_>>());
        type_in(&mut view, "rs");
    }
    assert_eq!(view.sort, Sort::State);
}

#[test]
fn a_filter_finds_names_aliases_states_and_reasons() {
    let mut view = view();
    for (filter, expected) in [
        ("C@EX", &["c"][..]),
        ("a-77aa", &["d"]),
        ("drain", &["c"]),
        ("session", &["b"]),
        ("nothing", &[]),
    ] {
        type_in(&mut view, "/");
        type_in(&mut view, filter);
        assert_eq!(emails(&view), expected, "{filter}");
        assert!(shown(&view, (120, 30)).contains("Enter keeps it"));
        press(&mut view, KeyCode::Enter);
        assert_eq!(emails(&view), expected, "{filter}");
        press(&mut view, KeyCode::Esc);
        assert_eq!(emails(&view).len(), 4);
    }
    type_in(&mut view, "/ab");
    press(&mut view, KeyCode::Backspace);
    assert_eq!((&*view.filter, &view.mode), ("a", &Mode::Filter));
}

#[test]
fn nothing_is_drained_without_a_yes() {
    let mut view = view();
    press(&mut view, KeyCode::Down);
    for (key, switch) in [('d', Switch::Drain), ('e', Switch::Resume)] {
        for no in [
            KeyCode::Char('n'),
            KeyCode::Esc,
            KeyCode::Enter,
            KeyCode::Char('q'),
        ] {
            type_in(&mut view, &key.to_string());
            assert!(shown(&view, (120, 30)).contains("c@example.com?"));
            assert_eq!(press(&mut view, no), None);
            assert_eq!(view.mode, Mode::Table);
        }
        type_in(&mut view, &key.to_string());
        // The list may change meanwhile: the account that was asked about is meant.
        view.status.accounts.reverse();
        let wish = Wish::Switch(switch, "c@example.com".to_owned());
        assert_eq!(press(&mut view, KeyCode::Char('y')), Some(wish));
    }
    assert_eq!(press(&mut view, KeyCode::Char('q')), Some(Wish::Quit));
}
