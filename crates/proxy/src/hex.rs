//! Bytes as hex digits.

use serde::{Deserialize, Deserializer, de::Error as _};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower case digits for each byte, written to `digits`, which has room for them.
pub(crate) fn put(bytes: &[u8], digits: &mut [u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

/// Two lower case digits for each byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    put(bytes, &mut digits);
    digits.into_iter().map(char::from).collect()
}

/// Reads what [`encode`] wrote of so many bytes.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = text.len() == 2 * N && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; N];
    for (idx, byte) in bytes.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(text.get(2 * idx..2 * idx + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
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
    }
}
