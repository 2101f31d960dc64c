//! Events in the book and around it.

use super::*;

/// A call for a slot.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Call {
    pub(in crate::pool) only: Option<Email>,
    pub(in crate::pool) exclude: Vec<Email>,
    pub(in crate::pool) is_forward: bool,
    pub(in crate::pool) waits: bool,
    /// It has a place from an earlier time.
    pub(in crate::pool) comes_back: bool,
    pub(in crate::pool) max_jobs: Option<u32>,
    pub(in crate::pool) idempotency_key: Option<u8>,
    /// What it starts is known.
    pub(in crate::pool) has_operation: bool,
}

impl Call {
    /// The key that it claims. Calls of different kinds have different keys.
    pub(in crate::pool) fn claim(&self) -> Option<(Claim, Kind)> {
        let kind = if self.is_forward {
            Kind::Forward
        } else {
            Kind::Pick
        };
        let claim = |key| Claim {
            key: Key::new(&format!("{kind:?} {key}")),
            fingerprint: Fingerprint::of(["1"]),
        };
        self.idempotency_key.map(|key| (claim(key), kind))
    }
}

#[derive(Clone, Debug)]
pub(in crate::pool) enum Event {
    Call(Call),
    /// A waiter leaves.
    Leave(usize),
    /// A holder names the job of its lease.
    Bind(usize, u64),
    Renew(usize, u64),
    /// A client releases a lease.
    Release(usize),
    /// The sidecar learns what became of a slot, once or twice.
    Settle {
        nth: usize,
        settlement: Settlement,
        is_told_twice: bool,
    },
    /// A job is over.
    Over(u64),
    /// The upstream stops tracking a job that it lists.
    Untrack(u64),
    /// The sidecar learns of a job that has no lease.
    Started(u64, Email),
    List(Vec<(Email, u32)>),
    /// Other jobs run now, and a round lists them. The round may tell caps.
    Round {
        jobs: Vec<(u64, Email)>,
        cap: Option<u32>,
    },
    /// Some jobs start and some end, and a round lists what runs.
    Change(Vec<(u64, Option<Email>)>),
    /// The ids of these jobs cannot be read in rounds from now on, and the upstream counts so many more jobs than
    /// it lists on an account.
    Garble {
        ids: Vec<u64>,
        excess: Option<(Email, u32)>,
    },
    /// A submission is about to be sent.
    Submit(usize),
    Fault(usize, MarkFault),
    /// Rounds list a job with the mark of a lease from now on, or without one.
    Mark(u64, Option<usize>),
    Drain(Email, bool),
    /// The history of every account is read.
    History {
        tasks: Vec<u64>,
        is_whole: bool,
    },
    Pass(u64),
}

/// The events that tests draw, as often as those.
impl<'a> Arbitrary<'a> for Event {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match below(bytes, 43)? {
            0..8 => Self::Call(bytes.arbitrary()?),
            8 => Self::Leave(nth(bytes)?),
            9..12 => Self::Bind(nth(bytes)?, id(bytes)?),
            12 => Self::Renew(nth(bytes)?, 1 + below(bytes, 99)?),
            13..15 => Self::Release(nth(bytes)?),
            15..23 => Self::Settle {
                nth: nth(bytes)?,
                settlement: settlement(bytes)?,
                is_told_twice: bytes.arbitrary()?,
            },
            23 => Self::Over(id(bytes)?),
            24 => Self::Untrack(id(bytes)?),
            25 => Self::Started(id(bytes)?, email(bytes)?),
            26 => Self::List(few(bytes, 6, |it| Ok((email(it)?, small(it, 0, 3)?)))?),
            27..29 => Self::Round {
                jobs: few(bytes, 5, |it| Ok((id(it)?, email(it)?)))?,
                cap: maybe(bytes, 60, |it| small(it, 1, 2))?,
            },
            29..34 => Self::Change(few(bytes, 2, |it| Ok((id(it)?, maybe(it, 70, email)?)))?),
            34 => Self::Garble {
                ids: few(bytes, 2, id)?,
                excess: maybe(bytes, 50, |it| Ok((email(it)?, small(it, 1, 2)?)))?,
            },
            35 => Self::rare(bytes)?,
            36..38 => Self::Submit(nth(bytes)?),
            38..41 => Self::Mark(id(bytes)?, maybe(bytes, 80, nth)?),
            41 => Self::Fault(nth(bytes)?, fault(bytes)?),
            _ => Self::Pass(seconds(bytes)?),
        })
    }
}

impl Event {
    fn rare(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(if bytes.arbitrary()? {
            Self::Drain(email(bytes)?, bytes.arbitrary()?)
        } else {
            Self::History {
                tasks: few(bytes, 4, id)?,
                is_whole: bytes.arbitrary()?,
            }
        })
    }
}

impl<'a> Arbitrary<'a> for Call {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self {
            only: maybe(bytes, 30, email)?,
            exclude: few(bytes, 2, email)?,
            is_forward: bytes.arbitrary()?,
            waits: bytes.arbitrary()?,
            comes_back: bytes.ratio(3, 10)?,
            max_jobs: maybe(bytes, 30, |it| small(it, 1, 2))?,
            idempotency_key: maybe(bytes, 60, |it| it.int_in_range(0..=5))?,
            has_operation: bytes.ratio(8, 10)?,
        })
    }
}

fn fault(bytes: &mut Unstructured<'_>) -> arbitrary::Result<MarkFault> {
    let faults = [
        MarkFault::Refused,
        MarkFault::AcceptedWithout,
        MarkFault::ServerError,
    ];
    bytes.choose(&faults).copied()
}

fn email(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Email> {
    bytes.choose(EMAILS).copied()
}

fn id(bytes: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    below(bytes, 8)
}

fn small(bytes: &mut Unstructured<'_>, least: u32, most: u32) -> arbitrary::Result<u32> {
    bytes.int_in_range(least..=most)
}

fn seconds(bytes: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    let range = match below(bytes, 6)? {
        0 => 3000..=9000,
        1 => 80_000..=200_000,
        _ => 1..=149,
    };
    bytes.int_in_range(range)
}

fn settlement(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Settlement> {
    Ok(match below(bytes, 13)? {
        0..4 => Settlement::Accepted {
            task_id: task(id(bytes)?),
            task_type: Some("t".into()),
        },
        4 => Settlement::Refused(Blame::PushedBack {
            retry_after: Some(at(id(bytes)?)),
        }),
        5 => Settlement::Refused(Blame::SessionBroken),
        6 => Settlement::Refused(Blame::NoCredit),
        7 => Settlement::Refused(Blame::Request),
        8 => Settlement::Refused(Blame::Token),
        9 => Settlement::NotSent,
        10 => Settlement::Undelivered,
        _ => Settlement::Uncertain {
            sent_ago: at(id(bytes)?),
        },
    })
}
