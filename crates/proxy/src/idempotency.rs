//! The `Idempotency-Key` header: which keys are valid, and their scope. The pool keeps what they stand for.
//!
//! Follows draft-ietf-httpapi-idempotency-key-header-07, with one difference: a refusal is never
//! remembered, so a client that retries after one makes a new attempt.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use secrecy::ExposeSecret;

use crate::{
    config::tokens::ClientToken,
    error::Error,
    hex,
    keyed_hash::HashKey,
    pool::{self, Key},
};

/// The longest key a client may choose.
const WORD_CHARS_MAX: usize = 255;

/// The client that makes a call, by the token that it shows. Each client has keys of its own. Without client
/// tokens all callers are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller(Option<Arc<Client>>);

#[derive(Debug, PartialEq, Eq)]
struct Client {
    name: Option<Arc<str>>,
    scope: Arc<str>,
}

impl Caller {
    /// The client with this token: the same one as long as its name, or else its token, is the same. `hashes`: what
    /// is stored of a token tells it to no reader of the store.
    pub(crate) fn of(token: &ClientToken, hashes: &HashKey) -> Self {
        let scope = match &token.name {
            Some(name) => format!("name:{name}"),
            None => {
                let token = token.token.expose_secret().as_bytes();
                format!("token:{}", hex::encode(&hashes.hash("client", token)))
            }
        };
        let name = token.name.clone();
        let scope = scope.into();
        Self(Some(Arc::new(Client { name, scope })))
    }

    /// The clients that show the token of the upstream: one, whatever that token is at the time.
    pub(crate) fn with_upstream_token() -> Self {
        const NAME: &str = "upstream-token";
        Self(Some(Arc::new(Client {
            name: Some(NAME.into()),
            scope: NAME.into(),
        })))
    }

    /// What the client is called, if its token has a name.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.name.as_ref()
    }

    /// What a lease tells of a call of this client.
    pub(crate) fn of_call(&self, request_id: Arc<str>) -> pool::Caller {
        pool::Caller {
            client: self.name().cloned(),
            request_id,
        }
    }

    /// What tells its keys from those of others. Without spaces.
    pub(crate) fn scope(&self) -> &str {
        self.0.as_ref().map_or("", |client| &client.scope)
    }

    /// The same, to be kept.
    pub(crate) fn shared_scope(&self) -> Arc<str> {
        let client = self.0.as_ref();
        client.map_or_else(Arc::default, |client| Arc::clone(&client.scope))
    }
}

/// The header, and how people know it.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const NAME: &str = "Idempotency-Key";

/// The key as the client chose it, without quotes.
pub(crate) fn word(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(&HEADER)?.to_str().ok()?;
    let unquoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    Some(unquoted.unwrap_or(text))
}

/// Reads the key of a request for `operation`, if it has one, in its scope: the same key of another client,
/// or for another method or operation, is another key.
///
/// # Errors
/// [`Error::BadRequest`] if it has two, or one that is empty, too long or invisible.
pub(crate) fn read(
    headers: &HeaderMap,
    caller: &Caller,
    method: &Method,
    operation: &str,
) -> Result<Option<Key>, Error> {
    // Most calls have none, and few lines: to look at each takes a third of what hashing the name would.
    if !headers.keys().any(|name| *name == HEADER) {
        return Ok(None);
    }
    let mut values = headers.get_all(&HEADER).iter().skip(1);
    match (word(headers), values.next()) {
        (Some(word), None)
            if (1..=WORD_CHARS_MAX).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            // Only the operation may have a space in it.
            let text = format!("{} {method} {operation} {word}", caller.scope());
            Ok(Some(Key::new(&text)))
        }
        _ => Err(Error::bad_request(
            NAME,
            "expected one key of 1 to 255 visible characters",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_as_long_as_its_name_or_else_its_token_is() {
        let hashes = HashKey::from_hex(&"12".repeat(32)).unwrap();
        let client = |name: Option<&str>, token: &str| {
            let name = name.map(Arc::from);
            let token = ClientToken {
                name,
                token: token.into(),
            };
            Caller::of(&token, &hashes).scope().to_owned()
        };
        assert_eq!(client(Some("a"), "1"), "name:a");
        assert_eq!(client(Some("a"), "2"), "name:a");
        // printf 'client\0secret' | openssl mac -digest SHA256 -macopt hexkey:1212… HMAC
        let known = "token:38d516a106dbba6840c89b84fbcae02b07a1c594078316e657fa5030df21f2d7";
        assert_eq!(client(None, "secret"), known);
        assert_ne!(client(None, "secreu"), known);
    }
}
