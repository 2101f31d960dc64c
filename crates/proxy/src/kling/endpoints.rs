//! The endpoints of the upstream, as data: what a call does to slots, where its `email` goes, which
//! references its head holds, and the shape of an answer that holds some. Source: the vendor's pages as
//! gathered in July 2026. A call to any other path is forwarded as it came.

use std::{borrow::Cow, time::Duration};

use http::Method;
use percent_encoding::percent_decode_str;

use super::{
    references::ReferenceKind,
    shapes::{self, Shape},
};

/// What the sidecar does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Starts a job: takes a slot until the job is over. `email` goes into the body.
    JobStart,
    /// Reads or deletes the job that its path names. `email` of the job's owner into the query.
    Task,
    /// Makes the upstream stop tracking the job that its path names, which frees the slot.
    Untrack,
    /// Reads what any account can answer. `email` into the query: of the owner of what its head refers
    /// to, if the owner is known, or else of the first healthy account.
    Read,
    /// Reads works that its query names. `email` of their owner into the query.
    Download,
    /// Uploads a raw body. `email` of the first healthy account into the query.
    Upload,
    /// Creates a resource that takes no slot. `email` into the body: of the owner of what the body
    /// refers to, if the owner is known, or else of the first healthy account.
    Create,
    /// Forwarded as it came. It gets the `email` of the owner of what its head refers to only if the
    /// owner is known: a deletion is never sent on a guess.
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

    /// Whether the sidecar may choose the account, whatever the client names.
    pub fn takes_any_account(self) -> bool {
        match self {
            Self::JobStart | Self::Task | Self::Download | Self::Upload | Self::Create => true,
            Self::Untrack | Self::Read | Self::Other => false,
        }
    }

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

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    method: &'static str,
    /// Below the base URL; `*` stands for one segment.
    path: &'static str,
    /// What a call to it needs.
    pub class: Class,
    /// Where the head of a call holds references.
    pub references: HeadReferences,
    answer: Option<AnswerShape>,
    /// Whether the vendor documents `replyRef` in the body of a call to it.
    pub takes_reply_ref: bool,
}

/// Where the head of a call holds references.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadReferences {
    /// Nowhere.
    None,
    /// In the last segment of the path.
    LastSegment(ReferenceKind),
    /// In a query field, as a comma list.
    QueryList(&'static str, ReferenceKind),
}

/// The shape of an answer that holds references.
#[derive(Clone, Copy, Debug)]
struct AnswerShape {
    shape: &'static Shape,
    /// It holds references of the asked account only if the query has this field with this value.
    asked_with: Option<(&'static str, &'static str)>,
}

impl Endpoint {
    const fn referring(self, references: HeadReferences) -> Self {
        Self { references, ..self }
    }

    const fn answering(self, shape: &'static Shape) -> Self {
        let answer = Some(AnswerShape {
            shape,
            asked_with: None,
        });
        Self { answer, ..self }
    }

    const fn answering_if(
        self,
        field: &'static str,
        value: &'static str,
        shape: &'static Shape,
    ) -> Self {
        let answer = Some(AnswerShape {
            shape,
            asked_with: Some((field, value)),
        });
        Self { answer, ..self }
    }

    /// The shape of the answer, if it holds references. `has` says whether the query has a field with
    /// a value.
    pub(crate) fn answer_shape(
        &self,
        has: impl FnOnce(&str, &str) -> bool,
    ) -> Option<&'static Shape> {
        let answer = self.answer?;
        let fits = answer
            .asked_with
            .is_none_or(|(field, value)| has(field, value));
        fits.then_some(answer.shape)
    }
}

const fn row(method: &'static str, path: &'static str, class: Class) -> Endpoint {
    Endpoint {
        method,
        path,
        class,
        references: HeadReferences::None,
        answer: None,
        takes_reply_ref: false,
    }
}

/// A job start in whose body the vendor documents `replyRef`.
const fn job_with_reply_ref(path: &'static str) -> Endpoint {
    Endpoint {
        takes_reply_ref: true,
        ..row("POST", path, Class::JobStart)
    }
}

/// Every call that is in no row of the table.
const UNKNOWN: Endpoint = row("", "", Class::Other);

