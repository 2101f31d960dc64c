//! A caller's place in the queue, and how it is told of its grant.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Local;
use crate::pool::{LeaseId, LeaseView, Refusal, WaiterId};

/// The call that listens for the slot of a waiter. A repeated call with the same lease id replaces
/// the earlier one.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) number: u64,
    pub(super) tell: oneshot::Sender<LeaseView>,
}

/// The answer to a caller who is ready to wait.
#[doc(hidden)]
#[derive(Debug)]
pub enum Entry<'a> {
    /// A slot was free. Boxed, since it is passed on a dozen times until the call is answered.
    Granted(Box<LeaseView>),
    /// No slot was free.
    Waiting(Waiting<'a>),
}

/// A place in the queue. Dropping it leaves the queue, and gives back a slot that was handed over
/// meanwhile.
#[doc(hidden)]
#[derive(Debug)]
pub struct Waiting<'a> {
    pub(super) local: &'a Local,
    pub(super) id: WaiterId,
    pub(super) lease: LeaseId,
    pub(super) seat: u64,
    pub(super) granted: oneshot::Receiver<LeaseView>,
}

impl Waiting<'_> {
    /// Waits for the slot. Cancel-safe. `None` only if a repeated call has replaced this one.
    pub async fn granted(&mut self) -> Option<LeaseView> {
        (&mut self.granted).await.ok()
    }

    /// Stops waiting. The caller gets a slot that was handed over in the last moment.
    ///
    /// # Errors
    /// [`Refusal::Saturated`], with the place it had in the queue.
    pub fn give_up(mut self) -> Result<LeaseView, Refusal> {
        let id = self.id;
        let estimate = self
            .local
            .change(|state, now| state.pool.queue_estimate(id, now));
        let none = Refusal::Saturated {
            free_in: Duration::ZERO,
            position: 1,
        };
        self.leave().ok_or(estimate.unwrap_or(none))
    }

    fn leave(&mut self) -> Option<LeaseView> {
        {
            let mut state = self.local.lock();
            let seat = state.waiting.get(&self.id).map(|seat| seat.number);
            if seat == Some(self.seat) {
                state.waiting.remove(&self.id);
                state.pool.leave(self.id);
                self.local.shown.note();
                return None;
            }
            // A repeated call has the grant: this one must not give it back.
            if state.told.get(&self.lease) != Some(&self.seat) {
                return None;
            }
            state.told.remove(&self.lease);
        }
        self.granted.try_recv().ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.leave() {
            self.local.change(|state, now| {
                state.has_moved = true;
                state.give_back(lease.id, now);
            });
        }
    }
}
