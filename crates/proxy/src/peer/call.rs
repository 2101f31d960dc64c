//! Whether a call runs on a connection, as others than the task of the connection see it.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Client;

/// No call runs: from the moment the last answer was taken for writing until a head was read.
const IDLE: u8 = 0;
/// A call waits for its answer since a moment.
const NEW: u8 = 1;
/// A call waits for its answer for longer: it is looked whether its client is still there.
const WATCHED: u8 = 2;
/// An answer is being written that reaches a client that has closed its sending side, too.
const ANSWERED: u8 = 3;
/// An answer is being written that ends with its client.
const PASSING: u8 = 4;
/// An answer is taken for writing that is one piece.
const WHOLE: u8 = 5;

/// What a connection does. Its own task tells it, and others read it.
#[derive(Debug)]
pub(super) struct CallState {
    phase: AtomicU8,
    /// When the last call ended, or the connection began.
    idle_since: Mutex<Instant>,
}

/// How an answer goes on once it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Progress {
    /// It is one piece of ours, which is taken for writing at once.
    Whole,
    /// It is ours, and written piece by piece.
    InPieces,
    /// It ends if the client closes its sending side.
    EndsWithClient,
}

impl CallState {
    pub(super) fn idle() -> Self {
        Self {
            phase: AtomicU8::new(IDLE),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Release);
    }

    pub(super) fn hides_end(&self) -> bool {
        matches!(self.phase(), NEW | WATCHED | ANSWERED | WHOLE)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.phase() == WATCHED
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.phase() == IDLE).then(|| *self.idle_since.lock())
    }

    /// If no call runs, the next one is waited for from now on.
    pub(super) fn note_idle(&self) {
        self.note_idle_at(Instant::now());
    }

    pub(super) fn note_idle_at(&self, now: Instant) {
        *self.idle_since.lock() = now;
    }

    pub(super) fn is_waiting_still(&self) -> bool {
        let (order, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let was = self.phase.compare_exchange(NEW, WATCHED, order, failed);
        was == Err(WATCHED)
    }
}

/// A call that runs. Its connection is idle again once this is dropped.
#[derive(Debug)]
pub(crate) struct RunningCall(Client);

impl RunningCall {
    pub(super) fn begin(client: Client) -> Self {
        client.0.call.set(NEW);
        Self(client)
    }

    /// Its answer is known, and goes on until this is dropped.
    pub(crate) fn note_answer(&self, progress: Progress) {
        self.0.0.call.set(match progress {
            Progress::Whole => WHOLE,
            Progress::InPieces => ANSWERED,
            Progress::EndsWithClient => PASSING,
        });
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let state = &self.0.0.call;
        // Of an answer that is one piece, it was noted when that was known: to read the clock again takes 25 ns.
        if state.phase() != WHOLE {
            state.note_idle();
        }
        state.set(IDLE);
    }
}
