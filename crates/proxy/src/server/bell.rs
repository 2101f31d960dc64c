//! Wakes the task of a connection from outside, and says what for.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// It has to look at its client.
pub(super) const LOOK: u8 = 1;
/// It has to give way to a new connection, if it can.
pub(super) const GIVE_WAY: u8 = 2;
/// The listener has closed.
pub(super) const CLOSING: u8 = 4;

/// Rung by others, heard by one task. A ring is kept until it is heard.
///
/// The task of a connection is polled several times a call, and asks it each time: a `Notify`, a cancellation token and a
/// timer beside hyper took 700 instructions a call more. It says once that it listens: to say so each time takes two
/// locked instructions.
#[derive(Debug, Default)]
pub(super) struct Bell {
    causes: AtomicU8,
    /// The task that listens.
    task: Mutex<Option<Waker>>,
}

/// What a task remembers between two times that it asks: how it was woken when it said that it listens.
#[derive(Debug, Default)]
pub(super) struct Listening(Option<Waker>);

impl Bell {
    pub(super) fn ring(&self, cause: u8) {
        self.causes.fetch_or(cause, Ordering::AcqRel);
        let task = self.task.lock();
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }

    /// Why it was rung since this was asked last.
    pub(super) fn poll_rung(&self, cx: &Context<'_>, listening: &mut Listening) -> Poll<u8> {
        let known = &mut listening.0;
        if !known.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *known = Some(cx.waker().clone());
            // Before the causes are read: a ring that comes later finds the task.
            self.task.lock().clone_from(known);
        }
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

    use tokio::sync::mpsc;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_once_with_all_its_causes() {
        let bell = std::sync::Arc::new(Bell::default());
        bell.ring(LOOK);
        bell.ring(CLOSING);
        let mut listening = Listening::default();
        let rung = poll_fn(|cx| bell.poll_rung(cx, &mut listening)).await;
        assert_eq!(rung, LOOK | CLOSING);
        // It is another task that listens now.
        let heard = bell.clone();
        let (tell, mut told) = mpsc::channel(1);
        let hearing = async move {
            loop {
                let rung = poll_fn(|cx| heard.poll_rung(cx, &mut listening)).await;
                tell.send(rung).await.unwrap();
            }
        };
        let _hearing = AbortOnDropHandle::new(tokio::spawn(hearing));
        for cause in [GIVE_WAY, LOOK, LOOK] {
            tokio::task::yield_now().await;
            assert!(told.is_empty());
            bell.ring(cause);
            assert_eq!(told.recv().await, Some(cause));
        }
    }
}
