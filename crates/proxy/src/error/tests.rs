//! Every kind of error is known by its place.

use super::*;

/// A new kind does not compile until it is here.
fn place(error: &Error) -> usize {
    match error {
        Error::Refused(Refusal::Saturated { .. }) => 0,
        Error::Refused(Refusal::Unverified { .. }) => 1,
        Error::Refused(Refusal::CoolingDown { .. }) => 2,
        Error::Refused(Refusal::QueueFull { .. }) => 3,
        Error::Refused(Refusal::Learning) => 4,
        Error::Refused(Refusal::NoAccounts) => 5,
        Error::Refused(Refusal::NoUsableAccount) => 6,
        Error::TokenRejected(TokenFault::Unknown) => 7,
        Error::TokenRejected(TokenFault::Unpaid) => 8,
        Error::ShuttingDown => 9,
        Error::NotStarted(NotStarted::Learning) => 10,
        Error::NotStarted(NotStarted::Unavailable) => 11,
        Error::NotStarted(NotStarted::Unreachable) => 12,
        Error::NotStarted(NotStarted::ShuttingDown) => 13,
        Error::UnknownAccount => 14,
        Error::KeysFull => 15,
        Error::Unavailable => 16,
        Error::BufferFull => 17,
        Error::Unreachable => 18,
        Error::OutcomeUnknown => 19,
        Error::TimedOut => 20,
        Error::OwnerUnknown => 21,
        Error::UnknownLease => 22,
        Error::BadRequest { .. } => 23,
        Error::Unauthorized => 24,
        Error::ReadOnly => 25,
        Error::ForbiddenOrigin => 26,
        Error::WrongHost => 27,
        Error::NoRoute => 28,
        Error::NotForwarding => 29,
        Error::MethodNotAllowed { .. } => 30,
        Error::KeyInUse { .. } => 31,
        Error::KeyReused => 32,
        Error::BodyTooLarge { .. } => 33,
        Error::UnsupportedMedia => 34,
        Error::HeadersTooLarge { .. } => 35,
    }
}

#[test]
fn every_kind_stands_at_its_place() {
    let places = Error::KINDS.map(|error| place(&error));
    assert_eq!(places, std::array::from_fn(|idx| idx));
}
