//! Every kind of error is known by its place.

use super::*;

/// A new kind does not compile until it is here.
fn place(error: &Error) -> usize {
    match error {
        Error::Refused(Refusal::Saturated { .. }) => 0,
        Error::Refused(Refusal::Unverified) => 1,
        Error::Refused(Refusal::CoolingDown { .. }) => 2,
        Error::Refused(Refusal::QueueFull) => 3,
        Error::Refused(Refusal::Learning) => 4,
        Error::Refused(Refusal::NoAccounts) => 5,
        Error::Refused(Refusal::NoUsableAccount) => 6,
        Error::TokenRejected => 7,
        Error::ShuttingDown => 8,
        Error::UnknownAccount => 9,
        Error::KeysFull => 10,
        Error::Unavailable => 11,
        Error::BufferFull => 12,
        Error::Unreachable => 13,
        Error::OutcomeUnknown => 14,
        Error::TimedOut => 15,
        Error::OwnerUnknown => 16,
        Error::UnknownLease => 17,
        Error::BadRequest { .. } => 18,
        Error::Unauthorized => 19,
        Error::ForbiddenOrigin => 20,
        Error::WrongHost => 21,
        Error::NoRoute => 22,
        Error::NotForwarding => 23,
        Error::MethodNotAllowed { .. } => 24,
        Error::KeyInUse { .. } => 25,
        Error::KeyReused => 26,
        Error::BodyTooLarge { .. } => 27,
        Error::UnsupportedMedia => 28,
        Error::HeadersTooLarge { .. } => 29,
    }
}

#[test]
fn every_kind_stands_at_its_place() {
    let places = Error::KINDS.map(|error| place(&error));
    assert_eq!(places, std::array::from_fn(|idx| idx));
}
