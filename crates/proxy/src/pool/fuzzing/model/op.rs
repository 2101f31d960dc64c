//! The operations on the book.

use super::*;

#[derive(Clone, Debug)]
pub(in crate::pool) enum Op {
    Pick {
        only: Option<usize>,
        exclude: Vec<usize>,
        ttl: u64,
        waits: bool,
        max_jobs: Option<u32>,
    },
    Release(usize),
    Leave(usize),
    Bind(usize, u8),
    Renew(usize, u64),
    Pass(u64),
    Apply(Vec<Option<(u32, bool)>>),
    Drain(usize, bool),
}

/// The operations that tests draw, as often as those.
impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match below(bytes, 18)? {
            0..8 => Self::Pick {
                only: maybe(bytes, 30, account)?,
                exclude: few(bytes, 2, account)?,
                ttl: 1 + below(bytes, 99)?,
                waits: bytes.arbitrary()?,
                max_jobs: maybe(bytes, 30, |it| it.int_in_range(1..=3))?,
            },
            8..12 => Self::Release(nth(bytes)?),
            12 => Self::Leave(nth(bytes)?),
            13 => Self::Bind(nth(bytes)?, bytes.int_in_range(0..=4)?),
            14 => Self::Renew(nth(bytes)?, 1 + below(bytes, 99)?),
            15 => Self::Pass(below(bytes, 80)?),
            16 => {
                let entry = |it: &mut Unstructured<'a>| {
                    maybe(it, 80, |it| Ok((it.int_in_range(0..=3)?, it.ratio(1, 10)?)))
                };
                let entries = EMAILS.iter().map(|_| entry(bytes));
                Self::Apply(entries.collect::<arbitrary::Result<_>>()?)
            }
            _ => Self::Drain(account(bytes)?, bytes.arbitrary()?),
        })
    }
}

fn account(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    bytes.choose_index(EMAILS.len())
}