/// The table. The first row that fits counts, so literal segments stand before `*`.
const ENDPOINTS: &[Endpoint] = &[
    row("GET", "/tasks", Class::Read).answering(&shapes::HISTORY),
    row("GET", "/tasks/*", Class::Task).answering(&shapes::TASK),
    row("DELETE", "/tasks/*", Class::Task),
    row("GET", "/scheduler", Class::Other).answering(&shapes::JOBS),
    row("GET", "/scheduler/available", Class::Other).answering(&shapes::EXECUTING),
    row("DELETE", "/scheduler/*", Class::Untrack),
    row("GET", "/tts/voices", Class::Read).answering(&shapes::VOICES),
    row("POST", "/tts/create", Class::Create).answering(&shapes::SPEECH),
    row("GET", "/avatars", Class::Read).answering(&shapes::AVATARS),
    row("POST", "/avatars", Class::Create).answering(&shapes::NEW_AVATAR),
    job_with_reply_ref("/avatars/video"),
    row("DELETE", "/avatars/*", Class::Other)
        .referring(HeadReferences::LastSegment(ReferenceKind::Avatar)),
    row("GET", "/elements", Class::Read).answering(&shapes::ELEMENTS),
    row("POST", "/elements", Class::Create).answering(&shapes::ONE_ELEMENT),
    row("GET", "/elements/tags", Class::Read),
    row("GET", "/elements/voices", Class::Read).answering(&shapes::VOICES),
    row("GET", "/elements/*", Class::Read)
        .referring(HeadReferences::LastSegment(ReferenceKind::Element))
        .answering(&shapes::ONE_ELEMENT),
    row("DELETE", "/elements/*", Class::Other)
        .referring(HeadReferences::LastSegment(ReferenceKind::Element)),
    row("GET", "/assets", Class::Read).answering(&shapes::HISTORY),
    row("GET", "/assets/download", Class::Download)
        .referring(HeadReferences::QueryList("workIds", ReferenceKind::Work)),
    row("POST", "/assets", Class::Upload).answering(&shapes::NEW_UPLOAD),
    row("GET", "/assets/uploaded", Class::Read).answering(&shapes::UPLOADS),
    row("DELETE", "/assets/uploaded", Class::Other)
        .referring(HeadReferences::QueryList("id", ReferenceKind::Upload)),
    row("GET", "/videos/effects", Class::Read),
    job_with_reply_ref("/videos/text2video"),
    job_with_reply_ref("/videos/image2video-frames"),
    job_with_reply_ref("/videos/image2video-elements"),
    job_with_reply_ref("/videos/image2video-effects"),
    job_with_reply_ref("/videos/extend"),
    job_with_reply_ref("/videos/lipsync"),
    // Without `mine` it lists the motions of all users.
    row("GET", "/videos/motions", Class::Read).answering_if("mine", "true", &shapes::OWN_MOTIONS),
    job_with_reply_ref("/videos/motion-create"),
    job_with_reply_ref("/videos/motion-upload"),
    job_with_reply_ref("/videos/add-sound"),
    // Whether the two omni calls take `replyRef` is not documented.
    row("POST", "/videos/omni", Class::JobStart),
    job_with_reply_ref("/images/virtual-try-on"),
    job_with_reply_ref("/images/kolors"),
    job_with_reply_ref("/images/kolors-elements"),
    row("POST", "/images/recognize-faces", Class::Create),
    job_with_reply_ref("/images/upscale"),
    row("POST", "/images/omni", Class::JobStart),
];

/// How long a job that makes a video takes. Clients report 100 to 250 s for clips of 5 s; in the sample answer of
/// the vendor's pages a task was last changed 309 s after it was created.
const VIDEO_TAKES: Duration = Duration::from_secs(180);
/// How long a job that makes images takes: two polls. The vendor's pages name no time; its script polls every 15 s.
const IMAGE_TAKES: Duration = Duration::from_secs(30);

/// How long a job usually takes, by the [`plain`] path that starts it. Most jobs make videos, so one of which the
/// path is not known counts as such.
pub(crate) fn usual_duration(path: Option<&str>) -> Duration {
    match path {
        Some(path) if path.starts_with("/images/") => IMAGE_TAKES,
        Some(_) | None => VIDEO_TAKES,
    }
}

/// A path as the table spells it: decoded, without empty segments. The upstream documents some paths
/// with a trailing slash and some without, and clients use both; two slashes in a row come from base URLs
/// that end in one.
pub(crate) fn plain(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(spelled_anew(path))
}

fn spelled_anew(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut plain = String::with_capacity(decoded.len());
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        plain.push('/');
        plain.push_str(segment);
    }
    plain
}

/// Whether [`plain`] would change nothing: most paths come as the table spells them.
fn is_plain(path: &str) -> bool {
    let mut pairs = path.as_bytes().windows(2);
    let is_odd = |pair: &[u8]| pair == b"//" || pair[0] == b'%';
    path.starts_with('/') && !path.ends_with(['/', '%']) && !pairs.any(is_odd)
}

/// The path of the table that a [`plain`] path is, if it starts jobs: one of a closed set.
pub(crate) fn job_operation(path: &str) -> Option<&'static str> {
    let mut rows = ENDPOINTS.iter();
    let row = rows.find(|row| row.class == Class::JobStart && row.path == path)?;
    Some(row.path)
}

