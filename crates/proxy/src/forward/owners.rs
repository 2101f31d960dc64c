//! Where a call goes that names what belongs to an account.
//!
//! An `email` of the client wins over everything. What a call names by its id, strictly, goes to the
//! owner or nowhere, and two owners are refused; of the files it names by their URLs, the owner of the
//! first known one is preferred. An id wins over a URL.

use std::sync::Arc;

use http::Response;

use super::{
    Forward,
    answer::{self, Carried},
    call::Call,
    is_healthy,
    mentions::{Kind, Mention},
    overheard::{Lesson, Overheard},
    whole::Whole,
};
use crate::{error::Error, jobs::Owner, upstream::Answer};

impl Forward {
    /// The account that the head of a call names, or that owns what it names.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if what it names belongs to two accounts.
    pub(super) async fn owner_in_head(&self, call: &Call) -> Result<Option<Arc<str>>, Error> {
        match call.query.email() {
            Some(given) => Ok(self.respelled(given).await),
            None => self.holdings.strict_owner(&call.mentions),
        }
    }

    /// Binds a call without an e-mail to the account that alone can serve what its body names, or else
    /// returns the one to prefer, if there is one.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if what it names belongs to two accounts, [`Error::OwnerUnknown`] if it
    /// names a task and not every account could be asked for it.
    pub(super) async fn place(&self, whole: &mut Whole) -> Result<Option<Arc<str>>, Error> {
        if whole.email().is_some() {
            return Ok(None);
        }
        let mentions = whole.mentions();
        let owner = match self.holdings.strict_owner(mentions)? {
            None => self.search_task(mentions).await?,
            owner => owner,
        };
        let Some(owner) = owner else {
            return Ok(self.holdings.preferred_owner(mentions));
        };
        whole.bind(owner);
        Ok(None)
    }

    /// Asks all accounts for the task that a call names. A task that nobody has is the upstream's to
    /// refuse.
    async fn search_task(&self, mentions: &[Mention]) -> Result<Option<Arc<str>>, Error> {
        let mut tasks = mentions.iter().filter(|it| it.kind == Kind::Task);
        let task_id = tasks.next().and_then(|it| it.text.parse().ok());
        let Some(task_id) = task_id else {
            return Ok(None);
        };
        match self.owner(&task_id).await {
            Owner::Found(owner) => Ok(Some(owner)),
            Owner::Nobody => Ok(None),
            Owner::Unknown => Err(Error::OwnerUnknown),
        }
    }

    /// The account `preferred`, if its list says that it is well, or else the first such one.
    pub(super) async fn healthy(&self, preferred: Option<Arc<str>>) -> Option<Arc<str>> {
        if let Some(preferred) = preferred
            && let Some(list) = self.list().await
            && let mut accounts = list.accounts.iter()
            && accounts.any(|account| account.email == preferred && is_healthy(account))
        {
            return Some(preferred);
        }
        self.first_healthy().await
    }

    /// Passes an answer on and learns from it what belongs to the account that gave it: `asked`, or
    /// the one that the client named in the query.
    pub(super) fn overhear(
        &self,
        call: &Call,
        answer: Response<Answer>,
        asked: Option<Arc<str>>,
    ) -> Carried {
        let Some(shape) = call.lesson.filter(|_| answer.status().is_success()) else {
            return answer::carried(answer);
        };
        let (head, body) = answer.into_parts();
        let lesson = Lesson {
            holdings: Arc::clone(&self.holdings),
            shape,
            owner: asked.or_else(|| call.query.email().map(Arc::from)),
            headers: head.headers.clone(),
        };
        answer::carried(Response::from_parts(head, Overheard::new(body, lesson)))
    }
}
