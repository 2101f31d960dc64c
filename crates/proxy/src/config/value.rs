//! Parsers for the values of settings. Each error says what was expected.

use std::{net::IpAddr, net::SocketAddr, str::FromStr, time::Duration};

use bytesize::ByteSize;
use http::Uri;
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::filter::Targets;

/// The longest time any setting may name. A value beyond a month is a mistake.
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// The largest size any setting may name: more memory than a sidecar has.
const SIZE_MAX: usize = 64 << 30;
/// The shortest token of a client: as many characters as 64 random bits have in hexadecimal.
const CLIENT_TOKEN_CHARS_MIN: usize = 16;

/// Reads a duration such as `30s`, `1m 30s` or `500ms`. A bare `0` is zero.
///
/// # Errors
/// What was expected instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration with a unit, such as 500ms, 30s or 5m";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed: SignedDuration = text.parse().map_err(|_error| EXPECTED.to_owned())?;
    let parsed = Duration::try_from(parsed)
        .map_err(|_error| "expected a duration that is not negative".to_owned())?;
    if parsed > DURATION_MAX {
        return Err("expected a duration of at most 31 days".to_owned());
    }
    Ok(parsed)
}

/// Writes a duration as one would in a setting: `1h`, `90s` as `1m 30s`.
pub fn in_words(time: Duration) -> String {
    SignedDuration::try_from(time).map_or_else(|_| format!("{time:?}"), |time| format!("{time:#}"))
}

/// Reads a duration of at least `min`.
pub(super) fn duration_from(min: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match duration(text)? {
        parsed if parsed < min => Err(format!("expected at least {}", in_words(min))),
        parsed => Ok(parsed),
    }
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_error| "expected true or false".to_owned())
}

/// Reads a number of bytes of at least `min` that fits into memory.
pub(super) fn size_from(min: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let size = ByteSize::from_str(text)
            .map_err(|_error| "expected a size such as 512KiB or 16MiB".to_owned())?;
        match usize::try_from(size.as_u64()) {
            Ok(size) if (min..=SIZE_MAX).contains(&size) => Ok(size),
            Ok(_) | Err(_) => Err(format!(
                "expected {} to {}, written with its unit such as 16MiB",
                ByteSize(min as u64),
                ByteSize(SIZE_MAX as u64)
            )),
        }
    }
}

/// Reads a filter of log lines: levels, alone or for a target.
///
/// `Targets` would take a misspelt level for a target, and hide everything else.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.to_lowercase().as_str());
    let is_target = |word: &str| !word.is_empty() && !word.contains(char::is_whitespace);
    let mut directives = text.split(',');
    let is_filter = directives.all(|directive| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    });
    if is_filter && Targets::from_str(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected a level ({}), and others for single targets, such as info,proxy=debug",
            LEVELS.join(", ")
        ))
    }
}

/// Reads a path below the base URL.
pub(super) fn path(text: &str) -> Result<String, String> {
    let is_path = text.len() > 1 && text.starts_with('/') && !text.contains(['?', '#', ' ']);
    if is_path {
        Ok(text.to_owned())
    } else {
        Err("expected paths below the base URL such as /videos/text2video".to_owned())
    }
}

/// Reads a whole number from `min` to `max`.
pub(super) fn number(min: usize, max: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("expected a whole number from {min} to {max}")),
    }
}

pub(super) fn status(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(status @ 100..=999) => Ok(status),
        Ok(_) | Err(_) => Err("expected HTTP statuses such as [429, 596]".to_owned()),
    }
}

pub(super) fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_error| "expected an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

/// Reads a token: text that a header can carry.
pub(super) fn token(text: &str) -> Result<SecretString, String> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected visible ASCII characters without spaces".to_owned());
    }
    Ok(SecretString::from(token))
}

/// Reads a token that clients show. A short one can be guessed, and one with a comma was meant as a list.
pub(super) fn client_token(text: &str) -> Result<SecretString, String> {
    if text.contains(',') {
        return Err(
            "expected no comma in a token; write several as [\"…\", \"…\"], or one a line in \
             auth.tokens_file"
                .to_owned(),
        );
    }
    let token = token(text)?;
    if token.expose_secret().len() < CLIENT_TOKEN_CHARS_MIN {
        return Err(format!(
            "expected a token of at least {CLIENT_TOKEN_CHARS_MIN} characters; `openssl rand -hex 32` \
             prints one"
        ));
    }
    Ok(token)
}

/// Reads a web origin, RFC 6454 §6.2, in lower case as browsers send it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.split_once("://") {
        Some((scheme, host)) if !scheme.is_empty() && is_host(host) => Ok(text),
        _ => Err(format!(
            "expected web origins such as http://localhost:3000{ONE_BY_ONE}"
        )),
    }
}

/// Reads the name of a host, perhaps with a port, in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    if is_host(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "expected host names such as sidecar.internal{ONE_BY_ONE}"
        ))
    }
}

/// How several values of a setting are written: one with commas in it would never match.
const ONE_BY_ONE: &str = r#", several as ["…", "…"]"#;

fn is_host(text: &str) -> bool {
    let is_of_host = |byte: u8| byte.is_ascii_graphic() && !b",/?#@\\".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_host)
}

pub(super) fn word(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("expected a text".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Reads one of a closed set of words.
pub(super) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("expected {}", words.join(" or "))
            })
    }
}

/// Where useapi.net serves the Kling API.
const VENDOR_HOST: &str = "api.useapi.net";
const VENDOR_PATH: &str = "/v1/kling";

/// Reads the address of the upstream, without a trailing slash.
pub(super) fn base_url(text: &str) -> Result<Uri, String> {
    const EXPECTED: &str =
        "expected an http:// or https:// address such as https://api.useapi.net/v1/kling";
    let uri: Uri = text
        .trim_end_matches('/')
        .parse()
        .map_err(|_error| EXPECTED.to_owned())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let (true, Some(authority)) = (is_http, uri.authority()) else {
        return Err(EXPECTED.to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("expected an address without user and password".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("expected an address without ? and #".to_owned());
    }
    let is_link_local = match authority.host().trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(addr)) => addr.is_link_local(),
        Ok(IpAddr::V6(addr)) => addr.is_unicast_link_local(),
        Err(_) => false,
    };
    if is_link_local {
        return Err("expected a host that is not link-local".to_owned());
    }
    // Nothing but the Kling API is meant there, and every other path answers 404.
    let is_vendor = authority.host().eq_ignore_ascii_case(VENDOR_HOST);
    let is_kling = uri.path() == VENDOR_PATH && uri.scheme_str() == Some("https");
    if is_vendor && !is_kling {
        return Err(format!(
            "expected https://{VENDOR_HOST}{VENDOR_PATH}: that is where the Kling API is"
        ));
    }
    Ok(uri)
}
