//! Which account owns what: what answers taught, and what it means for a call.
//!
//! An id goes to its owner or nowhere; a URL only prefers its owner. Each kind has a table of its own,
//! so that a flood of one pushes nothing else out; that of tasks is shared with the rounds, which
//! teach it too.

use std::{array, sync::Arc};

use super::{
    lessons::Shape,
    mentions::{Kind, Mention},
};
use crate::{
    error::Error,
    jobs::{OWNERS_MAX, Owners},
    pool::TaskId,
};

/// The most URLs kept, each of up to [`URL_BYTES_MAX`](super::mentions::URL_BYTES_MAX): 40 MB at the
/// worst, and a sixth of it as URLs are. Who is forgotten was only preferred.
const URLS_MAX: usize = 20_000;

/// Owners of what calls can name.
#[derive(Debug)]
pub(super) struct Holdings {
    tasks: Arc<Owners<TaskId>>,
    /// By kind, without [`Kind::Task`], which is the last one.
    tables: [Owners<Box<str>>; Kind::Task as usize],
}

impl Holdings {
    pub(super) fn new(tasks: Arc<Owners<TaskId>>) -> Self {
        let max = |kind| {
            if kind == Kind::Url as usize {
                URLS_MAX
            } else {
                OWNERS_MAX
            }
        };
        Self {
            tasks,
            tables: array::from_fn(|kind| Owners::with_max(max(kind))),
        }
    }

    /// Learns from an answer of this shape. `owner` is the account that gave it, if that is known.
    pub(super) fn learn(&self, shape: &'static Shape, answer: &[u8], owner: Option<&Arc<str>>) {
        let taught = shape.read(answer);
        for job in taught.jobs {
            self.tasks.learn(&job.task_id, job.email.into());
        }
        let Some(owner) = owner else { return };
        for (kind, text) in taught.names {
            self.learn_name(kind, text, owner);
        }
    }

    /// Learns that `owner` has what `text` names.
    pub(super) fn learn_name(&self, kind: Kind, text: Box<str>, owner: &Arc<str>) {
        match (kind, self.tables.get(kind as usize)) {
            (Kind::Url, Some(urls)) => {
                if let Some(bare) = without_query(&text) {
                    urls.learn(&bare, Arc::clone(owner));
                }
                urls.learn(&text, Arc::clone(owner));
            }
            (_, Some(ids)) => ids.learn(&text, Arc::clone(owner)),
            (_, None) => {
                if let Ok(task_id) = text.parse::<TaskId>() {
                    self.tasks.learn(&task_id, Arc::clone(owner));
                }
            }
        }
    }

    /// The account that alone can serve what is mentioned, if that is known.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if there are two of them.
    pub(super) fn strict_owner(&self, mentions: &[Mention]) -> Result<Option<Arc<str>>, Error> {
        let strict = mentions.iter().filter(|it| it.kind.is_strict());
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

    /// The account that can certainly use the files mentioned: the owner of the first that is known.
    pub(super) fn preferred_owner(&self, mentions: &[Mention]) -> Option<Arc<str>> {
        let files = mentions.iter().filter(|it| !it.kind.is_strict());
        files.filter_map(|it| self.owner(it)).next()
    }

    fn owner(&self, mention: &Mention) -> Option<Arc<str>> {
        let Mention { kind, text, .. } = mention;
        match (kind, self.tables.get(*kind as usize)) {
            // The query of a signed URL may differ each time.
            (Kind::Url, Some(urls)) => urls
                .owner(text)
                .or_else(|| urls.owner(&without_query(text)?)),
            (_, Some(ids)) => ids.owner(text),
            (_, None) => self.tasks.owner(&text.parse().ok()?),
        }
    }
}

fn without_query(url: &str) -> Option<Box<str>> {
    url.split_once('?').map(|(bare, _)| bare.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings() -> Holdings {
        Holdings::new(Arc::new(Owners::with_max(OWNERS_MAX)))
    }

    fn learn(holdings: &Holdings, kind: Kind, text: &str, owner: &str) {
        holdings.learn_name(kind, text.into(), &owner.into());
    }

    fn mention(field: &'static str, kind: Kind, text: &str) -> Mention {
        Mention::new(field, kind, text).unwrap()
    }

    fn strict(holdings: &Holdings, mentions: &[Mention]) -> Result<Option<String>, String> {
        let owner = holdings.strict_owner(mentions);
        let owner = owner.map_err(|error| error.message())?;
        Ok(owner.map(|owner| owner.to_string()))
    }

    fn preferred(holdings: &Holdings, urls: &[&str]) -> Option<String> {
        let mentions = urls.iter().map(|url| mention("image", Kind::Url, url));
        let owner = holdings.preferred_owner(&mentions.collect::<Vec<_>>());
        owner.map(|owner| owner.to_string())
    }

    #[test]
    fn two_owners_of_ids_are_refused_and_both_are_named() {
        let holdings = holdings();
        learn(&holdings, Kind::Task, "7", "a@x");
        learn(&holdings, Kind::Work, "8", "a@x");
        learn(&holdings, Kind::Avatar, "123456789", "b@x");
        let task = mention("task_id", Kind::Task, "7");
        let work = mention("workId", Kind::Work, "8");
        let avatar = mention("avatarId", Kind::Avatar, "123456789");
        let unknown = mention("element_1", Kind::Element, "u_1");
        let both = [unknown.clone(), task.clone(), work.clone()];
        assert_eq!(strict(&holdings, &both), Ok(Some("a@x".to_owned())));
        let expected = "avatarId: 123456789 belongs to b@x, and task_id 7 to a@x; one call goes to \
                        one account";
        assert_eq!(
            strict(&holdings, &[task, work, avatar]),
            Err(expected.to_owned())
        );
        assert_eq!(strict(&holdings, &[unknown]), Ok(None));
    }

    #[test]
    fn ids_of_different_kinds_are_different() {
        let holdings = holdings();
        learn(&holdings, Kind::Task, "123456789", "a@x");
        for kind in [Kind::Work, Kind::Avatar, Kind::Upload] {
            assert_eq!(
                strict(&holdings, &[mention("f", kind, "123456789")]),
                Ok(None)
            );
        }
    }

    #[test]
    fn a_url_is_known_by_itself_and_without_its_query() {
        let holdings = holdings();
        learn(&holdings, Kind::Url, "https://cdn/a.png?sign=1", "a@x");
        learn(&holdings, Kind::Url, "https://cdn/a.png?sign=2", "b@x");
        learn(&holdings, Kind::Url, "https://cdn/c.png", "c@x");
        let owner = |url| preferred(&holdings, &[url]);
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
        assert_eq!(preferred(&holdings, &first_known).as_deref(), Some("c@x"));
    }

    #[test]
    fn a_flood_of_urls_pushes_out_the_oldest_urls_alone() {
        let holdings = holdings();
        learn(&holdings, Kind::Task, "7", "a@x");
        learn(&holdings, Kind::Element, "u_7", "a@x");
        for n in 0..2 * URLS_MAX {
            learn(&holdings, Kind::Url, &format!("https://cdn/{n}"), "b@x");
        }
        assert_eq!(preferred(&holdings, &["https://cdn/0"]), None);
        let newest = format!("https://cdn/{}", 2 * URLS_MAX - 1);
        assert_eq!(preferred(&holdings, &[&newest]).as_deref(), Some("b@x"));
        for kept in [
            mention("task_id", Kind::Task, "7"),
            mention("element_1", Kind::Element, "u_7"),
        ] {
            assert_eq!(strict(&holdings, &[kept]), Ok(Some("a@x".to_owned())));
        }
    }
}
