//! Some members of a JSON object, found in one pass.
//!
//! A poll is the most frequent call of all, and reading its answer was most of our own work on it: 7,400 instructions for
//! 1 KiB with `serde_json`, which looks at strings in steps of eight bytes and copies what it may have to decode; 3,900 here.
//! Both accept the same texts, which the tests hold against each other.

use std::{borrow::Cow, str};

use memchr::memchr2;

/// How many bytes of a string are looked at one by one: most names and words end within them, and are read sooner than a
/// search for their end begins.
const SHORT_BYTES: usize = 16;

/// Which bytes end the plain part of a string: a quote, a backslash, and control characters, which must not be there. A
/// table, since most bytes of names are looked at.
static IS_SPECIAL: [bool; 256] = {
    let mut is_special = [false; 256];
    let mut byte = 0;
    while byte < b' ' as usize {
        is_special[byte] = true;
        byte += 1;
    }
    is_special[b'"' as usize] = true;
    is_special[b'\\' as usize] = true;
    is_special
};

/// The values of the members `names` of a JSON object, each as it stands there. `None` in place of a value where there is no
/// such member, or `null`.
///
/// `None` as a whole if `json` is not one JSON object to its end, or has one of the members twice.
pub(super) fn members<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Option<[Option<&'a str>; N]> {
    let mut found = [const { Member(None) }; N];
    let mut scanner = Scanner::new(json);
    scanner.object(|scanner, name| {
        let value = scanner.value()?;
        match names.iter().position(|it| it.as_bytes() == name) {
            Some(idx) => found[idx].note(value),
            None => Some(()),
        }
    })?;
    scanner.end()?;
    let mut values = [None; N];
    for (value, found) in values.iter_mut().zip(found) {
        *value = match found.value() {
            Some(value) => Some(str::from_utf8(value).ok()?),
            None => None,
        };
    }
    Some(values)
}

/// A member of an object that may be there once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Member<'a>(Option<&'a [u8]>);

impl<'a> Member<'a> {
    /// It is there. `None` if it was there before.
    pub(super) fn note(&mut self, value: &'a [u8]) -> Option<()> {
        self.0.replace(value).is_none().then_some(())
    }

    /// Its value, as it stands there, unless that is `null`.
    pub(super) fn value(self) -> Option<&'a [u8]> {
        self.0.filter(|value| value != b"null")
    }
}

/// The name of a member.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Name<'a> {
    /// As it stands there, with its quotes.
    pub(crate) quoted: &'a [u8],
    has_escapes: bool,
}

impl<'a> Name<'a> {
    /// What it means. `None` if that is no text, as of a lone surrogate.
    pub(crate) fn text(self) -> Option<Cow<'a, [u8]>> {
        if self.has_escapes {
            let text: String = serde_json::from_slice(self.quoted).ok()?;
            return Some(Cow::Owned(text.into_bytes()));
        }
        Some(Cow::Borrowed(&self.quoted[1..self.quoted.len() - 1]))
    }
}

