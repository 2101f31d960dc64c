//! Every limit of this crate, with its reason.
//!
//! The vendor documents no bounds, so each limit is chosen far above the needs of a real account
//! list and far below what would hurt the process.

use std::time::Duration;

/// Bytes of one answer on the wire, before decoding: about 70,000 accounts of 240 bytes each.
pub const WIRE_BYTES_MAX: usize = 16 << 20;

/// Bytes of one list after decoding, and of a list file. JSON of this kind compresses about
/// fivefold; an answer that grows beyond four times [`WIRE_BYTES_MAX`] is a bomb, not a list.
pub const DECODED_BYTES_MAX: usize = 64 << 20;

/// Lines in the head of an answer. Servers behind several gateways send some dozens, and hyper's own limit
/// of 100 has been met; a line costs no more than its bytes, which are limited too.
pub const HEADER_LINES_MAX: usize = 200;

/// Bytes of a refusal that are read to find out what it means; the vendor's text has 70.
pub const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Entries of one list. Choosing an account stays O(1) up to here, as measured.
pub const ENTRIES_MAX: usize = 100_000;

/// Bytes of an e-mail: the longest address that fits an SMTP path (RFC 5321, erratum 1690).
pub const EMAIL_BYTES_MAX: usize = 254;

/// Characters kept of an account's `error`; the text is shown to people, never interpreted.
pub const ERROR_TEXT_CHARS_MAX: usize = 200;

/// Slots of an account whose `maxJobs` is absent or null: the least that makes it usable.
pub const MAX_JOBS_DEFAULT: u32 = 1;

/// Most slots of one account; a larger `maxJobs` is lowered to it. Twenty times the 50 that the
/// vendor documents today: it raised its own limit from 10 to 50 in 2025, and a tight ceiling would
/// strand slots on the day of the next raise.
pub const MAX_JOBS_CEILING: u32 = 1000;

/// Longest `Retry-After` that is honoured: a hint must not switch the refresh off.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Consecutive empty answers after which the list is believed to be empty. An empty list removes
/// every account at once, and a half-broken upstream may send one, so it must come three times.
pub const EMPTY_CONFIRMATIONS: u32 = 3;
