//! Times in words.

use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::answers::Time;
use crate::config::in_words;

/// A span of time in two units at most: `12s`, `3m 5s`, `2h 4m`, `50h`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let shown = match seconds {
        0..3600 => seconds,
        3600..36_000 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    in_words(Duration::from_secs(shown))
}

/// How long ago it was; blank where it is not known. Clocks may differ: what is to come counts as now.
pub(crate) fn age(time: Time, now: Timestamp) -> String {
    let Time(Some(time)) = time else {
        return String::new();
    };
    span(now.duration_since(time).try_into().unwrap_or_default())
}

/// In how long it is; blank where it is not known.
pub(crate) fn left(time: Time, now: Timestamp) -> String {
    let Time(Some(time)) = time else {
        return String::new();
    };
    span(time.duration_since(now).try_into().unwrap_or_default())
}

/// In how long it is expected; blank where it is not known.
pub(crate) fn about(time: Time, now: Timestamp) -> String {
    match left(time, now) {
        left if left.is_empty() => left,
        left if left == "0s" => "soon".to_owned(),
        left => format!("~in {left}"),
    }
}

/// The time of day, in UTC like the log.
pub(crate) fn clock(time: Time) -> String {
    // 2026-01-31T12:00:00Z
    date(time).chars().skip(11).collect()
}

/// Date and time. The second is that of the log, also when the next one is nearer.
pub(crate) fn date(time: Time) -> String {
    let whole = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Trunc);
    let time = time.0.map(|time| time.round(whole).unwrap_or(time));
    time.map_or(String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (185, "3m 5s"),
            (7_499, "2h 4m"),
            (180_059, "50h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_time_is_told_from_now() {
        let at = |second| Time(Some(Timestamp::from_second(second).unwrap()));
        let now = Timestamp::from_second(1_000_000_100).unwrap();
        assert_eq!(age(at(1_000_000_000), now), "1m 40s");
        assert_eq!(left(at(1_000_000_130), now), "30s");
        assert_eq!(left(at(1_000_000_000), now), "0s");
        assert_eq!(age(Time(None), now), "");
        assert_eq!(about(at(1_000_000_130), now), "~in 30s");
        assert_eq!(about(at(1_000_000_000), now), "soon");
        assert_eq!(about(Time(None), now), "");
        assert_eq!(clock(at(1_000_000_000)), "01:46:40Z");
        let late = Timestamp::new(1_000_000_000, 900_000_000).unwrap();
        assert_eq!(date(Time(Some(late))), "2001-09-09T01:46:40Z");
    }
}
