//! The fingerprint of a job start: its operation, its query and what its body says.
//!
//! It is the same for each attempt: what clients draw anew, such as boundaries, is left out, and so is an e-mail
//! that counts as absent. What is put in here is no part of it.

use tokio::task::yield_now;

use super::email::{EmailBody, query::Query};
use crate::pool::{Fingerprint, FingerprintHasher};

/// So many bytes are hashed before other calls have their turn: a fraction of a millisecond, where a body of 16 MiB
/// takes up to a tenth of a second.
const HASHED_AT_ONCE: usize = 64 * 1024;

/// The fingerprint of a call. `ignores_email`: its e-mail counts as absent. Cancel-safe.
pub(super) async fn fingerprint(
    operation: &str,
    query: &Query,
    body: &EmailBody,
    ignores_email: bool,
) -> Fingerprint {
    let mut hashing = FingerprintHasher::default();
    hashing.field(operation.as_bytes());
    if ignores_email {
        hashing.field(query.with_email("").as_bytes());
    } else {
        hashing.field(query.as_str().as_bytes());
    }
    hashing.field(body.format_name().as_bytes());
    for field in body.content(ignores_email) {
        hashing.begin_field(field.iter().map(|piece| piece.len()).sum());
        for piece in field.iter().flat_map(|piece| piece.chunks(HASHED_AT_ONCE)) {
            hashing.add(piece);
            if piece.len() == HASHED_AT_ONCE {
                yield_now().await;
            }
        }
    }
    hashing.finish()
}

#[cfg(test)]
mod tests;
