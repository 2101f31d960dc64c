//! A client's body, which has to arrive at a least rate.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

use crate::upstream::BoxError;

/// The time that any body has, besides what the least rate grants it.
pub(super) const TIME_MIN: Duration = Duration::from_secs(30);
/// The least rate of a body, in bytes a second. The largest body of a job start may take 18 minutes then; a slower
/// one would hold memory, or a place towards the upstream, for hours.
pub(super) const RATE_MIN: u32 = 16 * 1024;

/// A body whose next piece must come within a time, and which as a whole must arrive within [`TIME_MIN`] and a
/// second for each [`RATE_MIN`] bytes.
///
/// The time counts only while a reader waits for a piece: a slow reader is not the sender's fault.
#[derive(Debug)]
pub(super) struct PacedBody<B> {
    body: B,
    idle_timeout: Duration,
    received_bytes: u64,
    waited: Duration,
    /// Since when a reader waits, and until when it does.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Why a body ended early.
#[derive(Debug, Error)]
pub(super) enum PaceError {
    /// No piece came in time.
    #[error("no piece of it came for {} s; see upstream.idle_timeout", .0.as_secs_f32())]
    Stalled(Duration),
    /// It came too slowly.
    #[error(
        "it came too slowly: {} bytes a second are expected after {} s", RATE_MIN, TIME_MIN.as_secs()
    )]
    TooSlow,
    /// It ended too early, or the connection did.
    #[error("it broke off")]
    Broken(#[source] BoxError),
}

impl<B> PacedBody<B> {
    /// `body`, whose pieces may be `idle_timeout` apart.
    pub(super) fn new(body: B, idle_timeout: Duration) -> Self {
        Self {
            body,
            idle_timeout,
            received_bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// How long a reader may still wait for the body as a whole.
    fn left(&self) -> Duration {
        let granted = Duration::from_secs(self.received_bytes / u64::from(RATE_MIN));
        (TIME_MIN + granted).saturating_sub(self.waited)
    }
}

impl<B> Body for PacedBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = PaceError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PaceError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some((since, _)) = self.waiting.take() {
                self.waited += since.elapsed();
            }
            return Poll::Ready(frame.map(|frame| {
                let frame = frame.map_err(|error| PaceError::Broken(error.into()))?;
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.received_bytes += bytes as u64;
                Ok(frame)
            }));
        }
        let (idle, left) = (self.idle_timeout, self.left());
        let waiting = self
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(idle.min(left)))));
        ready!(waiting.1.as_mut().poll(cx));
        Poll::Ready(Some(Err(if left < idle {
            PaceError::TooSlow
        } else {
            PaceError::Stalled(idle)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;
    use tokio::{sync::mpsc, time::advance};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// A body of the pieces that are sent to it.
    struct Pieces(mpsc::Receiver<usize>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let bytes = ready!(self.0.poll_recv(cx));
            Poll::Ready(bytes.map(|bytes| Ok(Frame::data(vec![b'x'; bytes].into()))))
        }
    }

    /// How long it takes until a body ends whose pieces come like this, if the reader takes so long for each.
    async fn ended(
        pieces: usize,
        bytes: usize,
        gap: Duration,
        reading: Duration,
    ) -> (Duration, Option<PaceError>) {
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..pieces {
                sleep(gap).await;
                if tx.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let mut body = PacedBody::new(Pieces(rx), IDLE);
        loop {
            match body.frame().await {
                None => return (begun.elapsed(), None),
                Some(Err(error)) => return (begun.elapsed(), Some(error)),
                Some(Ok(_)) => advance(reading).await,
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_deadline_as_a_whole() {
        let (took, error) = ended(usize::MAX, 1, SECOND, Duration::ZERO).await;
        assert!(matches!(error, Some(PaceError::TooSlow)), "{error:?}");
        assert_eq!(took, TIME_MIN);
        let half = RATE_MIN as usize / 2;
        let (took, error) = ended(usize::MAX, half, SECOND, Duration::ZERO).await;
        assert!(matches!(error, Some(PaceError::TooSlow)), "{error:?}");
        let least = TIME_MIN.as_secs();
        assert!(
            (2 * least - 2..=2 * least).contains(&took.as_secs()),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_fast_enough_may_take_long() {
        let (took, error) = ended(1000, RATE_MIN as usize, SECOND, Duration::ZERO).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(took, 1000 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_reader_does_not_count() {
        let (took, error) = ended(100, 1, Duration::ZERO, 100 * SECOND).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(took, 10_000 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_ends() {
        let many = 100 * RATE_MIN as usize;
        let (took, error) = ended(3, many, 29 * SECOND, Duration::ZERO).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(took, 87 * SECOND);
        let (_open, rx) = mpsc::channel(1);
        let mut body = PacedBody::new(Pieces(rx), SECOND);
        let stalled = body.frame().await;
        assert!(
            matches!(stalled, Some(Err(PaceError::Stalled(SECOND)))),
            "{stalled:?}"
        );
    }
}
