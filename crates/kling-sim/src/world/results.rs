//! Results as files: the URLs by which answers name them, and what lies at each.
//!
//! As on the upstream's content network, a URL works for everyone who has it, whatever the account.

use std::fmt;

use super::{
    World,
    job::{Job, Phase},
    shelf::ItemKind,
};
use crate::{media::Media, refusal::Refusal, task_id::TaskId};

/// The path below which results lie.
pub(crate) const RESULTS_PATH: &str = "/results/";

/// In front of the names of files without a watermark, which `GET /assets/download` tells.
const CLEAN: &str = "clean/";

/// Where clients reach the simulator: `http://…`, without a trailing slash.
#[derive(Clone, Debug)]
pub(crate) struct PublicUrl(pub(crate) String);

impl PublicUrl {
    /// The URL of what came out of a work, or of a speech.
    pub(super) fn output(&self, id: impl fmt::Display, media: Media) -> String {
        self.result(&output(id, media))
    }

    /// The URL of the picture that stands for a work.
    pub(super) fn cover(&self, id: i64) -> String {
        self.result(&cover(id))
    }

    /// The URL of works without a watermark: their ids with commas between them, as in the request.
    pub(super) fn clean(&self, ids: &str, jobs: &[&Job]) -> String {
        let name = output(ids, media_of(jobs));
        self.result(&format!("{CLEAN}{name}"))
    }

    fn result(&self, name: &str) -> String {
        format!("{}{RESULTS_PATH}{name}", self.0)
    }
}

impl World {
    /// What lies at a name below [`RESULTS_PATH`].
    ///
    /// # Errors
    /// [`Refusal::NotFound`] unless an answer could name it now: the results of a job appear when
    /// it succeeds, and go when they are deleted.
    pub(crate) fn result(&self, name: &str) -> Result<Media, Refusal> {
        self.find_result(name).ok_or_else(|| Refusal::NotFound {
            what: "result",
            id: name.to_owned(),
        })
    }

    fn find_result(&self, name: &str) -> Option<Media> {
        let clean = name.strip_prefix(CLEAN);
        let plain = clean.unwrap_or(name);
        // An id may begin with a minus sign.
        let (ids, _) = plain.rsplit_once('-')?;
        if clean.is_none() && plain == output(ids, Media::Audio) {
            let is_speech = self.shelf.has(ItemKind::Speech, ids);
            return is_speech.then_some(Media::Audio);
        }
        let jobs: Option<Vec<&Job>> = ids.split(',').map(|id| self.job_of_work(id)).collect();
        let jobs = jobs?;
        match clean {
            None if jobs.len() > 1 => None,
            None if plain == cover(ids) => Some(Media::Image),
            None | Some(_) => {
                let media = media_of(&jobs);
                (plain == output(ids, media)).then_some(media)
            }
        }
    }

    /// The job that made the work with this id, on any account, if the job succeeded.
    pub(super) fn job_of_work(&self, id: &str) -> Option<&Job> {
        let number: i64 = id.parse().ok()?;
        let job = self.jobs.last_until(TaskId::from(number))?;
        let is_done = job.phase(self.now) == Phase::Succeed;
        (is_done && job.work_ids().contains(&number)).then_some(job)
    }
}

/// What the works of these jobs are in one file.
fn media_of(jobs: &[&Job]) -> Media {
    match jobs {
        [job] => job.kind.content.media(),
        _ => Media::Archive,
    }
}

/// The name of an output: clients look for `-output.mp4`.
fn output(id: impl fmt::Display, media: Media) -> String {
    format!("{id}-output.{}", media.extension())
}

fn cover(id: impl fmt::Display) -> String {
    format!("{id}-cover.{}", Media::Image.extension())
}
