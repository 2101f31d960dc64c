//! What can go wrong with a request, and how it is done on a real socket.
//!
//! *Before* and *after* refer to the moment at which the operation happens: before it no job was
//! made, after it one was.

use std::{future::pending, iter, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use http_body_util::BodyExt;
use rand::{RngExt, rngs::SmallRng};

use crate::{
    encode::Encoding,
    outcome::Outcome,
    reply::{self, Cut, End, Reply, Scripted},
};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request gets this answer, and the operation does not happen.
    Answer(Answer),
    /// The request gets this answer before its body is read, and the connection closes. If the
    /// fault is narrowed to an account that only the body names, the body is read first.
    EarlyAnswer(Answer),
    /// The operation happens and is answered after this time, even if the client has disconnected.
    Delay(Duration),
    /// The operation happens at a random moment within this time, and is answered at its end, even
    /// if the client has disconnected.
    Slow(Duration),
    /// The operation does not happen, and no answer comes.
    StallBefore,
    /// The operation happens, and no answer comes.
    StallAfter,
    /// The operation does not happen, and the connection is reset.
    ResetBefore,
    /// The operation happens, and the connection is reset.
    ResetAfter,
    /// The operation happens. Half of the answer's body comes, with the `Content-Length` of the
    /// whole; then the connection closes.
    TruncateAfter,
    /// The operation happens, and the body of its answer comes one byte per interval.
    Drip(Duration),
    /// The operation happens, and its answer is encoded though the request may not accept it.
    Encode(Encoding),
}

impl Effect {
    /// The outcome of a job start that this effect prevents; `None` if the job starts.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Answer(answer) | Self::EarlyAnswer(answer) => {
                Some(Outcome::Refused(answer.status.as_u16()))
            }
            Self::StallBefore => Some(Outcome::Unjudged("stalled")),
            Self::ResetBefore => Some(Outcome::Unjudged("reset")),
            Self::Delay(_)
            | Self::Slow(_)
            | Self::StallAfter
            | Self::ResetAfter
            | Self::TruncateAfter
            | Self::Drip(_)
            | Self::Encode(_) => None,
        }
    }

    /// Whether it is unknown what the client receives of the operation's answer, and when. An
    /// encoded answer can be decoded.
    pub(crate) fn disturbs(&self) -> bool {
        !matches!(self, Self::Encode(_))
    }

    /// How long the operation waits before it happens, and from then to its answer.
    pub(crate) fn pauses(&self, rng: &mut SmallRng) -> (Duration, Duration) {
        match self {
            Self::Delay(delay) => (*delay, Duration::ZERO),
            Self::Slow(whole) => {
                let before = rng.random_range(Duration::ZERO..=*whole);
                (before, *whole - before)
            }
            Self::Answer(_)
            | Self::EarlyAnswer(_)
            | Self::StallBefore
            | Self::StallAfter
            | Self::ResetBefore
            | Self::ResetAfter
            | Self::TruncateAfter
            | Self::Drip(_)
            | Self::Encode(_) => (Duration::ZERO, Duration::ZERO),
        }
    }

    /// What replaces the operation: an answer, a cut connection, or nothing.
    pub(crate) async fn before(&self) -> Result<Option<Reply>, Cut> {
        match self {
            Self::Answer(answer) => Ok(Some(answer.reply())),
            Self::EarlyAnswer(answer) => Ok(Some(reply::closing(answer.reply()))),
            Self::StallBefore => pending().await,
            Self::ResetBefore => Err(Cut::Reset),
            Self::Delay(_)
            | Self::Slow(_)
            | Self::StallAfter
            | Self::ResetAfter
            | Self::TruncateAfter
            | Self::Drip(_)
            | Self::Encode(_) => Ok(None),
        }
    }

    /// What the effect makes of the operation's answer.
    pub(crate) async fn after(&self, reply: Reply) -> Result<Reply, Cut> {
        match self {
            Self::StallAfter => pending().await,
            Self::ResetAfter => Err(Cut::Reset),
            Self::TruncateAfter => {
                let cut = |body: Bytes| {
                    let half = body.slice(..body.len() / 2);
                    Scripted::new(iter::once(half), End::Cut(Cut::Close)).boxed()
                };
                rewritten(reply, cut).await
            }
            Self::Drip(interval) => {
                let drip = |body: Bytes| {
                    let bytes = (0..body.len()).map(move |idx| body.slice(idx..=idx));
                    Scripted::new(bytes, End::Whole).pause(*interval).boxed()
                };
                rewritten(reply, drip).await
            }
            Self::Encode(encoding) => encoding.apply(reply).await,
            Self::Answer(_)
            | Self::EarlyAnswer(_)
            | Self::Delay(_)
            | Self::Slow(_)
            | Self::StallBefore
            | Self::ResetBefore => Ok(reply),
        }
    }
}

/// `reply` with another body, but with the `Content-Length` of its own.
async fn rewritten(
    reply: Reply,
    body: impl FnOnce(Bytes) -> reply::ReplyBody,
) -> Result<Reply, Cut> {
    let (mut head, whole) = reply.into_parts();
    let whole = whole.collect().await?.to_bytes();
    head.headers.insert(CONTENT_LENGTH, whole.len().into());
    Ok(Reply::from_parts(head, body(whole)))
}

/// An answer that has nothing to do with the operation.
///
/// Without a body of its own it has the upstream's JSON error; without a `Content-Type` it is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Answer {
    /// An answer with this status.
    ///
    /// # Panics
    /// If `status` is not a status of HTTP (100 to 999).
    pub fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status from 100 to 999"),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Adds a header; one name may come several times.
    ///
    /// # Panics
    /// If `value` is not valid in a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("visible ASCII, which a header can carry");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: Some(body.into()),
            ..self
        }
    }

    /// The answer itself.
    pub(crate) fn reply(&self) -> Reply {
        let mut reply = match &self.body {
            Some(body) => reply::json_text(self.status, body.clone()),
            None => reply::error(
                self.status,
                self.status.canonical_reason().unwrap_or("Error"),
            ),
        };
        let headers = reply.headers_mut();
        if self.headers.contains_key(CONTENT_TYPE) {
            headers.remove(CONTENT_TYPE);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_slow_operation_happens_at_any_moment_of_its_time() {
        const WHOLE: Duration = Duration::from_secs(8);
        let mut rng = SmallRng::seed_from_u64(1);
        let pauses: Vec<_> = (0..1000)
            .map(|_| Effect::Slow(WHOLE).pauses(&mut rng))
            .collect();
        assert!(
            pauses
                .iter()
                .all(|(before, after)| *before + *after == WHOLE)
        );
        // Each eighth has 125 of them, give or take 5 standard deviations of 10.5.
        for eighth in 0..8 {
            let count = pauses
                .iter()
                .filter(|(before, _)| before.as_secs() == eighth);
            let count = count.count();
            assert!(count.abs_diff(125) < 53, "{eighth}: {count}");
        }
        let delay = Effect::Delay(WHOLE).pauses(&mut rng);
        assert_eq!(delay, (WHOLE, Duration::ZERO));
    }
}
