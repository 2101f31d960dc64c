//! Whether clients have the answers that were written to them.
//!
//! What is written to a client that has left is answered with a reset, which may take a while. So an answer counts as
//! received once its client has sent its next call, or after a second without a reset. One task watches all of them:
//! with a task and ten timers each they took 15,000 instructions of a job start.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{JobRecords, LOOKED_AT_ONCE, delivery::Addressee, record::State};
use crate::peer::Client;

/// How often the answers are looked at.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// So many looks after its answer was written a client may still reset the connection: then the answer did not reach
/// it. The first look may come at once, and there is a second between it and the last one.
pub(super) const LOOKS: u32 = 11;

/// The answers of which it is not known yet whether their clients have them.
#[derive(Debug, Default)]
pub(super) struct Receipts(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    answers: Vec<Written>,
    /// A task looks at them.
    is_watched: bool,
}

/// An answer that was taken for writing.
#[derive(Debug)]
pub(super) struct Written {
    to: Addressee,
    client: Client,
    /// Its number on the connection.
    number: u64,
    looks: u32,
}

impl Written {
    /// The answer of this number on the connection of `client`.
    pub(super) fn new(to: Addressee, client: Client, number: u64) -> Self {
        Self {
            to,
            client,
            number,
            looks: 0,
        }
    }

    /// What has become of it, if that is known now. `is_late`: this look comes late.
    fn look(&mut self, is_late: bool) -> Option<State> {
        let Self { client, looks, .. } = self;
        if client.has_followed(self.number) {
            return Some(State::UsedUp);
        }
        // The server reads what comes, so it notices resets.
        if client.is_broken() {
            return Some(State::Undelivered);
        }
        // A machine that stood still has shown nothing: its clients give up late. A slow reader: the server gives up on
        // one that stands still.
        if is_late || client.is_write_blocked() {
            *looks = 0;
            return None;
        }
        *looks += 1;
        if *looks < LOOKS {
            return None;
        }
        // What the server reads may lie behind what it has not read yet: the system knows.
        Some(if client.is_reset() {
            State::Undelivered
        } else {
            State::UsedUp
        })
    }
}

impl JobRecords {
    /// Watches an answer until it is known whether its client has it.
    pub(super) fn watch(self: &Arc<Self>, answer: Written) {
        let mut open = self.receipts.0.lock();
        open.answers.push(answer);
        if !mem::replace(&mut open.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Looks at all answers that are watched. False if none is left.
    async fn look(&self, is_late: bool) -> bool {
        let answers = mem::take(&mut self.receipts.0.lock().answers);
        let mut left = Vec::new();
        for (idx, mut answer) in answers.into_iter().enumerate() {
            match answer.look(is_late) {
                Some(state) => self.note_taken(answer.to, state),
                None => left.push(answer),
            }
            if idx % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                yield_now().await;
            }
        }
        let mut open = self.receipts.0.lock();
        open.answers.append(&mut left);
        open.is_watched = !open.answers.is_empty();
        open.is_watched
    }
}

/// Watches answers as long as there are some.
async fn watch(records: Weak<JobRecords>) {
    loop {
        let due = Instant::now() + LOOK_PAUSE;
        sleep_until(due).await;
        let is_late = due.elapsed() > LOOK_PAUSE;
        let Some(records) = records.upgrade() else {
            return;
        };
        if !records.look(is_late).await {
            return;
        }
    }
}
