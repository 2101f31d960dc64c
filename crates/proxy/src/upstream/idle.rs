//! A body with deadlines: between its pieces, and, if it must arrive at a least rate, as a whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

use super::BoxError;

/// The time that a body has that must arrive at a least rate, besides what that rate grants it.
const TIME_MIN: Duration = Duration::from_secs(30);
/// The least rate of a client's body, in bytes a second. The largest body of a job start may take 18 minutes then; a
/// slower one would hold memory, or a place towards the upstream, for hours.
const RATE_MIN: u32 = 16 * 1024;

/// A body that fails when its next piece does not come within a time, or the whole of it comes too slowly.
///
/// The time counts only while a reader waits for a piece: a slow reader is not the sender's fault.
#[derive(Debug)]
pub struct Idle<B> {
    body: B,
    timeout: Duration,
    /// How it arrived so far, if it must do so at a least rate.
    pace: Option<Pace>,
    /// Since when a reader waits, and until when it does.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How a body arrived so far.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    waited: Duration,
}

/// Why a body ended early.
#[derive(Debug, Error)]
pub enum IdleError {
    /// No piece came in time.
    #[error("no piece of it came for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It came too slowly.
    #[error(
        "it came too slowly: {RATE_MIN} bytes a second are expected after {} s", TIME_MIN.as_secs()
    )]
    TooSlow,
    /// It was not read, and other calls waited for its place.
    #[error("it was not read, and gave way to other calls")]
    GaveWay,
    /// It ended too early, or the connection did.
    #[error("it broke off")]
    Broken(#[source] BoxError),
}

impl<B> Idle<B> {
    /// `body`, whose pieces may be `timeout` apart.
    pub fn new(body: B, timeout: Duration) -> Self {
        Self {
            body,
            timeout,
            pace: None,
            waiting: None,
        }
    }

    /// The same, and the whole must arrive within 30 s and a second for each 16 KiB.
    pub fn paced(body: B, timeout: Duration) -> Self {
        Self {
            pace: Some(Pace::default()),
            ..Self::new(body, timeout)
        }
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let waited = self.waiting.take().map(|(since, _)| since.elapsed());
        if let Some(pace) = &mut self.pace {
            pace.waited += waited.unwrap_or_default();
            pace.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
    }
}

impl Pace {
    /// How long a reader may still wait for the whole body.
    fn left(&self) -> Duration {
        let granted = Duration::from_secs(self.bytes / u64::from(RATE_MIN));
        (TIME_MIN + granted).saturating_sub(self.waited)
    }
}

impl<B> Body for Idle<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = IdleError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                let frame = frame.map_err(|error| IdleError::Broken(error.into()))?;
                self.note(&frame);
                Ok(frame)
            }));
        }
        let left = self.pace.as_ref().map_or(Duration::MAX, Pace::left);
        let timeout = self.timeout;
        let waiting = || (Instant::now(), Box::pin(sleep(timeout.min(left))));
        let (_, waiting) = self.waiting.get_or_insert_with(waiting);
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(if left < timeout {
            IdleError::TooSlow
        } else {
            IdleError::Stalled(timeout)
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
    ) -> (Duration, Option<IdleError>) {
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
        let mut body = Idle::paced(Pieces(rx), IDLE);
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
        assert!(matches!(error, Some(IdleError::TooSlow)), "{error:?}");
        assert_eq!(took, TIME_MIN);
        let half = RATE_MIN as usize / 2;
        let (took, error) = ended(usize::MAX, half, SECOND, Duration::ZERO).await;
        assert!(matches!(error, Some(IdleError::TooSlow)), "{error:?}");
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
        let mut body = Idle::new(Pieces(rx), SECOND);
        let stalled = body.frame().await;
        assert!(
            matches!(stalled, Some(Err(IdleError::Stalled(SECOND)))),
            "{stalled:?}"
        );
    }
}