/// The endpoint of a call to a [`plain`] path below the base URL. `extra_jobs` are plain
/// paths of further job starts.
/// `HEAD` is a `GET` whose answer has no body, RFC 9110 §9.3.2.
pub(crate) fn lookup(method: &Method, path: &str, extra_jobs: &[String]) -> Endpoint {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut rows = ENDPOINTS.iter();
    let row = rows.find(|row| fits(row.path, path) && row.method == method.as_str());
    let endpoint = row.copied().unwrap_or(UNKNOWN);
    let mut extra_jobs = extra_jobs.iter();
    if method == Method::POST && extra_jobs.any(|job| job == path) {
        let class = Class::JobStart;
        return Endpoint { class, ..endpoint };
    }
    endpoint
}

/// Whether a plain path fits a row: exactly, or with one segment in place of a `*` at the end.
fn fits(template: &str, path: &str) -> bool {
    match template.strip_suffix('*') {
        None => template == path,
        Some(start) => path
            .strip_prefix(start)
            .is_some_and(|id| !id.is_empty() && !id.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(method: Method, path: &str) -> Class {
        let extra_jobs = [plain("/videos//new-thing/").into_owned()];
        lookup(&method, &plain(path), &extra_jobs).class
    }

    #[test]
    fn knows_what_starts_a_job() {
        let jobs = ENDPOINTS
            .iter()
            .filter(|row| row.class == Class::JobStart)
            .count();
        assert_eq!(jobs, 16, "the rows with a slot in the vendor's list");
        assert_eq!(class(Method::POST, "/videos/text2video"), Class::JobStart);
        for spelled in [
            "/videos/text2video/",
            "//videos///text2video//",
            "/videos/%74ext2video",
            "/videos%2ftext2video",
        ] {
            assert_eq!(class(Method::POST, spelled), Class::JobStart, "{spelled}");
        }
        assert_eq!(class(Method::POST, "/videos/new-thing"), Class::JobStart);
        assert_eq!(class(Method::GET, "/videos/new-thing"), Class::Other);
        assert_eq!(class(Method::GET, "/videos/text2video"), Class::Other);
        assert_eq!(class(Method::POST, "/tts/create"), Class::Create);
        assert_eq!(class(Method::POST, "/assets/"), Class::Upload);
    }

    #[test]
    fn only_job_starts_that_document_it_take_a_reply_ref() {
        let takes = ENDPOINTS.iter().filter(|row| row.takes_reply_ref);
        assert!(takes.clone().all(|row| row.class == Class::JobStart));
        assert_eq!(takes.count(), 14, "all but the two omni calls");
        let extra_jobs = ["/videos/new-thing".to_owned()];
        for path in [
            "/videos/omni",
            "/images/omni",
            "/videos/new-thing",
            "/tts/create",
        ] {
            let endpoint = lookup(&Method::POST, path, &extra_jobs);
            assert!(!endpoint.takes_reply_ref, "{path}");
        }
        assert!(lookup(&Method::POST, "/videos/motion-create", &[]).takes_reply_ref);
    }

    #[test]
    fn images_are_made_faster_than_videos() {
        for row in ENDPOINTS.iter().filter(|row| row.class == Class::JobStart) {
            let makes_images = row.path.contains("images");
            let expected = if makes_images {
                IMAGE_TAKES
            } else {
                VIDEO_TAKES
            };
            assert_eq!(usual_duration(Some(row.path)), expected, "{row:?}");
        }
        assert_eq!(usual_duration(None), VIDEO_TAKES);
    }

    #[test]
    fn a_path_is_taken_as_it_came_only_where_nothing_changes() {
        let pieces = ["/", "tasks", "%2F", "%", "é", "7"];
        for length in 0..5_u32 {
            for number in 0..pieces.len().pow(length) {
                let piece = |place| pieces[number / pieces.len().pow(place) % pieces.len()];
                let path: String = (0..length).map(piece).collect();
                let is_same = spelled_anew(&path) == path;
                assert!(!is_plain(&path) || is_same, "{path}");
                assert!(
                    is_plain(&path) || !is_same || path.contains('%') || path.is_empty(),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn literal_segments_win_over_ids_and_no_delete_is_guessed() {
        assert_eq!(class(Method::GET, "/elements/tags"), Class::Read);
        assert_eq!(class(Method::GET, "/tasks/12"), Class::Task);
        assert_eq!(class(Method::GET, "/tasks//"), Class::Read);
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
        let motions = lookup(&Method::GET, "/videos/motions", &[]);
        assert!(motions.answer_shape(|_, _| false).is_none());
        let mine = motions.answer_shape(|field, value| (field, value) == ("mine", "true"));
        assert!(mine.is_some());
        let avatars = lookup(&Method::HEAD, "/avatars", &[]);
        assert!(avatars.answer_shape(|_, _| false).is_some());
    }
}
