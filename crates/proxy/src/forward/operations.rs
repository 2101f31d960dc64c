//! The operations of the upstream that we know, as data: what a call does to slots, where its `email`
//! goes, what its head names, and what its answer teaches about owners. Source: the vendor's pages as
//! gathered in July 2026. What is not in the table is forwarded as it came.

use http::Method;

use super::{
    lessons::{self, Shape},
    mentions::Kind,
};

/// What a call means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Starts a job: takes a slot until the job is over. `email` goes into the body.
    JobStart,
    /// Reads or deletes the job that its path names. `email` of the job's owner into the query.
    Task,
    /// Makes the upstream stop tracking the job that its path names, which frees its slot.
    Untrack,
    /// Reads what any account can tell. `email` into the query: of the owner of what its head names,
    /// if that is known, or else of the first healthy account.
    Read,
    /// Reads works that its query names. `email` of their owner into the query.
    Download,
    /// Uploads a raw body. `email` of the first healthy account into the query.
    Upload,
    /// Creates something that takes no slot. `email` into the body: of the owner of what it names, if
    /// that is known, or else of the first healthy account.
    Create,
    /// Forwarded as it came, but for the `email` of the owner of what its head names, if that is
    /// known: deleting is never guessed.
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
    /// What its head names.
    pub names: Names,
    teaches: Option<Lesson>,
}

/// Where the head of a call names what belongs to one account.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// Nowhere.
    Nothing,
    /// With the last segment of its path.
    Path(Kind),
    /// With the comma list of a field of its query.
    List(&'static str, Kind),
}

/// What an answer teaches.
#[derive(Clone, Copy, Debug)]
struct Lesson {
    shape: &'static Shape,
    /// It does only if the query has this field with this value.
    asked_with: Option<(&'static str, &'static str)>,
}

impl Operation {
    const fn naming(self, names: Names) -> Self {
        Self { names, ..self }
    }

    const fn teaching(self, shape: &'static Shape) -> Self {
        let teaches = Some(Lesson {
            shape,
            asked_with: None,
        });
        Self { teaches, ..self }
    }

    const fn teaching_with(
        self,
        field: &'static str,
        value: &'static str,
        shape: &'static Shape,
    ) -> Self {
        let teaches = Some(Lesson {
            shape,
            asked_with: Some((field, value)),
        });
        Self { teaches, ..self }
    }

    /// The shape of the answer, if the answer teaches something. `has` says whether the query has a
    /// field with a value.
    pub fn lesson(&self, has: impl FnOnce(&str, &str) -> bool) -> Option<&'static Shape> {
        let lesson = self.teaches?;
        let is_taught = lesson
            .asked_with
            .is_none_or(|(field, value)| has(field, value));
        is_taught.then_some(lesson.shape)
    }
}

const fn row(method: &'static str, path: &'static str, class: Class) -> Operation {
    Operation {
        method,
        path,
        class,
        names: Names::Nothing,
        teaches: None,
    }
}

/// The table. The first row that fits counts, so literal segments stand before `*`.
const OPERATIONS: &[Operation] = &[
    row("GET", "/tasks", Class::Read).teaching(&lessons::HISTORY),
    row("GET", "/tasks/*", Class::Task).teaching(&lessons::TASK),
    row("DELETE", "/tasks/*", Class::Task),
    row("GET", "/scheduler", Class::Other).teaching(&lessons::JOBS),
    row("GET", "/scheduler/available", Class::Other).teaching(&lessons::EXECUTING),
    row("DELETE", "/scheduler/*", Class::Untrack),
    row("GET", "/tts/voices", Class::Read).teaching(&lessons::VOICES),
    row("POST", "/tts/create", Class::Create).teaching(&lessons::SPEECH),
    row("GET", "/avatars", Class::Read).teaching(&lessons::AVATARS),
    row("POST", "/avatars", Class::Create).teaching(&lessons::NEW_AVATAR),
    row("POST", "/avatars/video", Class::JobStart),
    row("DELETE", "/avatars/*", Class::Other).naming(Names::Path(Kind::Avatar)),
    row("GET", "/elements", Class::Read).teaching(&lessons::ELEMENTS),
    row("POST", "/elements", Class::Create).teaching(&lessons::ONE_ELEMENT),
    row("GET", "/elements/tags", Class::Read),
    row("GET", "/elements/voices", Class::Read).teaching(&lessons::VOICES),
    row("GET", "/elements/*", Class::Read)
        .naming(Names::Path(Kind::Element))
        .teaching(&lessons::ONE_ELEMENT),
    row("DELETE", "/elements/*", Class::Other).naming(Names::Path(Kind::Element)),
    row("GET", "/assets", Class::Read).teaching(&lessons::HISTORY),
    row("GET", "/assets/download", Class::Download).naming(Names::List("workIds", Kind::Work)),
    row("POST", "/assets", Class::Upload).teaching(&lessons::NEW_UPLOAD),
    row("GET", "/assets/uploaded", Class::Read).teaching(&lessons::UPLOADS),
    row("DELETE", "/assets/uploaded", Class::Other).naming(Names::List("id", Kind::Upload)),
    row("GET", "/videos/effects", Class::Read),
    row("POST", "/videos/text2video", Class::JobStart),
    row("POST", "/videos/image2video-frames", Class::JobStart),
    row("POST", "/videos/image2video-elements", Class::JobStart),
    row("POST", "/videos/image2video-effects", Class::JobStart),
    row("POST", "/videos/extend", Class::JobStart),
    row("POST", "/videos/lipsync", Class::JobStart),
    // Without `mine` it lists those of everybody.
    row("GET", "/videos/motions", Class::Read).teaching_with("mine", "true", &lessons::OWN_MOTIONS),
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
pub fn classify(method: &Method, path: &str, extra_jobs: &[String]) -> Class {
    let path = without_slash(path);
    let mut extra_jobs = extra_jobs.iter();
    if method == Method::POST && extra_jobs.any(|job| job.trim_end_matches('/') == path) {
        return Class::JobStart;
    }
    find(method, path).map_or(Class::Other, |row| row.class)
}

/// The row of a call to `path`, below the base URL. `HEAD` is a `GET` whose answer has no body.
pub fn find(method: &Method, path: &str) -> Option<&'static Operation> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let path = without_slash(path);
    OPERATIONS
        .iter()
        .find(|row| row.method == method.as_str() && fits(row.path, path))
}

/// One trailing slash makes no difference: the upstream documents some paths with and some without,
/// and clients use both.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
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

    #[test]
    fn only_a_list_of_ones_own_motions_says_whose_they_are() {
        let motions = find(&Method::GET, "/videos/motions/").unwrap();
        assert!(motions.lesson(|_, _| false).is_none());
        let mine = motions.lesson(|field, value| (field, value) == ("mine", "true"));
        assert!(mine.is_some());
        let avatars = find(&Method::HEAD, "/avatars").unwrap();
        assert!(avatars.lesson(|_, _| false).is_some());
    }
}
