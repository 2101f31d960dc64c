//! Idempotency keys of picks: the same key gets the same lease for as long as it is held.
//!
//! A key lives as long as its call and then as long as its lease; the table forgets no other.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::{
    error::Error,
    idempotency::Key,
    ledger::{Ledger, PickRequest},
    pool::{LeaseId, LeaseView},
};

/// The most keys remembered at once. Each stands for a held slot or a call being answered; ten
/// times the default number of waiters is far beyond both.
pub(super) const KEYS_MAX: usize = 100_000;
/// How many keys the table takes before it first looks for ended leases.
const SWEEP_MIN: usize = 1024;
/// How long a full table of held leases is left alone: a look at it stops every pick for a moment.
const SWEEP_REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Remembered {
    request: PickRequest,
    /// `None` while the call is being answered.
    lease: Option<LeaseId>,
}

/// The table of keys.
#[derive(Debug)]
pub(super) struct Keys {
    table: DashMap<Key, Remembered, RandomState>,
    keys_max: usize,
    sweep_at: AtomicUsize,
    /// Until when nothing would be found: the last sweep of a full table found nothing.
    rest_until: Mutex<Option<Instant>>,
}

/// What a key stands for.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A lease that is still held.
    Held(LeaseView),
    /// Nothing yet: the call may go on under this claim.
    Claimed(Claim<'a>),
}

/// A key whose call is being answered. Dropped, the key is free again.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    table: &'a DashMap<Key, Remembered, RandomState>,
    key: Option<Key>,
}

impl Claim<'_> {
    /// Remembers what the call was granted.
    pub(super) fn remember(mut self, lease: LeaseId) {
        let key = self.key.take();
        if let Some(mut entry) = key.and_then(|key| self.table.get_mut(&key)) {
            entry.lease = Some(lease);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.table.remove(&key);
        }
    }
}

