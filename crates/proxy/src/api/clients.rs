//! The clients that are let in, each by its token, and what they may do.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::{
    config::tokens::{ClientToken, ClientTokens},
    idempotency::Caller,
    keyed_hash::HashKey,
};

/// The tokens of all clients.
#[derive(Debug)]
pub(crate) struct Clients(Vec<(Client, SecretString)>);

/// A client that is let in. By default one that shows no token, as it need not.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) caller: Caller,
    /// Whether it may only look.
    pub(super) is_read_only: bool,
}

impl Clients {
    /// The clients with these tokens. `hashes` name those that have no name.
    pub(crate) fn new(tokens: &ClientTokens, hashes: &HashKey) -> Self {
        let client = |is_read_only| {
            move |it: &ClientToken| {
                let caller = Caller::of(it, hashes);
                let client = Client {
                    caller,
                    is_read_only,
                };
                (client, it.token.clone())
            }
        };
        let full = tokens.full().map(client(false));
        Self(full.chain(tokens.read_only().map(client(true))).collect())
    }

    /// Without any, every caller is let in.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client that shows `token`. That of the `upstream` opens everything, too: who has it could call the
    /// upstream itself, and clients that were written for the upstream run unchanged.
    pub(super) fn find(&self, token: &[u8], upstream: Option<&[u8]>) -> Option<Client> {
        // Every token is compared, so that the time does not tell which one was nearly right.
        let is_upstream = upstream.is_some_and(|known| known.ct_eq(token).into());
        let mut found = is_upstream.then(|| Client {
            caller: Caller::with_upstream_token(),
            is_read_only: false,
        });
        for (client, known) in &self.0 {
            if bool::from(known.expose_secret().as_bytes().ct_eq(token)) {
                found = Some(client.clone());
            }
        }
        found
    }
}
