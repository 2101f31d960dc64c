//! The state that survives: opened before anything is answered, written from then on.

use std::{
    future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    join, select,
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    book::{self, BookStatus, BookWatch, LoadError, Loaded, NotUnderstood, Writer},
    config::{Config, State, SyncMode},
    events::Events,
    journal::sqlite::{OpenError, Sqlite},
    keyed_hash::HashKey,
    ledger::Ledger,
    metrics::Metrics,
    owners::Owners,
    pool::{Limits, Pool},
    records::JobRecords,
    server::{Listener, answer_while_starting},
    service_manager::{Notice, tell},
};

/// The pause before a file that cannot be opened now is tried again.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// The state cannot be used, and waiting would not help.
#[derive(Debug, Error)]
#[error("the state cannot be used")]
pub struct StateError(#[source] Unusable);

/// Why a file cannot be used.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Open(OpenError),
    #[error("{} cannot be used: {why}", path.display())]
    NotUnderstood { path: PathBuf, why: NotUnderstood },
}

/// The state as it was kept, if it is.
pub(super) struct Kept(Option<(Sqlite, Loaded)>);

/// The parts whose state is kept.
pub(super) struct Restored {
    pub(super) ledger: Arc<Ledger>,
    pub(super) owners: Arc<Owners>,
    pub(super) book: BookWatch,
    pub(super) writer: Option<Writer<Sqlite>>,
}

impl Kept {
    /// What hashes are made with that must stay what they are.
    pub(super) fn hash_key(&self) -> HashKey {
        match &self.0 {
            Some((_, kept)) => kept.hash_key.clone(),
            None => HashKey::random(&mut rand::rng()),
        }
    }

    /// Goes on from there. `mark_key`: what marks are made with, if they are in use.
    pub(super) fn restore(
        self,
        limits: Limits,
        mark_key: Option<&HashKey>,
        records: &Arc<JobRecords>,
        metrics: &Arc<Metrics>,
        events: &Events,
    ) -> Restored {
        let owners = Arc::new(Owners::default());
        let Some((journal, kept)) = self.0 else {
            let (_, book) = watch::channel(BookStatus::memory());
            return Restored {
                ledger: Ledger::in_memory(limits, events.clone()),
                owners,
                book,
                writer: None,
            };
        };
        let lived = kept.clock.now();
        let pool = Pool::restored(limits, kept.saved, mark_key, lived);
        let woken = Arc::new(Notify::new());
        records.track(Arc::clone(&woken));
        records.restore(kept.job_starts, lived, |lease| pool.known_of(lease));
        owners.restore(&kept.owners);
        let ledger = Ledger::journaled(pool, kept.clock, events.clone());
        let (status, book) = watch::channel(BookStatus::new("disk", kept.sessions_count));
        let writer = Writer {
            journal,
            ledger: Arc::clone(&ledger),
            records: Arc::clone(records),
            owners: Arc::clone(&owners),
            woken,
            metrics: Arc::clone(metrics),
            first: kept.first,
            extras: kept.extras,
            status,
        };
        Restored {
            ledger,
            owners,
            book,
            writer: Some(writer),
        }
    }
}

/// Opens and loads the state, if any is kept. Calls are answered meanwhile, if that takes long.
///
/// # Errors
/// [`StateError`] if a person has to act.
pub(super) async fn open(
    config: &Config,
    listeners: (&Listener, Option<&Listener>),
) -> Result<Kept, StateError> {
    let State::Disk { path, sync } = &config.state else {
        return Ok(Kept(None));
    };
    let cause = Arc::new(Mutex::new(String::new()));
    let takes_long = CancellationToken::new();
    let answering = async {
        takes_long.cancelled().await;
        let (api, metrics) = listeners;
        let answer = |listener| answer_while_starting(listener, Arc::clone(&cause));
        let monitoring = async {
            match metrics {
                Some(listener) => answer(listener).await,
                None => future::pending().await,
            }
        };
        let status = format!("Not ready: {}", *cause.lock());
        join!(answer(api), monitoring, tell(Notice::Started(status)));
    };
    let on_wait = |why: String| {
        *cause.lock() = why;
        takes_long.cancel();
    };
    let pool_id = config.pool_id();
    select! {
        opened = open_at(path, *sync, &pool_id, on_wait) => Ok(Kept(Some(opened?))),
        () = answering => future::pending().await,
    }
}

/// Opens and loads a file. `tell` is called with the reason each time it has to wait.
async fn open_at(
    path: &Path,
    sync: SyncMode,
    pool_id: &str,
    tell: impl Fn(String),
) -> Result<(Sqlite, Loaded), StateError> {
    let mut told = None;
    loop {
        let on_wait = || {
            tracing::warn!(
                path = %path.display(),
                "another process has the state; waiting until it ends"
            );
            tell("another process has the state; it is waited for".to_owned());
        };
        let problem = match Sqlite::open(path, sync, pool_id, on_wait).await {
            Ok(opened) => {
                if let Some(aside) = &opened.moved_aside {
                    tracing::error!(
                        why = aside.why,
                        moved_to = %aside.to.display(),
                        "the state cannot be read, and a new one is begun: jobs whose submissions were under way, \
                         keys and drains are forgotten"
                    );
                }
                if opened.is_fresh {
                    tracing::info!(path = %path.display(), "a new state is begun");
                }
                let mut journal = opened.journal;
                match book::load(&mut journal).await {
                    Ok(loaded) => return Ok((journal, loaded)),
                    Err(LoadError::Unavailable(error)) => error.to_string(),
                    Err(LoadError::NotUnderstood(why)) => {
                        // As it was: nothing of it was written over.
                        journal.close().await;
                        let path = path.to_owned();
                        return Err(StateError(Unusable::NotUnderstood { path, why }));
                    }
                }
            }
            Err(error) if error.is_fatal() => return Err(StateError(Unusable::Open(error))),
            Err(error) => error.to_string(),
        };
        if told.as_ref() != Some(&problem) {
            tracing::error!(
                problem,
                "the state cannot be opened; trying again each second"
            );
            tell(
                "the state cannot be opened at present; the log of the sidecar says why".to_owned(),
            );
            told = Some(problem);
        }
        sleep(OPEN_PAUSE).await;
    }
}
