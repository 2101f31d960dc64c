//! Wakes the task of a connection from outside, and says what for.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;

/// It has to look at its client.
pub(super) const LOOK: u8 = 1;
/// It has to give way to a new connection, if it can.
pub(super) const GIVE_WAY: u8 = 2;
/// The listener has closed.
pub(super) const CLOSING: u8 = 4;

/// Rung by others, heard by one task. A ring is kept until it is heard.
///
/// The task of a connection is polled several times a call, and asks it each time: a `Notify`, a cancellation token and a
/// timer beside hyper took 700 instructions a call more.
#[derive(Debug, Default)]
pub(super) struct Bell {
    causes: AtomicU8,
    task: AtomicWaker,
}

impl Bell {
    pub(super) fn ring(&self, cause: u8) {
        self.causes.fetch_or(cause, Ordering::AcqRel);
        self.task.wake();
    }

    /// Why it was rung since this was asked last.
    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<u8> {
        self.task.register(cx.waker());
        // Most polls have other causes: reading is cheaper than taking.
        if self.causes.load(Ordering::Acquire) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(self.causes.swap(0, Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_once_with_all_its_causes() {
        let bell = std::sync::Arc::new(Bell::default());
        bell.ring(LOOK);
        bell.ring(CLOSING);
        assert_eq!(poll_fn(|cx| bell.poll_rung(cx)).await, LOOK | CLOSING);
        let heard = bell.clone();
        let hearing = tokio::spawn(async move { poll_fn(|cx| heard.poll_rung(cx)).await });
        tokio::task::yield_now().await;
        assert!(!hearing.is_finished());
        bell.ring(GIVE_WAY);
        assert_eq!(hearing.await.unwrap(), GIVE_WAY);
    }
}
