use proptest::prelude::*;

use super::*;
use crate::{
    FetchResult,
    limits::{EMAIL_BYTES_MAX, MAX_JOBS_CEILING},
};

fn parse(text: &str) -> List {
    List::parse(text.as_bytes()).unwrap()
}

fn failure(text: impl AsRef<[u8]>) -> FetchResult {
    List::parse(text.as_ref()).unwrap_err().result()
}

fn emails(list: &List) -> Vec<&str> {
    list.entries
        .iter()
        .filter_map(|entry| Some(&*entry.account.as_ref()?.email))
        .collect()
}

#[test]
fn the_example_of_the_vendors_page_is_understood() {
    let list = List::parse(include_bytes!("../../tests/data/accounts.json")).unwrap();
    let expires_at = Some("2025-01-01T12:13:14.000Z".into());
    let healthy =
        |email, max_jobs| Account::new(email, max_jobs).with_details(None, expires_at.clone());
    let error = Some("Failed to refresh session: 500".into());
    let broken = Account::new("c@example.com", 5).with_details(error, None);
    let expected = [
        healthy("b@example.com", 8),
        healthy("a@example.com", 3),
        broken,
    ];
    let accounts: Vec<_> = list
        .entries
        .into_iter()
        .filter_map(|entry| entry.account)
        .collect();
    assert_eq!(accounts, expected);
    assert_eq!(list.remarks, Remarks::default());
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    let not_json: [&[u8]; 12] = [
        b"",
        b" ",
        b"{",
        br#"{"a@x":{}"#,
        br#"{"a@x":{}} {}"#,
        br#"{"a@x":{}}x"#,
        b"\xef\xbb\xbf{}",
        br#"{"a@x":{"maxJobs":NaN}}"#,
        b"NaN",
        b"{\"a@x\xff\":{}}",
        br#"{'a@x':{}}"#,
        br#"{"a@x":{},}"#,
    ];
    for text in not_json {
        assert_eq!(
            failure(text),
            FetchResult::Parse,
            "{}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn a_parse_error_tells_the_place_and_nothing_of_the_text() {
    let error = List::parse(b"{\n  \"secret@x\": oops}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the account list is not JSON at line 2 column 15"
    );
}

#[test]
fn json_of_another_shape_is_a_schema_error() {
    for text in ["null", "[]", "[{}]", "0", r#""a@x""#, "true"] {
        assert_eq!(failure(text), FetchResult::Schema, "{text}");
    }
}

#[test]
fn an_object_without_one_valid_entry_is_a_schema_error() {
    let envelope = r#"{"error":"Unauthorized","code":401}"#;
    for text in [
        envelope,
        r#"{"a@x":null}"#,
        r#"{"a@x":{"maxJobs":-1}}"#,
        r#"{"":{}}"#,
    ] {
        assert_eq!(failure(text), FetchResult::Schema, "{text}");
    }
    assert_eq!(
        parse(" {\n} "),
        List::default(),
        "while an empty one is a list"
    );
}

#[test]
fn ten_thousand_levels_cost_no_stack() {
    const DEPTH: usize = 10_000;
    let arrays = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let object = r#"{"a@x":"#;
    let objects = object.repeat(DEPTH) + "0" + &"}".repeat(DEPTH);
    assert_eq!(failure(&arrays), FetchResult::Schema);
    assert_eq!(failure("[".repeat(DEPTH)), FetchResult::Parse);
    assert_eq!(failure(object.repeat(DEPTH)), FetchResult::Parse);
    let list = parse(&format!(r#"{{"a@x":{arrays},"b@x":{{}},"c@x":{objects}}}"#));
    assert_eq!(emails(&list), ["b@x", "c@x"]);
}

#[test]
fn a_bad_value_is_rejected_alone_and_its_key_remembered() {
    for value in [
        "null",
        "[]",
        r#"{"maxJobs":-1}"#,
        r#"{"error":"","error":""}"#,
    ] {
        let list = parse(&format!(r#"{{"b@x":{{}},"a@x":{value},"c@x":{{}}}}"#));
        assert_eq!(emails(&list), ["b@x", "c@x"], "{value}");
        let (identity, account) = (Identity::of("a@x"), None);
        assert_eq!(list.entries[1], Entry { identity, account });
        assert_eq!(list.remarks.rejected, 1);
    }
}

#[test]
fn a_clamped_limit_is_remarked() {
    let list = parse(r#"{"a@x":{"maxJobs":1000},"b@x":{"maxJobs":1001}}"#);
    let example = Some(Account::new("b@x", 0).alias);
    let expected = Remarks {
        clamped: 1,
        example,
        ..Remarks::default()
    };
    assert_eq!(list.remarks, expected);
}

#[test]
fn case_order_and_escapes_of_keys_are_kept() {
    let list = parse(r#"{"z@X.com":{}," Ann@x ":{},"ann@x":{},"\u0062@x":{}}"#);
    assert_eq!(emails(&list), ["z@X.com", "Ann@x", "ann@x", "b@x"]);
}

#[test]
fn a_hostile_key_is_rejected_alone() {
    let too_long = format!("{}@x", "a".repeat(EMAIL_BYTES_MAX));
    let no_text = r"\ud800@x";
    for key in [
        &too_long,
        no_text,
        r"a@x\r\nHost: y",
        r"a\u0000@x",
        r"a\u202e@x",
        "{}",
        "",
    ] {
        let list = parse(&format!(r#"{{"{key}":{{}},"a@x":{{}}}}"#));
        assert_eq!(
            (emails(&list), list.remarks.rejected),
            (vec!["a@x"], 1),
            "{key}"
        );
    }
}

#[test]
fn spellings_of_one_account_are_merged_into_the_first_and_the_smallest_limit_wins() {
    let list = parse(
        r#"{"a@X.com":{"maxJobs":5},"b@x":{"maxJobs":1}," a@x.com":{"maxJobs":3,"error":"broken"},
            "a@X.com":{"maxJobs":9}}"#,
    );
    assert_eq!(emails(&list), ["a@X.com", "b@x"]);
    let first = list.entries[0].account.as_ref().unwrap();
    assert_eq!(
        (first.max_jobs, first.error().map(|it| &**it)),
        (3, Some("broken"))
    );
    let example = Some(Account::new("a@x.com", 0).alias);
    assert_eq!(
        list.remarks,
        Remarks {
            merged: 2,
            example,
            ..Remarks::default()
        }
    );
}

#[test]
fn a_rejected_spelling_leaves_the_valid_one() {
    for values in [
        r#"{"a@x":{"maxJobs":-1},"a@X":{}}"#,
        r#"{"a@x":{},"a@X":{"maxJobs":-1}}"#,
    ] {
        let list = parse(values);
        assert_eq!(
            (
                list.entries.len(),
                emails(&list).len(),
                list.remarks.rejected
            ),
            (1, 1, 1)
        );
    }
}

#[test]
fn one_entry_too_many_is_too_large() {
    let list = |count: usize| {
        let entries: Vec<_> = (0..count).map(|n| format!(r#""{n}@x":{{}}"#)).collect();
        List::parse(format!("{{{}}}", entries.join(",")).as_bytes())
    };
    assert_eq!(list(ENTRIES_MAX).unwrap().entries.len(), ENTRIES_MAX);
    assert_eq!(
        list(ENTRIES_MAX + 1).unwrap_err().result(),
        FetchResult::TooLarge
    );
    assert_eq!(
        list(ENTRIES_MAX + 9).unwrap_err().result(),
        FetchResult::TooLarge
    );
}

/// JSON values of every kind, with the names that mean something to the parser among their keys.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let key = prop_oneof![
        Just("maxJobs".to_owned()),
        Just("error".to_owned()),
        Just("session".to_owned()),
        Just("ExpireTimeUTC".to_owned()),
        "[a-c]@[xX]",
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..60).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_list_or_an_error(bytes: Vec<u8>) {
        drop(List::parse(&bytes));
    }

    #[test]
    fn any_json_is_a_list_within_its_limits_or_an_error(json in any_json()) {
        let Ok(list) = List::parse(json.to_string().as_bytes()) else { return Ok(()) };
        let entry_count = json.as_object().map_or(0, serde_json::Map::len);
        let Remarks { rejected, merged, .. } = list.remarks;
        prop_assert!(list.entries.len() + merged <= entry_count && rejected <= entry_count);
        for Entry { identity, account } in &list.entries {
            let Some(account) = account else { continue };
            prop_assert!(account.max_jobs <= MAX_JOBS_CEILING);
            prop_assert_eq!(email::accept(&account.email), Some(&*account.email));
            prop_assert_eq!(&Identity::of(&account.email), identity);
        }
    }

    #[test]
    fn any_truncation_of_a_list_is_a_parse_error(cut in 0_usize..100) {
        let text = include_bytes!("../../tests/data/accounts.json").trim_ascii();
        prop_assert_eq!(failure(&text[..cut * text.len() / 100]), FetchResult::Parse);
    }
}

#[test]
fn what_holds_for_every_list_holds_for_the_corpus() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/account_list"
    );
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(!files.is_empty(), "there is no corpus");
    for file in files {
        check::account_list(&std::fs::read(file.unwrap().path()).unwrap());
    }
}
