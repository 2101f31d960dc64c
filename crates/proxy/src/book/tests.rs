//! The loop that writes, over a journal that can be held up and fail.

mod bounds;
mod extras;
mod unlisted;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use accounts_fetcher::{Account, Snapshot};
use futures::poll_once;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle, time::advance};

use super::*;
use crate::{
    events::{Event, Events},
    journal::{Record, Statistics, Table},
    ledger::{
        FollowList, ListProgress, PickError, PickRequest, SetDraining, Settle, Slot, Unavailable,
        tests::{any_account, held, pick},
    },
    pool::{Limits, ListChange, Name, Pool, Settlement},
};

mod futures {
    use std::{future::Future, pin::Pin, task::Poll};

    /// Polls a future once.
    pub(super) async fn poll_once<F: Future>(future: &mut Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            Poll::Ready(match future.as_mut().poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await
    }
}

/// What a journal holds, and how it behaves.
#[derive(Debug)]
struct Disk {
    records: Mutex<BTreeMap<(Table, String), String>>,
    /// Each commit takes one.
    permits: Semaphore,
    is_full: AtomicBool,
    commits_count: AtomicUsize,
    /// The most records of one commit.
    largest: AtomicUsize,
}

impl Disk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            permits: Semaphore::new(0),
            is_full: AtomicBool::new(false),
            commits_count: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
        })
    }

    fn count(&self, table: Table) -> usize {
        let records = self.records.lock();
        records.keys().filter(|(its, _)| *its == table).count()
    }
}

impl Journal for Arc<Disk> {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        let records = self.records.lock();
        let record = |((table, name), value): (&(Table, String), &String)| Record {
            table: *table,
            name: name.clone(),
            value: value.clone(),
        };
        Ok(records.iter().map(record).collect())
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }

    async fn commit(&mut self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.permits.acquire().await.unwrap().forget();
        self.commits_count.fetch_add(1, Ordering::Relaxed);
        self.largest.fetch_max(changes.len(), Ordering::Relaxed);
        if self.is_full.load(Ordering::Relaxed) {
            return Err(JournalError("the disk is full".to_owned()));
        }
        let mut records = self.records.lock();
        for change in changes {
            match change.value {
                Some(value) => records.insert((change.table, change.name), value),
                None => records.remove(&(change.table, change.name)),
            };
        }
        Ok(())
    }
}

/// A ledger over one account `a@x` with so many slots, and the loop that writes it.
struct Stage {
    disk: Arc<Disk>,
    ledger: Arc<Ledger>,
    records: Arc<JobRecords>,
    end: CancellationToken,
    writing: JoinHandle<Arc<Disk>>,
}

impl Stage {
    async fn new(slots: u32) -> Self {
        Self::over(Disk::new(), slots).await
    }

    async fn over(disk: Arc<Disk>, slots: u32) -> Self {
        Self::with(disk, slots, false).await
    }

    async fn with(disk: Arc<Disk>, slots: u32, reconciles: bool) -> Self {
        let mut journal = Arc::clone(&disk);
        let loaded = load(&mut journal).await.unwrap();
        let hour = Duration::from_secs(3600);
        let limits = Limits {
            waiters_max: 9,
            job_ttl: hour,
            reconciles,
            settle: hour,
            ties_picks: false,
        };
        let lived = loaded.clock.now();
        let pool = Pool::restored(limits, loaded.saved, None, lived);
        let metrics = Arc::new(Metrics::new().unwrap());
        let records = JobRecords::new(hour, Arc::clone(&metrics), Events::default());
        let woken = Arc::<Notify>::default();
        records.track(Arc::clone(&woken));
        records.restore(loaded.job_starts, lived, |lease| pool.known_of(lease));
        let ledger = Ledger::journaled(pool, loaded.clock, Events::default());
        let writer = Writer {
            journal,
            ledger: Arc::clone(&ledger),
            records: Arc::clone(&records),
            owners: Arc::default(),
            woken,
            metrics,
            first: loaded.first,
            extras: loaded.extras,
            status: watch::Sender::new(BookStatus::new("disk", loaded.sessions_count)),
        };
        let end = CancellationToken::new();
        let writing = tokio::spawn(writer.run(end.clone()));
        let base = ledger.call(crate::ledger::NewestList).await.unwrap();
        let list = Snapshot::from_iter([Account::new("a@x", slots)]);
        let change = ListChange::between(base, &list);
        let progress = ledger.call(FollowList { change }).await.unwrap();
        assert_eq!(progress, Some(ListProgress::Whole));
        Self {
            disk,
            ledger,
            records,
            end,
            writing,
        }
    }

    /// So many commits may go through.
    fn let_through(&self, count: usize) {
        self.disk.permits.add_permits(count);
    }

    async fn picked(&self, request: &PickRequest) -> Result<Slot, PickError> {
        pick(&self.ledger, request).await
    }

