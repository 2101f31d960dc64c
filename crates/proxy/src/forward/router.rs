//! Which account a call goes to.
//!
//! An `email` of the client wins over everything, unless it is ignored (`forward.client_email`). A call
//! that refers to a resource by its id, strictly, goes to the owner or nowhere, and two owners are refused;
//! of the files that it refers to by URL, the owner of the first known one is preferred. An id wins over a
//! URL. Any other call goes to a healthy account.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Listing, Snapshot};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{buffered::BufferedRequest, call::Call};
use crate::{
    error::Error,
    kling::references::{Reference, ReferenceKind},
    ledger::{AccountNow, HealthyAccount, Ledger},
    metrics::Metrics,
    owners::{FoundOwner, OwnerSearch, Owners},
    pool::{Name, Refusal, TaskId},
};

/// How long a call waits for the first account list at least. A client that polls for a paid job gives up on
/// any error, also in the first moments after a restart.
const LIST_WAIT_MIN: Duration = Duration::from_secs(5);
/// The most accounts outside the list that are logged.
const IGNORED_MAX: usize = 100;

/// Finds the account of a call. E-mails are returned in the list's spelling.
#[derive(Debug)]
pub(super) struct Router {
    ledger: Arc<Ledger>,
    owners: Arc<Owners>,
    search: OwnerSearch,
    listing: watch::Receiver<Listing>,
    metrics: Arc<Metrics>,
    /// The accounts outside the list that clients named.
    ignored: Mutex<BTreeSet<Name>>,
}

impl Router {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        owners: Arc<Owners>,
        search: OwnerSearch,
        listing: watch::Receiver<Listing>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            ledger,
            owners,
            search,
            listing,
            metrics,
            ignored: Mutex::default(),
        }
    }

    /// The account for a call that any account can answer: the one that its head names, the owner of what
    /// its head refers to, or a healthy one. `None`: the call goes as it came.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if its references belong to two accounts.
    pub(super) async fn any_account(&self, call: &Call) -> Result<Option<Arc<str>>, Error> {
        match self.owner_in_head(call).await? {
            None if call.named().is_none() => Ok(self.healthy(call.query.email()).await),
            owner => Ok(owner),
        }
    }

    /// The account that the head of a call names, or the owner of what it refers to, if it is known.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if its references belong to two accounts.
    pub(super) async fn owner_in_head(&self, call: &Call) -> Result<Option<Arc<str>>, Error> {
        match call.named() {
            Some(given) => Ok(self.respelled(given).await),
            None => self.owners.strict_owner(&call.references),
        }
    }

    /// Binds a request without an e-mail to the account that alone can serve what its body refers to. If
    /// there is none, returns the account to prefer, if there is one. A task of an unknown owner is searched
    /// until `deadline`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if its references belong to two accounts. If it refers to a task that cannot be
    /// searched, [`Error::OwnerUnknown`], or [`Refusal::Learning`] where there is no list yet.
    pub(super) async fn bind_to_owner(
        &self,
        request: &mut BufferedRequest,
        deadline: Instant,
    ) -> Result<Option<Arc<str>>, Error> {
        if request.email().is_some() {
            return Ok(None);
        }
        let references = request.references();
        let owner = match self.owners.strict_owner(references)? {
            None => {
                self.search_first_task(references, request.given(), deadline)
                    .await?
            }
            owner => owner,
        };
        let Some(owner) = owner else {
            return Ok(self.owners.preferred_owner(references));
        };
        request.bind(owner);
        Ok(None)
    }

    /// Asks all accounts for the first task among the references, beginning with `first`. If no account has
    /// it, the upstream may refuse the call.
    async fn search_first_task(
        &self,
        references: &[Reference],
        first: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Arc<str>>, Error> {
        let mut tasks = references
            .iter()
            .filter(|it| it.kind == ReferenceKind::Task);
        let Some(task_id) = tasks.next().and_then(|it| it.text.parse().ok()) else {
            return Ok(None);
        };
        match self.task_owner(&task_id, first, deadline).await {
            FoundOwner::Account(owner) => Ok(Some(owner)),
            FoundOwner::Nobody => Ok(None),
            // A job start that comes too early is told to come back.
            FoundOwner::Unknown if self.newest().is_none() => Err(Refusal::Learning.into()),
            FoundOwner::Unknown => Err(Error::OwnerUnknown),
        }
    }

    /// The owner of a task, as remembered or as the accounts say. The account `first` is asked first. Waits
    /// until `deadline` for the first list and for accounts that cannot be asked.
    pub(super) async fn task_owner(
        &self,
        task_id: &TaskId,
        first: Option<&str>,
        deadline: Instant,
    ) -> FoundOwner {
        if let Some(owner) = self.owners.of_task(task_id) {
            return FoundOwner::Account(owner);
        }
        let Some(list) = self.list(deadline).await else {
            return FoundOwner::Unknown;
        };
        match &*list.accounts {
            [only] => FoundOwner::Account(Arc::clone(&only.email)),
            _ => {
                // Its future is large, and most owners are known.
                let searching = Box::pin(self.search.find_task(task_id, first, deadline));
                let found = searching.await;
                self.metrics.count_search(&found);
                found
            }
        }
    }

    /// The list's spelling of an e-mail, if the client spelled it otherwise: the upstream would not find
    /// the account on which it started the job. `None` for an account that is not in the list.
    pub(super) async fn respelled(&self, given: &str) -> Option<Arc<str>> {
        let email = Name::new(given);
        let account = self.ledger.call(AccountNow { email }).await.ok()?.ok()?;
        Some(account.view.email).filter(|email| **email != *given)
    }

    /// The first of the `preferred` accounts that is healthy, or else the first healthy account of the list.
    /// If there is none, the first account: its answer says more than that an e-mail is missing.
    pub(super) async fn healthy<'a>(
        &self,
        preferred: impl IntoIterator<Item = &'a str>,
    ) -> Option<Arc<str>> {
        let list = self.list(Instant::now()).await?;
        let preferred = preferred.into_iter().map(Name::new).collect();
        let healthy = self.ledger.call(HealthyAccount { preferred }).await;
        let healthy = healthy.ok().flatten();
        healthy.or_else(|| Some(Arc::clone(&list.accounts.first()?.email)))
    }

    /// Logs once that a client names an account outside the list, since its e-mail is ignored.
    pub(super) async fn note_ignored(&self, given: &str) {
        // Before there is a list, no account is known.
        if self.newest().is_none() {
            return;
        }
        let name = Name::new(given);
        let email = name.clone();
        if !matches!(self.ledger.call(AccountNow { email }).await, Ok(Err(_))) {
            return;
        }
        let mut ignored = self.ignored.lock();
        if ignored.len() < IGNORED_MAX && ignored.insert(name) {
            tracing::warn!(
                account = %Account::new(given, 0).alias,
                "a client names an account that is not in the list; its e-mail is ignored, as \
                 forward.client_email or x-kling-email says"
            );
        }
    }

    /// The newest account list. Waits for the first one until `deadline`, and for [`LIST_WAIT_MIN`] at least.
    pub(super) async fn list(&self, deadline: Instant) -> Option<Arc<Snapshot>> {
        let mut listing = self.listing.clone();
        let first = listing.wait_for(|listing| listing.snapshot.is_some());
        let end = deadline.max(Instant::now() + LIST_WAIT_MIN);
        let listing = timeout_at(end, first).await.ok()?.ok()?;
        listing.snapshot.clone()
    }

    fn newest(&self) -> Option<Arc<Snapshot>> {
        self.listing.borrow().snapshot.clone()
    }
}
