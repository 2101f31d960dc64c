//! The upstream's answers to job starts, for calls that come again.
//!
//! In memory only, and bounded: an answer that is not kept is made anew from what the upstream says.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::rising::Rising;
use crate::pool::{LeaseId, REMEMBERED_FOR};

/// The memory for answers, which take 1 to 4 KiB each.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// About what an answer takes beside its bytes.
const OVERHEAD_BYTES: usize = 256;

/// Kept answers by the leases of their submissions.
#[derive(Debug)]
pub(crate) struct KeptAnswers {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with its place in the order.
    answers: HashMap<LeaseId, (u64, KeptAnswer), RandomState>,
    /// In the order of arrival, with the time.
    order: Rising<(Instant, LeaseId)>,
    arrived_count: u64,
    bytes: usize,
}

/// An answer as it came.
#[derive(Debug)]
struct KeptAnswer {
    /// Names and lengths of the values. No map: most answers are never looked at again.
    lines: Vec<(HeaderName, usize)>,
    /// The values, and behind them the body, in one piece that does not hold the buffer that the answer was read into.
    text: Bytes,
}

impl KeptAnswer {
    /// A copy of an answer.
    fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let mut lines = Vec::with_capacity(headers.len());
        let values: usize = headers.values().map(HeaderValue::len).sum();
        let mut text = Vec::with_capacity(values + body.len());
        for (name, value) in headers {
            lines.push((name.clone(), value.len()));
            text.extend_from_slice(value.as_bytes());
        }
        text.extend_from_slice(body);
        Self {
            lines,
            text: text.into(),
        }
    }

    /// Its head and its body.
    fn parts(&self) -> (HeaderMap, Bytes) {
        let mut rest = self.text.clone();
        let mut headers = HeaderMap::with_capacity(self.lines.len());
        for (name, length) in &self.lines {
            let value = HeaderValue::from_maybe_shared(rest.split_to(*length));
            headers.append(name, value.expect("it was a value before"));
        }
        (headers, rest)
    }

    fn bytes(&self) -> usize {
        let names = self.lines.iter().map(|(name, _)| name.as_str().len());
        OVERHEAD_BYTES + names.sum::<usize>() + self.text.len()
    }
}

impl KeptAnswers {
    pub(super) fn new() -> Self {
        Self::with_max(BYTES_MAX)
    }

    fn with_max(bytes_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max,
        }
    }

    /// Keeps an answer for as long as its key is remembered, if there is memory for it. It takes the place of one that was
    /// kept before.
    pub(crate) fn keep(&self, lease: LeaseId, headers: &HeaderMap, body: &[u8]) {
        let answer = KeptAnswer::of(headers, body);
        let now = Instant::now();
        let mut kept = self.kept.lock();
        kept.forget_before(now);
        kept.forget(lease);
        let bytes = answer.bytes();
        if kept.bytes + bytes <= self.bytes_max {
            let place = kept.arrived_count;
            kept.arrived_count += 1;
            kept.bytes += bytes;
            kept.order.insert(place, (now, lease));
            kept.answers.insert(lease, (place, answer));
        }
    }

    /// No call will ask for the answer to this submission any more.
    pub(super) fn forget(&self, lease: LeaseId) {
        self.kept.lock().forget(lease);
    }

    /// Head and body of the answer to a submission, if it was kept.
    pub(crate) fn get(&self, lease: LeaseId) -> Option<(HeaderMap, Bytes)> {
        let kept = self.kept.lock();
        let (_, answer) = kept.answers.get(&lease)?;
        Some(answer.parts())
    }
}

impl Kept {
    fn forget(&mut self, lease: LeaseId) {
        if let Some((place, answer)) = self.answers.remove(&lease) {
            self.order.remove(place);
            self.bytes -= answer.bytes();
        }
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some(&(_, (at, lease))) = self.order.first()
            && now.duration_since(at) >= REMEMBERED_FOR
        {
            self.forget(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LeaseId {
        LeaseId::random(&mut rand::rng())
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_as_long_as_keys_within_their_memory() {
        let answers = KeptAnswers::with_max(2 * (OVERHEAD_BYTES + 100));
        let ids = [id(), id(), id()];
        for lease in ids {
            answers.keep(lease, &HeaderMap::new(), &[b'x'; 100]);
        }
        let is_kept = |lease| answers.get(lease).is_some();
        assert_eq!(ids.map(is_kept), [true, true, false]);
        tokio::time::advance(REMEMBERED_FOR).await;
        let next = id();
        answers.keep(next, &HeaderMap::new(), &[b'x'; 100]);
        assert_eq!([ids[0], next].map(is_kept), [false, true]);
    }

    #[test]
    fn a_kept_answer_holds_no_buffer_of_its_connection() {
        let mut buffer = Bytes::from(vec![b'x'; 8 * 1024]);
        let value = HeaderValue::from_maybe_shared(buffer.split_to(9)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-a", value.clone());
        headers.append("x-a", HeaderValue::from_static("second"));
        let answers = KeptAnswers::new();
        let lease = id();
        answers.keep(lease, &headers, b"{}");
        let (head, body) = answers.get(lease).unwrap();
        assert_eq!((head, &body[..]), (headers.clone(), &b"{}"[..]));
        drop((headers, value));
        assert!(buffer.is_unique(), "a value keeps all 8 KiB");
    }

    #[test]
    fn a_forgotten_answer_leaves_nothing_behind() {
        let answers = KeptAnswers::new();
        for _ in 0..9 {
            let lease = id();
            answers.keep(lease, &HeaderMap::new(), b"{}");
            answers.keep(lease, &HeaderMap::new(), b"{}");
            answers.forget(lease);
        }
        let kept = answers.kept.lock();
        assert_eq!((kept.order.len(), kept.bytes), (0, 0));
    }
}
