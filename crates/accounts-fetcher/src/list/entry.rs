//! Parses one value of the list into an account.
//!
//! Every field may be absent and unknown ones are skipped. Only a bad `maxJobs` rejects an entry: a
//! wrong limit is worse than a missing entry. The password is not even declared here.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Account, email,
    limits::{ERROR_TEXT_CHARS_MAX, MAX_JOBS_CEILING, MAX_JOBS_DEFAULT},
};

/// Longest RFC 3339 time: nanoseconds and a numeric offset.
const RFC_3339_BYTES_MAX: usize = "2025-01-01T12:13:14.123456789+00:00".len();

pub(super) struct Parsed {
    pub(super) account: Account,
    pub(super) is_clamped: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    max_jobs: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    session: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Session {
    #[serde(rename = "ExpireTimeUTC")]
    expire_time_utc: Option<String>,
}

/// The account in `value`, or `None` when the entry must be rejected.
pub(super) fn parse(email: &str, value: &RawValue) -> Option<Parsed> {
    // Without this, serde would also fill the fields from an array.
    if !value.get().starts_with('{') {
        return None;
    }
    let fields: Fields<'_> = serde_json::from_str(value.get()).ok()?;
    let max_jobs = match fields.max_jobs {
        Some(number) => MaxJobs::parse(number)?,
        None => MaxJobs::Within(MAX_JOBS_DEFAULT),
    };
    let (max_jobs, is_clamped) = match max_jobs {
        MaxJobs::Within(max_jobs) => (max_jobs, false),
        MaxJobs::Beyond => (MAX_JOBS_CEILING, true),
    };
    let error = fields.error.and_then(error_text);
    let session_expires_at = fields.session.and_then(expiry);
    Some(Parsed {
        account: Account::new(email, max_jobs).with_details(error, session_expires_at),
        is_clamped,
    })
}

enum MaxJobs {
    Within(u32),
    Beyond,
}

impl MaxJobs {
    /// Reads a whole number, however it is spelled (`3`, `3.0`, `3e0`); `None` for anything else.
    fn parse(value: &RawValue) -> Option<MaxJobs> {
        // Rust parses only JSON numbers as floats; absurdly large ones become infinite.
        let number: f64 = value.get().parse().ok()?;
        let is_whole = number.is_infinite() || number.fract() == 0.0;
        if !is_whole || number < 0.0 {
            None
        } else if number > f64::from(MAX_JOBS_CEILING) {
            Some(MaxJobs::Beyond)
        } else {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and between 0 and the ceiling"
            )]
            Some(MaxJobs::Within(number as u32))
        }
    }
}

/// What the upstream says is wrong. `null`, `false` and an empty text mean healthy; any other value
/// that is not a text is unknown to us and shown as it is: such an account is better not used.
fn error_text(value: &RawValue) -> Option<Arc<str>> {
    let text = match value.get() {
        "false" => return None,
        json => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
    };
    let is_plain = |c: char| c == ' ' || email::is_visible(c);
    let plain = text
        .trim()
        .chars()
        .map(|c| if is_plain(c) { c } else { '\u{fffd}' });
    let cut: String = plain.take(ERROR_TEXT_CHARS_MAX).collect();
    (!cut.is_empty()).then(|| cut.into())
}

fn expiry(session: &RawValue) -> Option<Arc<str>> {
    let session: Session = serde_json::from_str(session.get()).ok()?;
    let time = session.expire_time_utc?;
    let is_time = time.len() <= RFC_3339_BYTES_MAX && time.parse::<Timestamp>().is_ok();
    is_time.then(|| time.into())
}
