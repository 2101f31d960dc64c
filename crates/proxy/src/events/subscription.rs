//! A reader of events: a place in the ring.

use std::{
    future, mem,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use bytes::Bytes;
use slotmap::DefaultKey;
use thiserror::Error;

use super::Events;

/// What a reader gets first: how many milliseconds it waits before it connects again.
static OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");
/// A comment, which readers skip.
static HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// The events that a reader has not read are kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the reader of events is too slow")]
pub struct TooSlow;

/// A reader. It ends when this is dropped.
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    seat: DefaultKey,
    /// The id of the event that comes next.
    next: u64,
    /// The heartbeats that it has had.
    beats: u64,
    is_open: bool,
    is_cut: bool,
}

impl Subscription {
    pub(super) fn new(events: Events, seat: DefaultKey, next: u64, beats: u64) -> Self {
        Self {
            events,
            seat,
            next,
            beats,
            is_open: false,
            is_cut: false,
        }
    }

    /// What to send next: an event, or a heartbeat. `None` at the end of the process.
    ///
    /// # Errors
    /// [`TooSlow`] if events were missed. The reader has to connect again.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TooSlow>>> {
        if !mem::replace(&mut self.is_open, true) {
            return Poll::Ready(Some(Ok(OPENING.clone())));
        }
        let mut state = self.events.0.state.lock();
        if self.next < state.ring.oldest_id() {
            drop(state);
            self.note_cut();
            return Poll::Ready(Some(Err(TooSlow)));
        }
        if let Some(event) = state.ring.get(self.next).cloned() {
            self.next += 1;
            // It may have to be written first.
            drop(state);
            return Poll::Ready(Some(Ok(event.frame().clone())));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        if self.beats != state.beats {
            self.beats = state.beats;
            return Poll::Ready(Some(Ok(HEARTBEAT.clone())));
        }
        if let Some(seat) = state.seats.get_mut(self.seat) {
            *seat = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// As [`Self::poll_next`]. Cancel-safe.
    ///
    /// # Errors
    /// [`TooSlow`] if events were missed.
    pub async fn next(&mut self) -> Option<Result<Bytes, TooSlow>> {
        future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn note_cut(&mut self) {
        if !mem::replace(&mut self.is_cut, true) {
            self.events.0.cut_count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.events.0.state.lock();
        state.seats.remove(self.seat);
        // Its connection was closed since it takes nothing any more.
        let is_behind = self.next < state.ring.oldest_id();
        drop(state);
        if is_behind {
            self.note_cut();
        }
    }
}
