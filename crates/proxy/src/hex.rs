//! Bytes as hex digits.

use serde::{Deserialize, Deserializer, de::Error as _};

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// The two digits of each byte.
static PAIRS: [[u8; 2]; 256] = pairs();
/// What [`VALUES`] has for a byte that is no digit: more bits than any digit has.
const NO_DIGIT: u8 = 0xff;
/// The value of each byte as a digit.
static VALUES: [u8; 256] = values();

const fn pairs() -> [[u8; 2]; 256] {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    pairs
}

const fn values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = DIGITS[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
}

/// Two lower case digits for each byte, written to `digits`, which has room for them.
pub(crate) fn put(bytes: &[u8], digits: &mut [u8]) {
    let (pairs, _) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

/// Two lower case digits for each byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    put(bytes, &mut digits);
    digits.into_iter().map(char::from).collect()
}

/// Reads what [`encode`] wrote of so many bytes. Upper case digits are digits, too.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low & 0xf;
    }
    (seen != NO_DIGIT).then_some(bytes)
}

/// The same for serde.
///
/// # Errors
/// If the text is anything else.
pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).ok_or_else(|| D::Error::custom(format_args!("expected {} hex digits", 2 * N)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_were_written_are_read() {
        assert_eq!(encode(&[0, 10, 255]), "000aff");
        assert_eq!(decode("000aff"), Some([0, 10, 255]));
        assert_eq!(decode("000AFF"), Some([0, 10, 255]));
        for text in ["", "0", "000aff0", "000aff00", "00 aff", "+00aff", "äaff"] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
        for byte in 0..=u8::MAX {
            let text = format!("a{}", char::from(byte));
            let value = u8::from_str_radix(&text, 16).ok().map(|value| [value]);
            assert_eq!(decode(&text), value, "{text}");
        }
    }
}
