//! Owners: which account has a task, a work, an avatar, an element, a motion, a voice, a file.
//!
//! Rounds and answers teach it (`observe`), and accounts are asked for it (`search`); it is never guessed.
//! What they answer is remembered for a while (`asked`).
//! Each kind has a `table` of its own, so that a flood of one kind pushes out no other.

mod asked;
mod observe;
mod search;
mod stored;
mod table;
mod task_status;

use std::{array, borrow::Cow, pin::pin, sync::Arc};

use ring::digest::{SHA256, digest};
use tokio::sync::Notify;

pub use observe::{Observation, ObservedBody};
pub(crate) use search::emails;
pub use search::{
    FoundOwner, LATE_AFTER, LATE_OF_ACCOUNT_MAX, OwnerSearch, QUERIES_AT_ONCE, QUESTIONS_MAX,
    SEARCH_ACCOUNTS_MAX, SEARCH_TIME_MIN,
};
pub(crate) use stored::Stored as StoredOwner;
pub(crate) use task_status::task_status;

use crate::{
    error::Error,
    hex,
    kling::{
        references::{Reference, ReferenceKind},
        shapes::Shape,
    },
    pool::{RunningJob, TaskId},
};
use table::OwnerTable;

/// The most owners of one kind: 100 bytes each make 10 MB. With a job a minute on each of 50 accounts this
/// is more than a day; a forgotten owner can be asked for again.
pub const OWNERS_MAX: usize = 100_000;
/// The most URLs, by their hashes: 2 MB. A forgotten owner of a URL was only preferred.
const URLS_MAX: usize = 20_000;

/// The owners that are known.
#[derive(Debug)]
pub struct Owners {
    tables: [OwnerTable; ReferenceKind::ALL.len()],
    /// Notified when the owner of a task was learnt.
    task_learnt: Notify,
}

impl Default for Owners {
    fn default() -> Self {
        let max = |kind| match kind {
            ReferenceKind::Url => URLS_MAX,
            ReferenceKind::Work
            | ReferenceKind::Avatar
            | ReferenceKind::Element
            | ReferenceKind::Voice
            | ReferenceKind::Motion
            | ReferenceKind::Upload
            | ReferenceKind::Task => OWNERS_MAX,
        };
        Self {
            tables: array::from_fn(|idx| OwnerTable::with_max(max(ReferenceKind::ALL[idx]))),
            task_learnt: Notify::new(),
        }
    }
}

impl Owners {
    /// Learns from an answer of this shape. `owner` is the account that gave it, if that is known.
    pub fn learn_from(&self, shape: &'static Shape, answer: &[u8], owner: Option<&Arc<str>>) {
        let extracted = shape.extract(answer);
        self.learn_running(&extracted.jobs);
        let Some(owner) = owner else { return };
        for (kind, text) in extracted.references {
            self.learn(kind, &text, owner);
        }
    }

    /// Learns the owners of running jobs.
    pub fn learn_running(&self, jobs: &[RunningJob]) {
        for job in jobs {
            self.learn_task(&job.task_id, &job.email.as_str().into());
        }
    }

    /// Learns that `owner` has the task.
    pub fn learn_task(&self, task_id: &TaskId, owner: &Arc<str>) {
        self.learn(ReferenceKind::Task, task_id.as_str(), owner);
    }

    /// Learns that `owner` has the resource with this id or URL.
    pub fn learn(&self, kind: ReferenceKind, text: &str, owner: &Arc<str>) {
        let table = self.table(kind);
        if kind == ReferenceKind::Url
            && let Some(bare) = without_query(text)
        {
            table.learn(&id_of(kind, bare), owner);
        }
        table.learn(&id_of(kind, text), owner);
        if kind == ReferenceKind::Task {
            self.task_learnt.notify_waiters();
        }
    }

    /// The owner of a task, if it is known.
    pub fn of_task(&self, task_id: &TaskId) -> Option<Arc<str>> {
        self.table(ReferenceKind::Task).owner(task_id.as_str())
    }

    /// Waits until the owner of a task is known. Cancel-safe.
    pub async fn until_known(&self, task_id: &TaskId) -> Arc<str> {
        loop {
            let mut learnt = pin!(self.task_learnt.notified());
            // What is learnt from now on is not missed.
            learnt.as_mut().enable();
            if let Some(owner) = self.of_task(task_id) {
                return owner;
            }
            learnt.await;
        }
    }

    /// The one account that can serve a call with these references, if it is known: the owner of the ids.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if the ids belong to two accounts.
    pub(crate) fn strict_owner(&self, references: &[Reference]) -> Result<Option<Arc<str>>, Error> {
        let strict = references.iter().filter(|it| it.kind.is_strict());
        let mut known = strict.filter_map(|it| Some((it, self.owner(it)?)));
        let Some((first, owner)) = known.next() else {
            return Ok(None);
        };
        match known.find(|(_, other)| *other != owner) {
            None => Ok(Some(owner)),
            Some((second, other)) => Err(Error::bad_request(
                second.field,
                format!(
                    "{} belongs to {other}, and {} {} to {owner}; one call goes to one account",
                    second.text, first.field, first.text
                ),
            )),
        }
    }

    /// The account that can certainly use the files referred to: the owner of the first one that is known.
    pub fn preferred_owner(&self, references: &[Reference]) -> Option<Arc<str>> {
        let files = references.iter().filter(|it| !it.kind.is_strict());
        files.filter_map(|it| self.owner(it)).next()
    }

