//! The clients that are let in, each by its token.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::{
    config::tokens::{ClientToken, ClientTokens},
    idempotency::Caller,
};

/// The tokens of all clients. Without any, every caller is let in.
#[derive(Debug)]
pub(crate) struct Clients(Vec<(Caller, SecretString)>);

impl Clients {
    pub(crate) fn new(tokens: &ClientTokens) -> Self {
        let client = |it: &ClientToken| (Caller::of(it), it.token.clone());
        Self(tokens.all().map(client).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client that shows `token`.
    pub(super) fn find(&self, token: &[u8]) -> Option<Caller> {
        // Every token is compared, so that the time does not tell which one was nearly right.
        let mut found = None;
        for (caller, known) in &self.0 {
            if bool::from(known.expose_secret().as_bytes().ct_eq(token)) {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}
