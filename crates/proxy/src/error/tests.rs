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
        Error::NoPlace => 18,
        Error::Unreachable => 19,
        Error::OutcomeUnknown => 20,
        Error::TimedOut => 21,
        Error::OwnerUnknown => 22,
        Error::UnknownLease => 23,
        Error::BadRequest { .. } => 24,
        Error::Unauthorized => 25,
        Error::ReadOnly => 26,
        Error::ForbiddenOrigin => 27,
        Error::WrongHost => 28,
        Error::NoRoute => 29,
        Error::NotForwarding => 30,
        Error::MethodNotAllowed { .. } => 31,
        Error::KeyInUse { .. } => 32,
        Error::KeyReused => 33,
        Error::BodyTooLarge { .. } => 34,
        Error::UnsupportedMedia => 35,
        Error::HeadersTooLarge { .. } => 36,
    }
}

#[test]
fn every_kind_stands_at_its_place() {
    let places = Error::KINDS.map(|error| place(&error));
    assert_eq!(places, std::array::from_fn(|idx| idx));
}
