//! The connections of a listener: how many there may be, and which gives way to a new one.

use std::{future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::bell::{Bell, CLOSING, GIVE_WAY, LOOK, Listening};
use crate::peer::Client;

/// How long a request head may take, and how long a connection may idle between requests. Longer
/// than the idle times of common clients (Node 5 s, Go 90 s), so that the client closes first and
/// no request meets a closing connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
/// How often all connections are looked at: whether the clients of long calls are still there, and whether a head
/// is late. One timer for all of them: one of its own for each head cost 1,400 instructions a call.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
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
    bell: Bell,
}

/// Why a connection does not go on as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// The listener has closed: it ends once nothing runs on it.
    ListenerClosed,
    /// It gives way to a new one.
    GivesWay,
    /// No head came in time.
    HeadIsLate,
    /// The client closed its side before its call was answered.
    ClientLeft,
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

    /// Looks at all connections again and again. Runs until dropped; cancel-safe.
    pub(super) fn looking(&self) -> impl Future<Output = ()> + use<> {
        let open = Arc::clone(&self.open);
        async move {
            loop {
                sleep(LOOK_INTERVAL).await;
                let now = Instant::now();
                for activity in open.lock().values() {
                    if activity.client.is_waiting_still() || activity.is_late(now) {
                        activity.bell.ring(LOOK);
                    }
                }
            }
        }
    }

    /// The listener has closed: tells those that are open.
    pub(super) fn note_closed(&self) {
        for activity in self.open.lock().values() {
            activity.bell.ring(CLOSING);
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
            activity.bell.ring(GIVE_WAY);
        }
    }

    fn opened(&self, client: &Client, permit: OwnedSemaphorePermit) -> Connection {
        // It may have waited for its place.
        client.note_idle();
        let activity = Arc::new(Activity {
            client: client.clone(),
            bell: Bell::default(),
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
            None => (false, self.client.idle_since()?, IDLE_MIN),
        };
        (since.elapsed() >= min).then_some((is_slow, since))
    }

    /// Whether the next head should have come by now. While the client takes its last answer, it has time.
    fn is_late(&self, now: Instant) -> bool {
        let since = self.client.idle_since();
        since.is_some_and(|since| now.duration_since(since) >= HEAD_TIME_MAX)
            && !self.client.is_write_blocked()
    }
}

impl Connection {
    pub(super) fn client(&self) -> &Client {
        &self.activity.client
    }

    /// Waits until something keeps the connection from going on as it did. Cancel-safe.
    pub(super) async fn interrupted(&self) -> Interrupt {
        let Activity { client, bell } = &*self.activity;
        let mut listening = Listening::default();
        loop {
            let causes = future::poll_fn(|cx| bell.poll_rung(cx, &mut listening)).await;
            // Looks come again; the end of the listener does not.
            if causes & CLOSING != 0 {
                return Interrupt::ListenerClosed;
            }
            // A call may have come meanwhile.
            if causes & GIVE_WAY != 0 && self.activity.may_give_way().is_some() {
                return Interrupt::GivesWay;
            }
            if causes & LOOK != 0 && client.has_left() {
                return Interrupt::ClientLeft;
            }
            if causes & LOOK != 0 && self.activity.is_late(Instant::now()) {
                return Interrupt::HeadIsLate;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, TcpStream},
        time::{advance, timeout},
    };
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::peer::Progress;

    /// A connection that is looked at, and its client's end.
    struct Stage {
        connection: Connection,
        client: Option<TcpStream>,
        _looking: AbortOnDropHandle<()>,
    }

    impl Stage {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap());
            let (client, accepted) = tokio::join!(client, listener.accept());
            let (stream, addr) = accepted.unwrap();
            let mut connections = Connections::new(1);
            let looking = AbortOnDropHandle::new(tokio::spawn(connections.looking()));
            Self {
                connection: connections.try_open(&Client::new(stream, addr)).unwrap(),
                client: client.ok(),
                _looking: looking,
            }
        }

        /// What interrupts the connection within `time`, and how long that takes.
        async fn interrupt(&self, time: Duration) -> Option<(Interrupt, Duration)> {
            let begun = Instant::now();
            let interrupt = timeout(time, self.connection.interrupted()).await.ok();
            interrupt.map(|interrupt| (interrupt, begun.elapsed()))
        }
    }

    /// Whether it comes within two looks after the time that it may not come before.
    fn is_within_a_look(took: Duration, least: Duration) -> bool {
        (least..=least + 2 * LOOK_INTERVAL).contains(&took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_may_take_its_time_and_no_longer() {
        let stage = Stage::new().await;
        let (interrupt, took) = stage.interrupt(2 * HEAD_TIME_MAX).await.unwrap();
        assert_eq!(interrupt, Interrupt::HeadIsLate);
        assert!(is_within_a_look(took, HEAD_TIME_MAX), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_head_begins_when_the_last_call_is_over() {
        let stage = Stage::new().await;
        advance(HEAD_TIME_MAX / 2).await;
        let call = stage.connection.client().begin_call();
        assert_eq!(stage.interrupt(2 * HEAD_TIME_MAX).await, None);
        call.note_answer(Progress::EndsWithClient);
        assert_eq!(stage.interrupt(2 * HEAD_TIME_MAX).await, None);
        drop(call);
        let (interrupt, took) = stage.interrupt(2 * HEAD_TIME_MAX).await.unwrap();
        assert_eq!(interrupt, Interrupt::HeadIsLate);
        assert!(is_within_a_look(took, HEAD_TIME_MAX), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_answer_is_over_when_it_is_known_and_one_in_pieces_when_it_is_written() {
        let stage = Stage::new().await;
        let client = stage.connection.client();
        for (progress, written_in) in [
            (Progress::Whole, Duration::ZERO),
            (Progress::InPieces, HEAD_TIME_MAX / 2),
            (Progress::EndsWithClient, HEAD_TIME_MAX / 2),
        ] {
            let call = client.begin_call();
            advance(HEAD_TIME_MAX).await;
            let known_at = Instant::now();
            client.note_answered(known_at);
            call.note_answer(progress);
            advance(HEAD_TIME_MAX / 2).await;
            drop(call);
            assert_eq!(client.idle_since(), Some(known_at + written_in));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_interrupts_a_call_that_waits_and_no_other() {
        let mut stage = Stage::new().await;
        let client = stage.connection.client().clone();
        let call = client.begin_call();
        stage.client = None;
        while !client.is_gone() {
            tokio::task::yield_now().await;
        }
        client.bind(true);
        assert_eq!(stage.interrupt(10 * LOOK_INTERVAL).await, None);
        client.bind(false);
        let (interrupt, took) = stage.interrupt(10 * LOOK_INTERVAL).await.unwrap();
        assert_eq!(interrupt, Interrupt::ClientLeft);
        assert!(took <= LOOK_INTERVAL, "{took:?}");
        call.note_answer(Progress::InPieces);
        assert_eq!(stage.interrupt(10 * LOOK_INTERVAL).await, None);
        drop(call);
        // What can be answered in a moment is answered.
        let _call = client.begin_call();
        let (interrupt, took) = stage.interrupt(10 * LOOK_INTERVAL).await.unwrap();
        assert_eq!(interrupt, Interrupt::ClientLeft);
        assert!(is_within_a_look(took, LOOK_INTERVAL), "{took:?}");
    }
}