    /// Ends the process in good order.
    async fn ended(self) -> Arc<Disk> {
        self.let_through(9);
        self.end.cancel();
        self.writing.await.unwrap()
    }
}

const NO_WAIT: Result<(), PickError> = Err(PickError::Unavailable(Unavailable));

#[tokio::test(start_paused = true)]
async fn a_grant_is_told_once_it_is_durable_and_a_settlement_at_once() {
    let stage = Stage::new(2).await;
    let request = any_account();
    let mut picking = Box::pin(stage.picked(&request));
    for _ in 0..100 {
        assert!(poll_once(&mut picking.as_mut()).await.is_none());
        yield_now().await;
    }
    assert_eq!(stage.disk.count(Table::Lease), 0);
    stage.let_through(2);
    let slot = picking.as_mut().await.unwrap();
    drop(picking);
    assert_eq!(stage.disk.count(Table::Lease), 1);
    // The journal stands still, and the settlement is told.
    let settle = Settle {
        lease: slot.lease().id,
        email: None,
        body: None,
        settlement: Settlement::NotSent,
        refusal: None,
    };
    slot.keep();
    stage.ledger.call(settle).await.unwrap();
    assert_eq!(held(&stage.ledger).await, 0);
    let disk = stage.ended().await;
    assert_eq!(disk.count(Table::Lease), 0);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_stops_grants_and_gives_their_slots_back() {
    let stage = Stage::new(1).await;
    stage.let_through(1);
    stage.ledger.flushed().await.unwrap();
    stage.disk.is_full.store(true, Ordering::Relaxed);
    stage.let_through(1000);
    let request = any_account();
    // The first one finds out.
    assert_eq!(stage.picked(&request).await.map(Slot::keep), NO_WAIT);
    assert!(stage.ledger.is_failing());
    assert_eq!(stage.picked(&request).await.map(Slot::keep), NO_WAIT);
    assert_eq!(held(&stage.ledger).await, 0);
    // One that can wait gets its slot once the journal is written again.
    let patient = PickRequest {
        ttl: Some(Duration::from_secs(600)),
        wait: Duration::from_secs(60),
        ..request.clone()
    };
    let mut picking = Box::pin(stage.picked(&patient));
    assert!(poll_once(&mut picking.as_mut()).await.is_none());
    advance(Duration::from_secs(30)).await;
    assert!(poll_once(&mut picking.as_mut()).await.is_none());
    stage.disk.is_full.store(false, Ordering::Relaxed);
    picking.as_mut().await.unwrap().keep();
    drop(picking);
    assert!(!stage.ledger.is_failing());
    let told = stage.ledger.events().recent(usize::MAX);
    let told: Vec<_> = told.iter().map(Event::kind).collect();
    let told: Vec<_> = told
        .iter()
        .filter(|kind| kind.starts_with("state-"))
        .collect();
    assert_eq!(told, [&"state-failing", &"state-written"], "each once");
    assert_eq!(stage.disk.count(Table::Lease), 1);
    // One whose wait ends before gives its slot back.
    let stage = Stage::over(stage.ended().await, 2).await;
    stage.disk.is_full.store(true, Ordering::Relaxed);
    stage.let_through(1000);
    assert_eq!(stage.picked(&patient).await.map(Slot::keep), NO_WAIT);
    assert_eq!(held(&stage.ledger).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_hangs_counts_as_failed_until_it_is_done() {
    let stage = Stage::new(1).await;
    let request = any_account();
    let begun_at = Instant::now();
    assert_eq!(stage.picked(&request).await.map(Slot::keep), NO_WAIT);
    assert_eq!(begun_at.elapsed(), COMMIT_MAX);
    stage.let_through(9);
    stage.ledger.flushed().await.ok();
    yield_now().await;
    while stage.ledger.is_failing() {
        yield_now().await;
    }
    stage.picked(&request).await.unwrap().keep();
}

#[tokio::test(start_paused = true)]
async fn many_grants_share_a_commit() {
    let stage = Stage::new(64).await;
    let request = any_account();
    let picks: Vec<_> = (0..64).map(|_| stage.picked(&request)).collect();
    let picked = async {
        let mut slots = Vec::new();
        let mut picks: Vec<_> = picks.into_iter().map(Box::pin).collect();
        for pick in &mut picks {
            assert!(poll_once(&mut pick.as_mut()).await.is_none());
        }
        stage.let_through(9);
        for pick in picks {
            slots.push(pick.await.unwrap());
        }
        slots
    };
    let slots = picked.await;
    assert_eq!(stage.disk.count(Table::Lease), 64);
    // The start and the list; then all grants.
    let commits_count = stage.disk.commits_count.load(Ordering::Relaxed);
    assert!(commits_count <= 3, "{commits_count}");
    slots.into_iter().for_each(Slot::keep);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_there_after_a_restart() {
    let stage = Stage::new(2).await;
    stage.let_through(9);
    let request = any_account();
    let slot = stage.picked(&request).await.unwrap();
    let lease = slot.lease().clone();
    slot.keep();
    let drain = SetDraining {
        name: Name::new("a@x"),
        is_draining: true,
    };
    stage.ledger.call(drain).await.unwrap().unwrap();
    // As after kill -9: nothing more is written.
    stage.writing.abort();
    let stage = Stage::over(Arc::clone(&stage.disk), 2).await;
    let again = crate::ledger::LeaseNow { id: lease.id };
    let again = stage.ledger.call(again).await.unwrap().unwrap();
    assert_eq!(again.view.id, lease.view.id);
    assert_eq!(again.view.email, lease.view.email);
    let drift = again.view.created_at.abs_diff(lease.view.created_at);
    assert!(drift < Duration::from_millis(1), "{drift:?}");
    let account = crate::ledger::tests::first_account(&stage.ledger).await;
    assert_eq!(account.state.as_str(), "draining");
    assert_eq!(stage.disk.count(Table::Session), 1);
    stage.let_through(9);
    let resume = SetDraining {
        name: Name::new("a@x"),
        is_draining: false,
    };
    stage.ledger.call(resume).await.unwrap().unwrap();
    assert_eq!(stage.disk.count(Table::Session), 2);
    assert_eq!(stage.disk.count(Table::Book), 2);
}

#[tokio::test(start_paused = true)]
async fn a_held_pick_is_told_to_another_call_once_it_is_durable() {
    use crate::pool::{Claim, Fingerprint, Key};
    let stage = Stage::new(1).await;
    let claim = Claim {
        key: Key::new("k"),
        fingerprint: Fingerprint::of(["x"]),
    };
    let request = PickRequest {
        claim: Some(claim),
        ..any_account()
    };
    let mut first = Box::pin(stage.picked(&request));
    assert!(poll_once(&mut first.as_mut()).await.is_none());
    let mut second = Box::pin(stage.picked(&request));
    let told = poll_once(&mut second.as_mut()).await;
    assert!(told.is_none(), "told before it is durable");
    // The first one leaves, and the second one has been told.
    stage.let_through(9);
    let known = second.as_mut().await.map(Slot::keep);
    assert!(matches!(known, Err(PickError::Known(_))), "{known:?}");
    drop(first);
    assert_eq!(held(&stage.ledger).await, 1, "its holder is the second one");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_caller_has_gone_is_free() {
    use crate::{
        ledger::KnowsKey,
        pool::{Claim, Fingerprint, Key, LeaseId},
    };
    let stage = Stage::new(1).await;
    let claim = Claim {
        key: Key::new("k"),
        fingerprint: Fingerprint::of(["x"]),
    };
    let lease = LeaseId::random(&mut rand::rng());
    let deadline = Instant::now();
    let claiming = stage
        .ledger
        .prepare_without_slot(lease, Some(claim), deadline);
    let mut claiming = Box::pin(claiming);
    assert!(poll_once(&mut claiming.as_mut()).await.is_none());
    drop(claiming);
    stage.let_through(9);
    stage.ledger.flushed().await.unwrap();
    let known = stage.ledger.call(KnowsKey { key: Key::new("k") }).await;
    assert_eq!(known, Ok(false));
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_kept_over_a_clean_end() {
    let stage = Stage::new(1).await;
    stage.let_through(9);
    stage.ledger.flushed().await.unwrap();
    for _ in 0..7200 {
        advance(Duration::from_secs(1)).await;
        yield_now().await;
    }
    let lived = stage.ledger.lived();
    let disk = stage.ended().await;
    let mut disk2 = Arc::clone(&disk);
    let loaded = load(&mut disk2).await.unwrap();
    let lost = lived.saturating_sub(loaded.clock.now());
    assert!(lost < Duration::from_secs(1), "lost {lost:?} of {lived:?}");
}

#[tokio::test(start_paused = true)]
async fn names_do_not_pile_up_while_the_disk_is_full() {
    use crate::pool::{Claim, Fingerprint, Key};
    let stage = Stage::new(1).await;
    stage.let_through(1);
    stage.ledger.flushed().await.unwrap();
    stage.disk.is_full.store(true, Ordering::Relaxed);
    stage.let_through(1_000_000);
    let request = any_account();
    assert_eq!(stage.picked(&request).await.map(Slot::keep), NO_WAIT);
    for n in 0..1000 {
        let claim = Claim {
            key: Key::new(&format!("k{n}")),
            fingerprint: Fingerprint::of(["x"]),
        };
        let request = PickRequest {
            claim: Some(claim),
            wait: Duration::from_millis(1),
            ..any_account()
        };
        assert!(stage.picked(&request).await.is_err());
    }
    assert_eq!(held(&stage.ledger).await, 0);
    let (changed, ..) = stage.ledger.take_changed();
    let count = changed.names().count();
    assert!(
        count < 100,
        "{count} names of records that are gone and were never written"
    );
}
