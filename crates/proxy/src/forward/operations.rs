//! The operations of the upstream that we know, as data: what a call does to slots, and where its
//! `email` goes. Source: the vendor's pages as gathered in July 2026. What is not in the table is
//! forwarded as it came.

use http::Method;

/// What a call means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Starts a job: takes a slot until the job is over. `email` goes into the body.
    JobStart,
    /// Reads or deletes the job that its path names. `email` of the job's owner into the query.
    Task,
    /// Makes the upstream stop tracking the job that its path names, which frees its slot.
    Untrack,
    /// Reads what any account can tell. `email` of the first healthy account into the query.
    Read,
    /// Reads works that its query names. `email` of their owner into the query.
    Download,
    /// Uploads a raw body. `email` into the query: of an account with a free slot, drawn as for a job,
    /// or else of the first healthy account.
    Upload,
    /// Creates something that takes no slot. `email` of the first healthy account into the body.
    Create,
    /// Forwarded as it came.
    Other,
}

impl Class {
    /// Every class, in the order of the metric's series.
    pub const ALL: [Self; 8] = [
        Self::JobStart,
        Self::Task,
        Self::Untrack,
        Self::Read,
        Self::Download,
        Self::Upload,
        Self::Create,
        Self::Other,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobStart => "job-start",
            Self::Task => "task",
            Self::Untrack => "untrack",
            Self::Read => "read",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Create => "create",
            Self::Other => "other",
        }
    }
}

/// One row: a method, a path below the base URL in which `*` stands for one segment, a class.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    method: &'static str,
    path: &'static str,
    class: Class,
}

const fn row(method: &'static str, path: &'static str, class: Class) -> Operation {
    Operation {
        method,
        path,
        class,
    }
}

/// The table. The first row that fits counts, so literal segments stand before `*`.
const OPERATIONS: &[Operation] = &[
    row("GET", "/tasks", Class::Read),
    row("GET", "/tasks/*", Class::Task),
    row("DELETE", "/tasks/*", Class::Task),
    row("DELETE", "/scheduler/*", Class::Untrack),
    row("GET", "/tts/voices", Class::Read),
    row("POST", "/tts/create", Class::Create),
    row("GET", "/avatars", Class::Read),
    row("POST", "/avatars", Class::Create),
    row("POST", "/avatars/video", Class::JobStart),
    row("GET", "/elements", Class::Read),
    row("POST", "/elements", Class::Create),
    row("GET", "/elements/tags", Class::Read),
    row("GET", "/elements/voices", Class::Read),
    row("GET", "/elements/*", Class::Read),
    row("GET", "/assets", Class::Read),
    row("GET", "/assets/download", Class::Download),
    row("POST", "/assets", Class::Upload),
    row("GET", "/assets/uploaded", Class::Read),
    row("GET", "/videos/effects", Class::Read),
    row("POST", "/videos/text2video", Class::JobStart),
    row("POST", "/videos/image2video-frames", Class::JobStart),
    row("POST", "/videos/image2video-elements", Class::JobStart),
    row("POST", "/videos/image2video-effects", Class::JobStart),
    row("POST", "/videos/extend", Class::JobStart),
    row("POST", "/videos/lipsync", Class::JobStart),
    row("GET", "/videos/motions", Class::Read),
    row("POST", "/videos/motion-create", Class::JobStart),
    row("POST", "/videos/motion-upload", Class::JobStart),
    row("POST", "/videos/add-sound", Class::JobStart),
    row("POST", "/videos/omni", Class::JobStart),
    row("POST", "/images/virtual-try-on", Class::JobStart),
    row("POST", "/images/kolors", Class::JobStart),
    row("POST", "/images/kolors-elements", Class::JobStart),
    row("POST", "/images/recognize-faces", Class::Create),
    row("POST", "/images/upscale", Class::JobStart),
    row("POST", "/images/omni", Class::JobStart),
];

/// What a call to `path`, below the base URL, means. `extra_jobs` are paths of further job starts.
///
/// One trailing slash makes no difference: the upstream documents some paths with and some
/// without, and clients use both. `HEAD` is a `GET` whose answer has no body.
pub fn classify(method: &Method, path: &str, extra_jobs: &[String]) -> Class {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    if method == Method::POST
        && extra_jobs
            .iter()
            .any(|job| job.trim_end_matches('/') == path)
    {
        return Class::JobStart;
    }
    OPERATIONS
        .iter()
        .find(|row| row.method == method.as_str() && fits(row.path, path))
        .map_or(Class::Other, |row| row.class)
}

fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(method: Method, path: &str) -> Class {
        classify(&method, path, &["/videos/new-thing".to_owned()])
    }

    #[test]
    fn knows_what_starts_a_job() {
        let jobs = OPERATIONS
            .iter()
            .filter(|row| row.class == Class::JobStart)
            .count();
        assert_eq!(jobs, 16, "the rows with a slot in the vendor's list");
        assert_eq!(class(Method::POST, "/videos/text2video"), Class::JobStart);
        assert_eq!(class(Method::POST, "/videos/text2video/"), Class::JobStart);
        assert_eq!(class(Method::POST, "/videos/new-thing"), Class::JobStart);
        assert_eq!(class(Method::GET, "/videos/new-thing"), Class::Other);
        assert_eq!(class(Method::GET, "/videos/text2video"), Class::Other);
        assert_eq!(class(Method::POST, "/tts/create"), Class::Create);
        assert_eq!(class(Method::POST, "/assets/"), Class::Upload);
    }

    #[test]
    fn literal_segments_win_over_ids_and_no_delete_is_guessed() {
        assert_eq!(class(Method::GET, "/elements/tags"), Class::Read);
        assert_eq!(class(Method::GET, "/tasks/12"), Class::Task);
        assert_eq!(class(Method::GET, "/tasks/"), Class::Read);
        assert_eq!(class(Method::GET, "/tasks/1/2"), Class::Other);
        assert_eq!(class(Method::DELETE, "/scheduler/12"), Class::Untrack);
        for path in [
            "/avatars/1",
            "/elements/u_1",
            "/assets/uploaded",
            "/accounts/a@x",
        ] {
            assert_eq!(class(Method::DELETE, path), Class::Other, "{path}");
        }
        for path in [
            "/accounts",
            "/scheduler",
            "/scheduler/available",
            "/mcp",
            "/unheard/of",
            "",
        ] {
            assert_eq!(class(Method::GET, path), Class::Other, "{path}");
        }
    }
}
