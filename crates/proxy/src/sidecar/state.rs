//! The state that survives: opened before anything is answered, written from then on.

use std::{future, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{join, select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    book::{self, Loaded},
    config::{Config, State, SyncMode},
    journal::sqlite::{OpenError, Sqlite},
    server::{Listener, answer_while_starting},
};

/// The pause before a file that cannot be opened now is tried again.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// The state cannot be used, and waiting would not help.
#[derive(Debug, Error)]
#[error("the state cannot be used")]
pub struct StateError(#[source] OpenError);

/// Opens and loads the state, if any is kept. Calls are answered meanwhile, if that takes long.
///
/// # Errors
/// [`StateError`] if a person has to act.
pub(super) async fn open(
    config: &Config,
    listeners: (&Listener, Option<&Listener>),
) -> Result<Option<(Sqlite, Loaded)>, StateError> {
    let State::Disk { path, sync } = &config.state else {
        return Ok(None);
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
        join!(answer(api), monitoring);
    };
    let tell = |why: String| {
        *cause.lock() = why;
        takes_long.cancel();
    };
    let pool_id = config.pool_id();
    select! {
        opened = open_at(path, *sync, &pool_id, tell) => opened.map(Some),
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
                    Err(error) => error.to_string(),
                }
            }
            Err(error) if error.is_fatal() => return Err(StateError(error)),
            Err(error) => error.to_string(),
        };
        if told.as_ref() != Some(&problem) {
            tracing::error!(
                problem,
                "the state cannot be opened; trying again each second"
            );
            tell(format!("the state cannot be opened: {problem}"));
            told = Some(problem);
        }
        sleep(OPEN_PAUSE).await;
    }
}
