//! `Retry-After`, RFC 9110 §10.2.3: seconds or an HTTP date. The pace caps it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// The pause that `headers` ask for, if they name a valid one.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    parse(
        headers.get(RETRY_AFTER)?.to_str().ok()?.trim(),
        SystemTime::now(),
    )
}

fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let is_seconds = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_seconds {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let time = httpdate::parse_http_date(value).ok()?;
    Some(time.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood_and_nonsense_is_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |value| parse(value, now).map(|duration| duration.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("99999999999999999999"), Some(u64::MAX), "saturates");
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(
            seconds("Sun, 06 Nov 1994 08:48:37 GMT"),
            Some(0),
            "in the past"
        );
        for nonsense in [
            "",
            "-1",
            "1.5",
            "+3",
            "soon",
            "Sun, 99 Nov 1994 08:50:37 GMT",
        ] {
            assert_eq!(seconds(nonsense), None, "{nonsense:?}");
        }
    }
}