impl Keys {
    /// A table of at most `keys_max` keys.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            table: DashMap::with_hasher(RandomState::default()),
            keys_max,
            sweep_at: AtomicUsize::new(SWEEP_MIN.min(keys_max)),
            rest_until: Mutex::new(None),
        }
    }

    /// Looks a key up, or claims it for `request`.
    pub(super) async fn claim(
        &self,
        key: Key,
        request: &PickRequest,
        ledger: &Ledger,
    ) -> Result<Found<'_>, Error> {
        self.sweep(ledger).await;
        loop {
            let ended = match self.known(&key, request)? {
                None => {
                    return Ok(Found::Claimed(Claim {
                        table: &self.table,
                        key: Some(key),
                    }));
                }
                Some((lease, is_same)) => match ledger.lease(lease).await {
                    Some(held) if is_same => return Ok(Found::Held(held)),
                    Some(_) => return Err(Error::KeyReused),
                    None => lease,
                },
            };
            self.table
                .remove_if(&key, |_, remembered| remembered.lease == Some(ended));
        }
    }

    /// The lease of a known key, and whether it was made for the same request. Claims a new key.
    fn known(&self, key: &Key, request: &PickRequest) -> Result<Option<(LeaseId, bool)>, Error> {
        let is_full = self.table.len() >= self.keys_max;
        match self.table.entry(key.clone()) {
            Entry::Occupied(entry) => match entry.get() {
                remembered if remembered.request != *request && remembered.lease.is_none() => {
                    Err(Error::KeyReused)
                }
                Remembered { lease: None, .. } => Err(Error::KeyInUse),
                Remembered {
                    lease: Some(lease),
                    request: made_for,
                } => Ok(Some((*lease, made_for == request))),
            },
            Entry::Vacant(_) if is_full => Err(Error::KeysFull),
            Entry::Vacant(entry) => {
                entry.insert(Remembered {
                    request: request.clone(),
                    lease: None,
                });
                Ok(None)
            }
        }
    }

    /// Forgets the keys of ended leases whenever the table has doubled since it last did.
    async fn sweep(&self, ledger: &Ledger) {
        let before = self.table.len();
        if before < self.sweep_at.load(Ordering::Relaxed) || self.rests() {
            return;
        }
        // Read before the ledger is asked: a lease that is not held after it was remembered has
        // ended for good.
        let remembered: HashSet<_> = self
            .table
            .iter()
            .filter_map(|entry| entry.value().lease)
            .collect();
        let held: HashSet<_> = ledger.leases().await.iter().map(|lease| lease.id).collect();
        let has_ended = |lease| remembered.contains(&lease) && !held.contains(&lease);
        self.table
            .retain(|_, entry| !entry.lease.is_some_and(has_ended));
        let sweep_at = (2 * self.table.len()).max(SWEEP_MIN).min(self.keys_max);
        self.sweep_at.store(sweep_at, Ordering::Relaxed);
        let found_none = self.table.len() >= before;
        let rest_until = found_none.then(|| Instant::now() + SWEEP_REST);
        *self
            .rest_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = rest_until;
    }

    fn rests(&self) -> bool {
        let rest_until = self
            .rest_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rest_until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::{
        idempotency::Caller,
        ledger::tests::{any_account, ledger_of},
    };

    const KEYS: usize = 8;

    fn key(word: &str) -> Key {
        Key::new(Caller::default(), &Method::POST, "/pick", word)
    }

    struct Table {
        keys: Keys,
        ledger: Arc<Ledger>,
        request: PickRequest,
    }

    impl Table {
        fn new() -> Self {
            let (ledger, request) = (ledger_of(100), any_account());
            Self {
                keys: Keys::new(KEYS),
                ledger,
                request,
            }
        }

        /// Picks with a key, as a call does.
        async fn pick(&self, word: usize) -> Result<LeaseId, Error> {
            let key = key(&word.to_string());
            match self.keys.claim(key, &self.request, &self.ledger).await? {
                Found::Held(lease) => Ok(lease.id),
                Found::Claimed(claim) => {
                    let slot = self.ledger.pick(&self.request).await?;
                    let id = slot.lease().id;
                    slot.keep();
                    claim.remember(id);
                    Ok(id)
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_refuses_new_keys_and_forgets_none() {
        let table = Table::new();
        let mut leases = Vec::new();
        for word in 0..KEYS {
            leases.push(table.pick(word).await.unwrap());
        }
        assert_eq!(table.pick(KEYS).await, Err(Error::KeysFull));
        for (word, lease) in leases.iter().enumerate() {
            assert_eq!(table.pick(word).await.unwrap(), *lease);
        }
        assert!(table.ledger.release(leases[0]).await);
        assert_eq!(
            table.pick(KEYS).await,
            Err(Error::KeysFull),
            "it was looked at just now"
        );
        tokio::time::advance(SWEEP_REST).await;
        table.pick(KEYS).await.unwrap();
        assert_eq!(table.pick(KEYS + 1).await, Err(Error::KeysFull));
    }

    #[tokio::test]
    async fn a_table_that_was_full_serves_again_when_its_leases_have_ended() {
        let table = Table::new();
        for round in 0..10 {
            for word in 0..KEYS {
                let lease = table.pick(round * KEYS + word).await.unwrap();
                assert!(table.ledger.release(lease).await);
            }
        }
    }

    #[tokio::test]
    async fn a_call_that_came_to_nothing_frees_its_key() {
        let table = Table::new();
        let key = key("k");
        let claim = table
            .keys
            .claim(key.clone(), &table.request, &table.ledger)
            .await
            .unwrap();
        let second = table
            .keys
            .claim(key.clone(), &table.request, &table.ledger)
            .await;
        assert_eq!(second.unwrap_err(), Error::KeyInUse);
        drop(claim);
        assert!(
            table
                .keys
                .claim(key, &table.request, &table.ledger)
                .await
                .is_ok()
        );
    }
}