    fn owner(&self, reference: &Reference) -> Option<Arc<str>> {
        let table = self.table(reference.kind);
        let known = table.owner(&id_of(reference.kind, &reference.text));
        if known.is_some() || reference.kind != ReferenceKind::Url {
            return known;
        }
        // The query of a signed URL may differ each time.
        table.owner(&id_of(reference.kind, without_query(&reference.text)?))
    }

    fn table(&self, kind: ReferenceKind) -> &OwnerTable {
        &self.tables[kind as usize]
    }
}

/// What a table knows a resource by. A URL may be long, and its query may open the file to everybody: its hash stands
/// for it, also where it is stored.
fn id_of(kind: ReferenceKind, text: &str) -> Cow<'_, str> {
    if kind == ReferenceKind::Url {
        let hash = digest(&SHA256, text.as_bytes());
        Cow::Owned(hex::encode(&hash.as_ref()[..16]))
    } else {
        Cow::Borrowed(text)
    }
}

fn without_query(url: &str) -> Option<&str> {
    url.split_once('?').map(|(bare, _)| bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(owners: &Owners, kind: ReferenceKind, text: &str, owner: &str) {
        owners.learn(kind, text, &owner.into());
    }

    fn reference(field: &'static str, kind: ReferenceKind, text: &str) -> Reference {
        Reference::new(field, kind, text).unwrap()
    }

    fn strict(owners: &Owners, references: &[Reference]) -> Result<Option<String>, String> {
        let owner = owners.strict_owner(references);
        let owner = owner.map_err(|error| error.message())?;
        Ok(owner.map(|owner| owner.to_string()))
    }

    fn preferred(owners: &Owners, urls: &[&str]) -> Option<String> {
        let references = urls
            .iter()
            .map(|url| reference("image", ReferenceKind::Url, url));
        let owner = owners.preferred_owner(&references.collect::<Vec<_>>());
        owner.map(|owner| owner.to_string())
    }

    #[test]
    fn two_owners_of_ids_are_refused_and_both_are_named() {
        let owners = Owners::default();
        learn(&owners, ReferenceKind::Task, "7", "a@x");
        learn(&owners, ReferenceKind::Work, "8", "a@x");
        learn(&owners, ReferenceKind::Avatar, "123456789", "b@x");
        let task = reference("task_id", ReferenceKind::Task, "7");
        let work = reference("workId", ReferenceKind::Work, "8");
        let avatar = reference("avatarId", ReferenceKind::Avatar, "123456789");
        let unknown = reference("element_1", ReferenceKind::Element, "u_1");
        let both = [unknown.clone(), task.clone(), work.clone()];
        assert_eq!(strict(&owners, &both), Ok(Some("a@x".to_owned())));
        let expected = "avatarId: 123456789 belongs to b@x, and task_id 7 to a@x; one call goes to \
                        one account";
        assert_eq!(
            strict(&owners, &[task, work, avatar]),
            Err(expected.to_owned())
        );
        assert_eq!(strict(&owners, &[unknown]), Ok(None));
    }

    #[test]
    fn ids_of_different_kinds_are_different() {
        let owners = Owners::default();
        learn(&owners, ReferenceKind::Task, "123456789", "a@x");
        for kind in [
            ReferenceKind::Work,
            ReferenceKind::Avatar,
            ReferenceKind::Upload,
        ] {
            assert_eq!(
                strict(&owners, &[reference("f", kind, "123456789")]),
                Ok(None)
            );
        }
    }

    #[test]
    fn a_url_is_known_by_itself_and_without_its_query() {
        let owners = Owners::default();
        learn(
            &owners,
            ReferenceKind::Url,
            "https://cdn/a.png?sign=1",
            "a@x",
        );
        learn(
            &owners,
            ReferenceKind::Url,
            "https://cdn/a.png?sign=2",
            "b@x",
        );
        learn(&owners, ReferenceKind::Url, "https://cdn/c.png", "c@x");
        let owner = |url| preferred(&owners, &[url]);
        assert_eq!(owner("https://cdn/a.png?sign=1").as_deref(), Some("a@x"));
        assert_eq!(owner("https://cdn/a.png?sign=3").as_deref(), Some("b@x"));
        assert_eq!(owner("https://cdn/a.png").as_deref(), Some("b@x"));
        assert_eq!(owner("https://cdn/c.png?sign=1").as_deref(), Some("c@x"));
        assert_eq!(owner("https://cdn/b.png"), None);
        let first_known = [
            "https://cdn/b.png",
            "https://cdn/c.png",
            "https://cdn/a.png",
        ];
        assert_eq!(preferred(&owners, &first_known).as_deref(), Some("c@x"));
    }

    #[test]
    fn a_flood_of_urls_pushes_out_the_oldest_urls_alone() {
        let owners = Owners::default();
        learn(&owners, ReferenceKind::Task, "7", "a@x");
        learn(&owners, ReferenceKind::Element, "u_7", "a@x");
        for n in 0..2 * URLS_MAX {
            learn(
                &owners,
                ReferenceKind::Url,
                &format!("https://cdn/{n}"),
                "b@x",
            );
        }
        assert_eq!(preferred(&owners, &["https://cdn/0"]), None);
        let newest = format!("https://cdn/{}", 2 * URLS_MAX - 1);
        assert_eq!(preferred(&owners, &[&newest]).as_deref(), Some("b@x"));
        for kept in [
            reference("task_id", ReferenceKind::Task, "7"),
            reference("element_1", ReferenceKind::Element, "u_7"),
        ] {
            assert_eq!(strict(&owners, &[kept]), Ok(Some("a@x".to_owned())));
        }
    }
}
