use super::*;

fn account(json: &str) -> Option<Account> {
    Some(parse("a@x", serde_json::from_str(json).unwrap())?.account)
}

fn max_jobs(number: &str) -> Option<u32> {
    account(&format!(r#"{{"maxJobs":{number}}}"#)).map(|account| account.max_jobs)
}

#[test]
fn max_jobs_is_a_whole_number_however_it_is_spelled() {
    let spellings = [
        ("0", 0),
        ("-0", 0),
        ("1", 1),
        ("8", 8),
        ("3.0", 3),
        ("1e1", 10),
        ("50e-1", 5),
    ];
    for (number, expected) in spellings {
        assert_eq!(max_jobs(number), Some(expected), "{number}");
    }
}

#[test]
fn absent_or_null_max_jobs_is_the_default() {
    assert_eq!(max_jobs("null"), Some(MAX_JOBS_DEFAULT));
    assert_eq!(account("{}").unwrap().max_jobs, MAX_JOBS_DEFAULT);
}

#[test]
fn max_jobs_that_is_no_whole_number_of_slots_costs_the_entry() {
    for number in [
        "-1", "-1e18", "3.5", "1000.5", r#""3""#, "true", "[]", "{}", r#""inf""#,
    ] {
        assert_eq!(max_jobs(number), None, "{number}");
    }
}

#[test]
fn huge_max_jobs_is_clamped() {
    let digits = "9".repeat(400);
    for number in [
        "1001",
        "4294967297",
        "18446744073709551617",
        "1e18",
        "1e999",
        &digits,
    ] {
        assert_eq!(max_jobs(number), Some(MAX_JOBS_CEILING), "{number}");
    }
    assert_eq!(max_jobs("1000"), Some(MAX_JOBS_CEILING));
}

#[test]
fn an_entry_must_be_an_object_that_names_a_field_once() {
    for value in [
        "null",
        "3",
        "[]",
        r#"[3,"e",null]"#,
        r#""x""#,
        r#"{"maxJobs":1,"maxJobs":9}"#,
    ] {
        assert_eq!(account(value), None, "{value}");
    }
}

#[test]
fn an_error_is_cut_cleaned_and_absent_when_there_is_none() {
    let error = |json: &str| {
        account(&format!(r#"{{"error":{json}}}"#))
            .unwrap()
            .error()
            .cloned()
    };
    for healthy in ["null", "false", r#""""#, r#"" \n""#] {
        assert_eq!(error(healthy), None, "{healthy}");
    }
    assert_eq!(
        error(r#""session\r\nbroken""#).as_deref(),
        Some("session\u{fffd}\u{fffd}broken")
    );
    assert_eq!(
        error(r#"{"code":1}"#).as_deref(),
        Some(r#"{"code":1}"#),
        "unknown to us"
    );
    let long = error(&format!("\"{}\"", "é".repeat(5000))).unwrap();
    assert_eq!(long.chars().count(), ERROR_TEXT_CHARS_MAX);
}

#[test]
fn a_session_ends_at_a_valid_time_or_at_none() {
    let expiry = |json: &str| {
        account(&format!(r#"{{"session":{json}}}"#))
            .unwrap()
            .session_expires_at()
            .cloned()
    };
    let valid = "2027-01-01T00:00:00+02:00";
    assert_eq!(
        expiry(&format!(r#"{{"ExpireTimeUTC":"{valid}"}}"#)).as_deref(),
        Some(valid)
    );
    for odd in [
        "null",
        "1",
        "[]",
        "{}",
        r#"{"ExpireTimeUTC":1}"#,
        r#"{"ExpireTimeUTC":"soon"}"#,
    ] {
        assert_eq!(expiry(odd), None, "{odd}");
    }
    assert_eq!(
        expiry(r#"{"ExpireTimeUTC":"2027-02-30T00:00:00Z"}"#),
        None,
        "no such day"
    );
}

#[test]
fn ten_thousand_levels_in_any_field_cost_no_stack() {
    const DEPTH: usize = 10_000;
    let arrays = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let objects = r#"{"session":"#.repeat(DEPTH) + "0" + &"}".repeat(DEPTH);
    for deep in [arrays, objects] {
        let field = |name| account(&format!(r#"{{"{name}":{deep}}}"#));
        let plain = Account::new("a@x", MAX_JOBS_DEFAULT);
        assert_eq!(field("unknown"), Some(plain.clone()));
        assert_eq!(field("session"), Some(plain));
        assert_eq!(field("maxJobs"), None);
        let error = field("error").unwrap().error().cloned().unwrap();
        assert_eq!(error.len(), ERROR_TEXT_CHARS_MAX);
    }
}
