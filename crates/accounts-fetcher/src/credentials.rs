//! The token of the upstream, as requests show it.

use std::{fmt, sync::Arc};

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

/// The token of the upstream, shared by everything that shows it. It can be replaced at any time: requests
/// made from then on show the new one.
#[derive(Clone)]
pub struct Credentials(Arc<watch::Sender<HeaderValue>>);

/// The token holds characters that a header cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header cannot carry the token of the upstream")]
pub struct UnsendableToken;

impl Credentials {
    /// Shows `token`.
    ///
    /// # Errors
    /// [`UnsendableToken`].
    pub fn new(token: &SecretString) -> Result<Self, UnsendableToken> {
        Ok(Self(Arc::new(watch::Sender::new(bearer(token)?))))
    }

    /// Shows `token` from now on. False if it is the same.
    ///
    /// # Errors
    /// [`UnsendableToken`]; nothing has changed then.
    pub fn replace(&self, token: &SecretString) -> Result<bool, UnsendableToken> {
        let new = bearer(token)?;
        Ok(self.0.send_if_modified(|shown| {
            let is_new = *shown != new;
            *shown = new;
            is_new
        }))
    }

    /// The value of the `Authorization` header. It is marked as sensitive.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.0.borrow().clone()
    }

    /// Tells of replacements from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<HeaderValue> {
        self.0.subscribe()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<redacted>)")
    }
}

fn bearer(token: &SecretString) -> Result<HeaderValue, UnsendableToken> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
    let mut value = value.map_err(|_invalid| UnsendableToken)?;
    value.set_sensitive(true);
    Ok(value)
}
