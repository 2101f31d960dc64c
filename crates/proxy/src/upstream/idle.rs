//! A body with a timeout between its pieces.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Sleep, sleep};

use super::BoxError;

/// A body that fails when its next piece does not come within a time.
///
/// The time counts only while a reader waits for a piece: a slow reader is not the sender's fault.
#[derive(Debug)]
pub struct Idle<B> {
    body: B,
    timeout: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Why a body ended early.
#[derive(Debug, Error)]
pub enum IdleError {
    /// No piece came in time.
    #[error("the body stalled for {} ms", .0.as_millis())]
    Stalled(Duration),
    /// It was not read, and other calls waited for its place.
    #[error("the body was not read, and gave way to other calls")]
    GaveWay,
    /// It ended too early, or the connection did.
    #[error("the body broke off")]
    Broken(#[source] BoxError),
}

impl<B> Idle<B> {
    /// `body`, whose pieces may be `timeout` apart.
    pub fn new(body: B, timeout: Duration) -> Self {
        Self {
            body,
            timeout,
            waiting: None,
        }
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
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|e| IdleError::Broken(e.into()))));
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(IdleError::Stalled(timeout))))
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

    struct Pieces(mpsc::Receiver<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = ready!(self.0.poll_recv(cx));
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_between_pieces_and_only_while_one_is_awaited() {
        let (tx, rx) = mpsc::channel(1);
        let mut body = Idle::new(Pieces(rx), Duration::from_secs(60));
        for _ in 0..3 {
            advance(Duration::from_secs(3600)).await;
            tx.send(Bytes::from_static(b"x")).await.unwrap();
            assert!(body.frame().await.unwrap().is_ok(), "the reader was slow");
            let piece = async {
                sleep(Duration::from_secs(59)).await;
                tx.send(Bytes::from_static(b"y")).await.unwrap();
            };
            let (frame, ()) = tokio::join!(body.frame(), piece);
            assert!(frame.unwrap().is_ok());
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, IdleError::Stalled(_)), "{error}");
    }
}