/// Skips JSON, value by value. Each method returns `None` where the text is no JSON. Text that is no UTF-8 is skipped like
/// any other.
pub(crate) struct Scanner<'a> {
    rest: &'a [u8],
    /// The closing brackets that are expected, the next one last. Not the stack of this thread: an answer may open a
    /// million of them.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(json: &'a [u8]) -> Self {
        Self {
            rest: json,
            open: Vec::new(),
        }
    }

    /// Reads an object, and returns it as it stands there. `member` is told the name of each member, and has to read its
    /// value. `None`, too, if one of the names means no text.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Option<()>,
    ) -> Option<&'a [u8]> {
        self.object_of_names(|scanner, name| member(scanner, &name.text()?))
    }

    /// The same where names may mean no text.
    pub(crate) fn object_of_names(
        &mut self,
        mut member: impl FnMut(&mut Self, Name<'a>) -> Option<()>,
    ) -> Option<&'a [u8]> {
        self.next_byte()?;
        let begin = self.rest;
        self.expect(b'{')?;
        if self.next_byte()? == b'}' {
            self.advance(1);
            return Some(self.since(begin));
        }
        loop {
            let name = self.name()?;
            self.expect(b':')?;
            member(self, name)?;
            let byte = self.next_byte()?;
            self.advance(1);
            match byte {
                b',' => {}
                b'}' => return Some(self.since(begin)),
                _ => return None,
            }
        }
    }

    /// The same where `null` may stand in place of the object.
    pub(super) fn object_or_null(
        &mut self,
        member: impl FnMut(&mut Self, &[u8]) -> Option<()>,
    ) -> Option<&'a [u8]> {
        if self.next_byte()? == b'n' {
            self.value()
        } else {
            self.object(member)
        }
    }

    /// Reads a value, and returns it as it stands there.
    pub(crate) fn value(&mut self) -> Option<&'a [u8]> {
        self.next_byte()?;
        let begin = self.rest;
        loop {
            let holds_others = self.begin_value()?;
            if !holds_others && self.end_values()? {
                return Some(self.since(begin));
            }
        }
    }

    /// Only white space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.next_byte().is_none().then_some(())
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// What was read since `rest` was `begin`.
    fn since(&self, begin: &'a [u8]) -> &'a [u8] {
        &begin[..begin.len() - self.rest.len()]
    }

    /// The next byte that is no white space. It is not skipped.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.rest {
                [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] => self.rest = rest,
                [byte, ..] => return Some(*byte),
                [] => return None,
            }
        }
    }

    /// Skips `expected`, and the white space in front of it.
    fn expect(&mut self, expected: u8) -> Option<()> {
        let is_there = self.next_byte()? == expected;
        self.advance(1);
        is_there.then_some(())
    }

    /// Skips the name of a member, and returns it.
    fn name(&mut self) -> Option<Name<'a>> {
        self.next_byte()?;
        let begin = self.rest;
        self.expect(b'"')?;
        let has_escapes = self.skip_string()?;
        let quoted = self.since(begin);
        Some(Name {
            quoted,
            has_escapes,
        })
    }

    /// Skips a value, or the beginning of one that holds others: then it returns true, and the first of these follows.
    fn begin_value(&mut self) -> Option<bool> {
        let byte = self.next_byte()?;
        self.advance(1);
        match byte {
            b'"' => drop(self.skip_string()?),
            b'-' | b'0'..=b'9' => self.skip_number(byte)?,
            b't' => self.skip_word(b"rue")?,
            b'f' => self.skip_word(b"alse")?,
            b'n' => self.skip_word(b"ull")?,
            b'[' => return self.open(b']'),
            b'{' => return self.open(b'}'),
            _ => return None,
        }
        Some(false)
    }

    /// An array or an object has begun, and ends with `close`. Whether it holds anything.
    fn open(&mut self, close: u8) -> Option<bool> {
        if self.next_byte()? == close {
            self.advance(1);
            return Some(false);
        }
        self.open.push(close);
        self.skip_name_in(close)?;
        Some(true)
    }

    /// A value has ended. Skips the ends of all that end with it, and what leads to the next one. Whether there is none.
    fn end_values(&mut self) -> Option<bool> {
        while let Some(close) = self.open.last().copied() {
            let byte = self.next_byte()?;
            self.advance(1);
            if byte == b',' {
                self.skip_name_in(close)?;
                return Some(false);
            }
            if byte != close {
                return None;
            }
            self.open.pop();
        }
        Some(true)
    }

    /// Skips the name of the next value if that has one, as in what ends with `close`.
    fn skip_name_in(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.expect(b'"')?;
            self.skip_string()?;
            self.expect(b':')?;
        }
        Some(())
    }

    /// Skips a string whose opening quote was skipped. Whether it has escapes.
    fn skip_string(&mut self) -> Option<bool> {
        let mut has_escapes = false;
        loop {
            let is_special = |byte: &u8| IS_SPECIAL[usize::from(*byte)];
            let (near, far) = self.rest.split_at(self.rest.len().min(SHORT_BYTES));
            let plain = match near.iter().position(is_special) {
                Some(plain) => plain,
                None => near.len() + plain_in(far)?,
            };
            let (byte, rest) = self.rest[plain..].split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(has_escapes),
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
            has_escapes = true;
        }
    }

    /// Skips an escape whose backslash was skipped.
    fn skip_escape(&mut self) -> Option<()> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                self.rest = rest;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Skips a number whose first byte was skipped.
    fn skip_number(&mut self, mut first: u8) -> Option<()> {
        if first == b'-' {
            first = *self.rest.first()?;
            self.advance(1);
        }
        match first {
            b'0' => {}
            b'1'..=b'9' => drop(self.skip_digits()),
            _ => return None,
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.skip_digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = self.rest {
                self.rest = rest;
            }
            self.skip_digits()?;
        }
        Some(())
    }

    /// Skips digits. `None` if there are none.
    fn skip_digits(&mut self) -> Option<()> {
        let is_other = |byte: &u8| !byte.is_ascii_digit();
        let count = self.rest.iter().position(is_other);
        let count = count.unwrap_or(self.rest.len());
        self.advance(count);
        (count > 0).then_some(())
    }

    /// Skips a word whose first byte was skipped.
    fn skip_word(&mut self, end: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(end)?;
        Some(())
    }
}

