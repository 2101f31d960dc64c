//! The connections of a listener: how many there may be, and which gives way to a new one.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use tokio::{
    select,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::peer::Client;

/// An idle connection may give way after so long: its first request may be on its way.
const IDLE_MIN: Duration = Duration::from_millis(100);
/// A connection whose client takes nothing of its answer may give way after so long, if no other is idle.
const BLOCKED_MIN: Duration = Duration::from_secs(3);

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    open: Arc<Open>,
    are_exhausted: bool,
}

/// Those that are open.
type Open = Mutex<SlotMap<DefaultKey, Arc<Activity>>>;

/// What a connection does.
#[derive(Debug)]
struct Activity {
    client: Client,
    /// The calls that run: from the head of a request until its answer was taken for writing.
    calls: TaskTracker,
    /// When the last call began or was answered.
    last: Mutex<Instant>,
    gives_way: Notify,
}

/// An open connection. It is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    activity: Arc<Activity>,
    open: Arc<Open>,
    key: DefaultKey,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    /// At most `max` connections.
    pub(super) fn new(max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max)),
            open: Arc::default(),
            are_exhausted: false,
        }
    }

    /// One more, if there may be one.
    pub(super) fn try_open(&mut self, client: &Client) -> Option<Connection> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        self.are_exhausted = false;
        Some(self.opened(client, permit))
    }

    /// Waits until there may be one more: another one gives way, if it can. Cancel-safe.
    pub(super) async fn open(&mut self, client: &Client) -> Connection {
        loop {
            if let Some(connection) = self.try_open(client) {
                return connection;
            }
            if !self.are_exhausted {
                tracing::warn!(
                    "as many clients are connected as may be; idle connections are closed for new ones"
                );
                self.are_exhausted = true;
            }
            self.free_one();
            select! {
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    let permit = permit.expect("the semaphore is never closed");
                    return self.opened(client, permit);
                }
                () = sleep(IDLE_MIN) => {}
            }
        }
    }

    /// Lets the connection give way that has been idle longest; if none is idle, the one whose client has taken
    /// nothing for longest.
    pub(super) fn free_one(&self) {
        let open = self.open.lock();
        let may = open
            .values()
            .filter_map(|it| Some((it.may_give_way()?, it)));
        if let Some((_, activity)) = may.min_by_key(|(order, _)| *order) {
            activity.gives_way.notify_one();
        }
    }

    fn opened(&self, client: &Client, permit: OwnedSemaphorePermit) -> Connection {
        let activity = Arc::new(Activity {
            client: client.clone(),
            calls: TaskTracker::new(),
            last: Mutex::new(Instant::now()),
            gives_way: Notify::new(),
        });
        let key = self.open.lock().insert(Arc::clone(&activity));
        Connection {
            activity,
            open: Arc::clone(&self.open),
            key,
            _permit: permit,
        }
    }
}

impl Activity {
    /// Whether it may give way, and in which order: whether its client is slow, and since when.
    fn may_give_way(&self) -> Option<(bool, Instant)> {
        let (is_slow, since, min) = match self.client.write_blocked_since() {
            Some(blocked) => (true, blocked, BLOCKED_MIN),
            None if self.calls.is_empty() => (false, *self.last.lock(), IDLE_MIN),
            None => return None,
        };
        (since.elapsed() >= min).then_some((is_slow, since))
    }
}

impl Connection {
    pub(super) fn client(&self) -> &Client {
        &self.activity.client
    }

    /// The calls that run.
    pub(super) fn calls(&self) -> &TaskTracker {
        &self.activity.calls
    }

    /// A call begins, or is answered.
    pub(super) fn note_call(&self) {
        *self.activity.last.lock() = Instant::now();
    }

    /// Waits until the connection has to give way. Cancel-safe.
    pub(super) async fn gives_way(&self) {
        loop {
            self.activity.gives_way.notified().await;
            // A call may have come meanwhile.
            if self.activity.may_give_way().is_some() {
                return;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().remove(self.key);
    }
}
