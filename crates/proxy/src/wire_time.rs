//! Calendar times as people and programs are told them.

use jiff::{Timestamp, tz::Offset};
use serde::{Serialize, Serializer};

/// A calendar time on the wire: RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireTime(pub(crate) Timestamp);

impl WireTime {
    /// Its text in ASCII. `None`: a year before our era, which no clock shows.
    ///
    /// The digits are written here: by way of [`Timestamp`]'s own formatting they took a twelfth of the instructions of
    /// a pick.
    pub(crate) fn text(self) -> Option<[u8; 24]> {
        let time = Offset::UTC.to_datetime(self.0);
        let year = u16::try_from(time.year()).ok()?;
        let [y1, y2] = two_digits(year / 100);
        let [y3, y4] = two_digits(year % 100);
        let [mo1, mo2] = two_digits(time.month().unsigned_abs());
        let [d1, d2] = two_digits(time.day().unsigned_abs());
        let [h1, h2] = two_digits(time.hour().unsigned_abs());
        let [mi1, mi2] = two_digits(time.minute().unsigned_abs());
        let [s1, s2] = two_digits(time.second().unsigned_abs());
        let millisecond = time.millisecond().unsigned_abs();
        let [_, ms1] = two_digits(millisecond / 100);
        let [ms2, ms3] = two_digits(millisecond % 100);
        Some([
            y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1,
            s2, b'.', ms1, ms2, ms3, b'Z',
        ])
    }
}

impl Serialize for WireTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text() {
            Some(text) => serializer.serialize_str(str::from_utf8(&text).unwrap_or_default()),
            None => serializer.collect_str(&format_args!("{:.3}", self.0)),
        }
    }
}

/// The digits of a number below 100.
fn two_digits(number: impl Into<u16>) -> [u8; 2] {
    TWO_DIGITS[usize::from(number.into()) % 100]
}

/// The digits of each number below 100: to look them up takes half the instructions of two divisions.
static TWO_DIGITS: [[u8; 2]; 100] = {
    let mut all = [[b'0'; 2]; 100];
    let mut number = 1;
    while number < 100 {
        let [tens, ones] = all[number - 1];
        all[number] = if ones == b'9' {
            [tens + 1, b'0']
        } else {
            [tens, ones + 1]
        };
        number += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_its_type_writes_it() {
        for text in [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2024-02-29T12:34:56.789999Z",
            "2026-11-27T09:08:07.006Z",
            "9999-12-30T22:00:00.5Z",
            "-000001-12-31T23:59:59.5Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            let written = serde_json::to_string(&WireTime(time)).unwrap();
            assert_eq!(written, format!("\"{time:.3}\""));
        }
    }
}