/// How many bytes of `text` stand in front of the next quote or backslash. `None` if there is neither, or if one of them
/// is a control character, which JSON does not have in strings.
fn plain_in(text: &[u8]) -> Option<usize> {
    let plain = &text[..memchr2(b'"', b'\\', text)?];
    // The compiler looks at sixteen of them at once, as long as none ends the loop.
    let has_control = plain.iter().fold(false, |has, byte| has | (*byte < b' '));
    (!has_control).then_some(plain.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::slice;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    /// Bytes that mean something in JSON, or are no text.
    const BYTES: &[u8] = b"\"\\/{}[]:,-+.01eEutrfn \t\n\r\x00\x0c\x1f\x7fa\xc3\xa9\xff";

    /// `text`, the beginnings of it, and it with a byte that is missing, added or another one.
    pub(crate) fn variants(text: &str) -> Vec<Vec<u8>> {
        let text = text.as_bytes();
        let mut variants = vec![text.to_vec()];
        for at in 0..text.len() {
            let (before, after) = text.split_at(at);
            variants.extend([before.to_vec(), [before, &after[1..]].concat()]);
            for byte in BYTES.iter().map(slice::from_ref) {
                let others = [[before, byte, &after[1..]], [before, byte, after]];
                variants.extend(others.map(|pieces| pieces.concat()));
            }
        }
        variants
    }

    /// The same by `serde_json`, which is the plain way.
    fn by_serde(json: &[u8]) -> Option<[Option<&str>; 3]> {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            a: Option<&'a RawValue>,
            #[serde(borrow)]
            task: Option<&'a RawValue>,
            #[serde(borrow, rename = "e\"é")]
            escaped: Option<&'a RawValue>,
        }
        let object: Object<'_> = super::super::object(json).ok()?;
        Some([object.a, object.task, object.escaped].map(|value| Some(value?.get())))
    }

    /// Whether `json` is an object without a member that is there twice.
    fn assert_same(json: &[u8]) -> bool {
        let found = members(json, ["a", "task", "e\"é"]);
        let plain = by_serde(json);
        // A name that is no text is none that is looked for.
        if plain.is_some() || str::from_utf8(json).is_ok() {
            assert_eq!(found, plain, "{}", json.escape_ascii());
        }
        plain.is_some()
    }

    #[test]
    fn it_agrees_with_serde_wherever_a_byte_is_another_one_missing_or_added() {
        let long = format!(r#"{{"b":"{}\n{}"}}"#, "x".repeat(40), "y".repeat(20));
        for text in [
            r#"{"a":1,"task":{"id":12,"b":[1,{"c":null},"d\"\u00e9]"]},"e\"é":"\ud800","x":-0.5e+3}"#,
            r#" { "a" : [ [ ] , { } , "" ] , "b" : true , "task" : false , "\u0061b" : "0" } "#,
            r#"{"\u0061":"é","e\"\u00e9":-10.25E-7,"n":null,"a\/":[0,10,1e5],"task":null}"#,
            r#"{"task":{"task":{"task":[{}]}},"a":""}"#,
            "{\"a\":0}\r\n",
            "{}",
            &long,
        ] {
            assert!(assert_same(text.as_bytes()), "{text}");
            let accepted = variants(text).into_iter().filter(|json| assert_same(json));
            assert!(accepted.count() > text.len(), "too few were JSON");
        }
    }

    #[test]
    fn it_agrees_with_serde_on_any_four_pieces() {
        const PIECES: &str = r#"{ } [ ] : , "a" "\ud800" "\u00é" 0 - 1. e1 null tru"#;
        let pieces: Vec<_> = PIECES.split(' ').chain([" "]).collect();
        for number in 0..pieces.len().pow(4) {
            let piece = |place| pieces[number / pieces.len().pow(place) % pieces.len()];
            let inner: String = (0..4).map(piece).collect();
            assert_same(format!(r#"{{"a":{inner}}}"#).as_bytes());
            assert_same(format!("{{{inner}}}").as_bytes());
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_none_unless_it_is_not_asked_for() {
        let members = |json: &'static str| members(json.as_bytes(), ["a", "b"]);
        assert_eq!(members(r#"{"a":1,"a":null}"#), None);
        assert_eq!(members(r#"{"b":null,"a":1,"\u0062":2}"#), None);
        assert_eq!(members(r#"{"a":1,"c":2,"c":3}"#), Some([Some("1"), None]));
    }

    #[test]
    fn a_million_open_brackets_take_no_stack() {
        let count = 1_000_000;
        let deep = [r#"{"b":"#, &"[".repeat(count), &"]".repeat(count), "}"].concat();
        assert_eq!(members(deep.as_bytes(), ["a"]), Some([None]));
        assert_eq!(members(&deep.as_bytes()[..count], ["a"]), None);
    }
}
