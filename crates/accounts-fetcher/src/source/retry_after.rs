//! `Retry-After`, RFC 9110 §10.2.3: seconds or an HTTP date. Callers cap it.
//!
//! A date is counted from the answer's own `Date`, so that a clock that is off does not matter.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};

/// The pause that `headers` ask for, if they name a valid one.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let pause = text(RETRY_AFTER)?;
    let sent_at = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let sent_at = sent_at.unwrap_or_else(SystemTime::now);
    parse(pause, sent_at)
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
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let headers = |date: &'static str, retry_after: &'static str| {
            let pairs = [
                (DATE, HeaderValue::from_static(date)),
                (RETRY_AFTER, HeaderValue::from_static(retry_after)),
            ];
            HeaderMap::from_iter(pairs)
        };
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        let pause = |headers| of(&headers).map(|pause| pause.as_secs());
        assert_eq!(
            pause(headers("Sun, 06 Nov 1994 08:49:37 GMT", later)),
            Some(60)
        );
        assert_eq!(
            pause(headers("Sun, 06 Nov 1994 08:50:37 GMT", later)),
            Some(0)
        );
        assert_eq!(
            pause(headers("nonsense", later)),
            Some(0),
            "it is long over"
        );
        assert_eq!(
            pause(headers("Sun, 06 Nov 1994 08:49:37 GMT", "7")),
            Some(7)
        );
    }

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
