//! Calendar times as people and programs are told them.

use jiff::{Timestamp, tz::Offset};
use serde::{Serialize, Serializer};

/// A calendar time on the wire: RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireTime(pub(crate) Timestamp);

impl Serialize for WireTime {
    /// The digits are written here: by way of [`Timestamp`]'s own formatting they took a twelfth of the instructions of
    /// a pick.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Offset::UTC.to_datetime(self.0);
        let Ok(year) = u16::try_from(time.year()) else {
            return serializer.collect_str(&format_args!("{:.3}", self.0));
        };
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year);
        for (at, part) in [
            (5, time.month()),
            (8, time.day()),
            (11, time.hour()),
            (14, time.minute()),
            (17, time.second()),
        ] {
            put(&mut text[at..at + 2], part.unsigned_abs().into());
        }
        put(&mut text[20..23], time.millisecond().unsigned_abs());
        serializer.serialize_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// Writes a number with leading zeros.
fn put(digits: &mut [u8], mut number: u16) {
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

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
