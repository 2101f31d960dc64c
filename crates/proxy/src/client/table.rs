//! Answers of the sidecar as tables for people.

use serde_json::Value;

use crate::columns::aligned;

/// The accounts, one per line.
pub(super) fn accounts(answer: &Value) -> String {
    let head = [
        "ACCOUNT",
        "ALIAS",
        "SLOTS",
        "HELD",
        "UNCERTAIN",
        "FOREIGN",
        "STATE",
        "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for account in answer["accounts"].as_array().into_iter().flatten() {
        let text = |name: &str| match account[name].as_str() {
            Some(text) => text.to_owned(),
            None if account[name].is_null() => String::new(),
            None => account[name].to_string(),
        };
        rows.push([
            text("email"),
            text("alias"),
            format!("{}/{}", text("inFlight"), text("maxJobs")),
            text("held"),
            text("uncertain"),
            text("foreignJobs"),
            text("state"),
            text("reason"),
        ]);
    }
    aligned(&rows)
}

/// The lease of a pick, or the accounts that a dry run would find.
pub(super) fn picked(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(accounts) = answer["accounts"].as_array() {
        let mut rows = vec![["ACCOUNT", "STATE", "WHY"].map(str::to_owned)];
        let row = |it: &Value| [text(&it["email"]), text(&it["state"]), text(&it["reason"])];
        rows.extend(accounts.iter().map(row));
        return aligned(&rows);
    }
    let head = ["ACCOUNT", "LEASE", "UNTIL"].map(str::to_owned);
    let lease = ["email", "leaseId", "expiresAt"].map(|name| text(&answer[name]));
    aligned(&[head, lease])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_absent_values_are_blank() {
        let answer = json!({"accounts": [
            {"email": "a@x", "alias": "a-1", "maxJobs": 3, "inFlight": 1, "held": 1, "uncertain": 0,
             "foreignJobs": 0, "state": "available", "reason": null},
            {"email": "long@example.com", "alias": "a-22", "maxJobs": 50, "inFlight": 50, "held": 49,
             "uncertain": 0, "foreignJobs": 1, "state": "full", "reason": "every slot is in use"},
        ]});
        let expected = "\
ACCOUNT           ALIAS  SLOTS  HELD  UNCERTAIN  FOREIGN  STATE      WHY
a@x               a-1    1/3    1     0          0        available
long@example.com  a-22   50/50  49    0          1        full       every slot is in use";
        assert_eq!(accounts(&answer), expected);
    }
}
