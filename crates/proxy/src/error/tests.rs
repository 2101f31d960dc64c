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
        Error::NotStarted(NotStarted::Learning) => 9,
        Error::NotStarted(NotStarted::Unavailable) => 10,
        Error::NotStarted(NotStarted::Unreachable) => 11,
        Error::NotStarted(NotStarted::ShuttingDown) => 12,
        Error::UnknownAccount => 13,
        Error::KeysFull => 14,
        Error::Unavailable => 15,
        Error::BufferFull => 16,
        Error::Unreachable => 17,
        Error::OutcomeUnknown => 18,
        Error::TimedOut => 19,
        Error::OwnerUnknown => 20,
        Error::UnknownLease => 21,
        Error::BadRequest { .. } => 22,
        Error::Unauthorized => 23,
        Error::ForbiddenOrigin => 24,
        Error::WrongHost => 25,
        Error::NoRoute => 26,
        Error::NotForwarding => 27,
        Error::MethodNotAllowed { .. } => 28,
        Error::KeyInUse { .. } => 29,
        Error::KeyReused => 30,
        Error::BodyTooLarge { .. } => 31,
        Error::UnsupportedMedia => 32,
        Error::HeadersTooLarge { .. } => 33,
    }
}

#[test]
fn every_kind_stands_at_its_place() {
    let places = Error::KINDS.map(|error| place(&error));
    assert_eq!(places, std::array::from_fn(|idx| idx));
}
