//! The operations of the upstream, as data.
//!
//! A new operation is a new row of `table`; a new job start needs nothing else. Where the vendor's
//! pages leave something open, the simulator is lenient: only fields that a page calls required are
//! required.

mod table;

use std::fmt;

pub(crate) use table::{TEXT_TO_VIDEO, find};

use crate::media::Media;

/// One operation of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    /// Path below the base path, without a trailing slash; a last `{…}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) selector: Selector,
    pub(crate) body: Body,
    /// Body fields that must be present and not empty.
    pub(crate) required: &'static [&'static str],
    pub(crate) action: Action,
}

/// Where an operation finds the account that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// It concerns all accounts, or its path names the account.
    Unneeded,
    /// `email` of the query; it may be left out if only one account is configured.
    Query,
    /// `email` of the query, even if only one account is configured.
    QueryAlways,
    /// `email` of the body; it may be left out if only one account is configured.
    Body,
}

/// What an operation does with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is read and ignored: some clients attach one to a `GET`.
    Ignored,
    /// JSON or multipart, read whole.
    Fields,
    /// A file, counted as it streams by.
    Upload,
}

/// What a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Video,
    Image,
}

impl Content {
    /// Its `contentType`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Image => "image",
        }
    }

    /// The type of a result.
    pub(crate) fn media(self) -> Media {
        match self {
            Self::Video => Media::Video,
            Self::Image => Media::Image,
        }
    }
}

/// The kind of job that an operation starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobKind {
    /// What Kling calls this kind of task.
    pub(crate) task_type: &'static str,
    pub(crate) content: Content,
    /// Whether the answer has `status_name` and `status_final`: the sample of one operation has
    /// neither.
    pub(crate) names_status: bool,
}

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Answers with a task, which holds a slot until it is over.
    StartJob(JobKind),
    ListAccounts,
    SaveAccount,
    ShowAccount,
    RemoveAccount,
    Scheduler,
    SchedulerAvailable,
    StopTracking,
    ListTasks,
    ShowTask,
    DeleteTask,
    ListAssets,
    Download,
    Upload,
    ListUploads,
    DeleteUploads,
    CreateAvatar,
    ListAvatars,
    DeleteAvatar,
    CreateElement,
    ListElements,
    ShowElement,
    DeleteElement,
    Speak,
    /// Answers the same JSON to every account.
    Canned(&'static str),
    Mcp,
}

impl Operation {
    const fn get(path: &'static str, selector: Selector, action: Action) -> Self {
        Self {
            method: "GET",
            path,
            selector,
            body: Body::Ignored,
            required: &[],
            action,
        }
    }

    const fn delete(path: &'static str, selector: Selector, action: Action) -> Self {
        Self {
            method: "DELETE",
            ..Self::get(path, selector, action)
        }
    }

    const fn post(path: &'static str, action: Action) -> Self {
        Self {
            method: "POST",
            body: Body::Fields,
            ..Self::get(path, Selector::Body, action)
        }
    }

    const fn job(path: &'static str, task_type: &'static str, content: Content) -> Self {
        let kind = JobKind {
            task_type,
            content,
            names_status: true,
        };
        Self::post(path, Action::StartJob(kind))
    }

    const fn requires(self, required: &'static [&'static str]) -> Self {
        Self { required, ..self }
    }

    const fn selected_by(self, selector: Selector) -> Self {
        Self { selector, ..self }
    }

    const fn reading(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// The job it starts, if it starts one.
    pub(crate) fn job_kind(&self) -> Option<&JobKind> {
        if let Action::StartJob(kind) = &self.action {
            Some(kind)
        } else {
            None
        }
    }

    /// The segment in place of the `{…}` of its path, or `""` if its path has none; `None` if
    /// `path` does not match.
    fn matches<'path>(&self, path: &'path str) -> Option<&'path str> {
        let Some((literal, _)) = self.path.split_once('{') else {
            return (self.path == path).then_some("");
        };
        let segment = path.strip_prefix(literal)?;
        (!segment.is_empty() && !segment.contains('/')).then_some(segment)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
