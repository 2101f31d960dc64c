//! References: ids and URLs in a call that belong to one account, by kind, and the fields that hold them.
//! Source: the vendor's pages as gathered in July 2026.
//!
//! Official resources, such as avatar templates, work on every account and are no references.

use std::borrow::Cow;

use super::task::TaskId;

/// The most references read from one call: forms have some fifty fields that can hold one. The
/// upstream judges the ones beyond.
pub(crate) const REFERENCES_MAX: usize = 64;
/// The longest URL that is remembered or looked up: browsers and gateways take no more. A longer
/// value is a picture in base64.
pub(crate) const URL_BYTES_MAX: usize = 2048;
/// The longest id: the longest known ones have 20 characters.
const ID_BYTES_MAX: usize = 64;
/// An avatar id with at most this many digits is a template, which works on every account.
const TEMPLATE_DIGITS_MAX: usize = 8;

/// A kind of resource that belongs to one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// A result of a task.
    Work,
    /// A personal avatar.
    Avatar,
    /// A personal element, `u_…`.
    Element,
    /// A voice of such an element. The ids of other custom voices are not documented.
    Voice,
    /// A motion of one's own, `motion_…`.
    Motion,
    /// The record of an uploaded file.
    Upload,
    /// The URL of a file: an upload, a work, speech. Another account may be able to use it too.
    Url,
    /// A job. Rounds learn its owner too.
    Task,
}

impl ReferenceKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 8] = [
        Self::Work,
        Self::Avatar,
        Self::Element,
        Self::Voice,
        Self::Motion,
        Self::Upload,
        Self::Url,
        Self::Task,
    ];

    /// Whether only the owner can use it.
    pub fn is_strict(self) -> bool {
        self != Self::Url
    }

    /// Whether `text` refers to a resource of this kind that belongs to one account.
    pub fn fits(self, text: &str) -> bool {
        let bytes_max = if self == Self::Url {
            URL_BYTES_MAX
        } else {
            ID_BYTES_MAX
        };
        let is_digits = || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_own = match self {
            Self::Url => text.starts_with("https://") || text.starts_with("http://"),
            Self::Task => text.parse::<TaskId>().is_ok(),
            // The works of official motions are negative.
            Self::Work => text.parse::<TaskId>().is_ok() && !text.starts_with('-'),
            Self::Avatar => is_digits() && text.len() > TEMPLATE_DIGITS_MAX,
            Self::Upload => is_digits(),
            Self::Element | Self::Voice => text.starts_with("u_"),
            Self::Motion => text.starts_with("motion_"),
        };
        is_own && text.len() <= bytes_max
    }
}

/// Body fields that hold an id.
const ID_FIELDS: &[(&str, ReferenceKind)] = &[
    ("task_id", ReferenceKind::Task),
    ("workId", ReferenceKind::Work),
    ("avatarId", ReferenceKind::Avatar),
    ("element_1", ReferenceKind::Element),
    ("element_2", ReferenceKind::Element),
    ("element_3", ReferenceKind::Element),
    ("element_4", ReferenceKind::Element),
    ("element_5", ReferenceKind::Element),
    ("element_6", ReferenceKind::Element),
    ("element_7", ReferenceKind::Element),
    ("voice", ReferenceKind::Voice),
    ("speakerId", ReferenceKind::Voice),
    ("ttsSpeaker", ReferenceKind::Voice),
];

/// Body fields that hold the URL of a file, or the id of a personal motion.
#[rustfmt::skip]
const URL_FIELDS: &[&str] = &[
    "image", "image_tail", "image_0", "image_1", "image_2", "image_3", "image_4", "image_5",
    "image_6", "image_7", "image_8", "image_9", "image_10", "frame_start", "frame_end", "video_1",
    "video", "audio", "imageUrl", "audioUrl", "motionUrl", "resourceUrl", "coverUrl", "coverImage",
    "extraImage1", "extraImage2", "extraImage3", "humanImage", "upperInput", "dressInput",
    "lowerInput", "imageReference", "subjectImage1", "subjectImage2", "subjectImage3",
    "subjectImage4", "sceneImage", "styleImage",
];

/// A resource of one account, as a call refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that holds it.
    pub field: &'static str,
    /// The kind of the resource.
    pub kind: ReferenceKind,
    /// Its id or URL, as the client wrote it.
    pub text: Box<str>,
}

impl Reference {
    /// The reference that `text` is in `field`, which holds this kind. `None` if it is none.
    pub fn new(field: &'static str, kind: ReferenceKind, text: &str) -> Option<Self> {
        let is_motion = kind == ReferenceKind::Url && ReferenceKind::Motion.fits(text);
        let kind = if is_motion {
            ReferenceKind::Motion
        } else {
            kind
        };
        kind.fits(text).then(|| Self {
            field,
            kind,
            text: text.into(),
        })
    }
}

/// The references in the fields of a body, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct References(Vec<Reference>);

impl References {
    /// Adds the reference in the field `name`. The value is read only if the field can hold one.
    pub(crate) fn note<'a>(&mut self, name: &[u8], value: impl FnOnce() -> Option<Cow<'a, str>>) {
        if self.0.len() < REFERENCES_MAX
            && let Some((field, kind)) = field(name)
        {
            let text = value();
            self.0
                .extend(text.and_then(|text| Reference::new(field, kind, &text)));
        }
    }

    pub(crate) fn as_slice(&self) -> &[Reference] {
        &self.0
    }
}

fn field(name: &[u8]) -> Option<(&'static str, ReferenceKind)> {
    let ids = ID_FIELDS.iter().copied();
    let urls = URL_FIELDS.iter().map(|field| (*field, ReferenceKind::Url));
    ids.chain(urls).find(|(field, _)| field.as_bytes() == name)
}

/// A JSON string, or a JSON number with its digits as they are written. `None` for any other value,
/// and for one longer than any reference.
pub(crate) fn text_in(text: &str) -> Option<Cow<'_, str>> {
    // An escape takes six bytes at most.
    if text.len() > 6 * URL_BYTES_MAX {
        return None;
    }
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok().map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_at_its_place() {
        let places = ReferenceKind::ALL.map(|kind| kind as usize);
        assert_eq!(places, std::array::from_fn(|idx| idx));
    }

    #[test]
    fn what_is_official_is_nobodys() {
        let own = [
            (ReferenceKind::Task, "123456789012345678"),
            (ReferenceKind::Work, "987654321"),
            (ReferenceKind::Avatar, "300137233318846"),
            (ReferenceKind::Avatar, "123456789"),
            (ReferenceKind::Element, "u_300000000000001"),
            (ReferenceKind::Voice, "u_1"),
            (ReferenceKind::Motion, "motion_1"),
            (ReferenceKind::Upload, "300000000000000001"),
            (ReferenceKind::Url, "https://cdn.example/a.png?x=1"),
        ];
        for (kind, text) in own {
            assert!(kind.fits(text), "{kind:?} {text}");
        }
        let long_id = format!("u_{}", "1".repeat(ID_BYTES_MAX));
        let long_url = format!("https://x/{}", "a".repeat(URL_BYTES_MAX));
        let others = [
            (ReferenceKind::Task, "1.5"),
            (ReferenceKind::Task, "007"),
            (ReferenceKind::Work, "-1"),
            (ReferenceKind::Work, ""),
            (ReferenceKind::Avatar, "12345678"),
            (ReferenceKind::Avatar, "template-123"),
            (ReferenceKind::Element, "o_102"),
            (ReferenceKind::Element, &long_id),
            (ReferenceKind::Voice, "chat1_female_new-3"),
            (ReferenceKind::Motion, "1"),
            (ReferenceKind::Upload, ""),
            (ReferenceKind::Url, "data:image/png;base64,iVBORw0KGgo="),
            (ReferenceKind::Url, &long_url),
        ];
        for (kind, text) in others {
            assert!(!kind.fits(text), "{kind:?} {text}");
        }
    }

    #[test]
    fn a_field_for_urls_may_name_a_motion_by_its_id() {
        let kind = |text| Reference::new("motionUrl", ReferenceKind::Url, text).map(|it| it.kind);
        assert_eq!(kind("motion_7"), Some(ReferenceKind::Motion));
        assert_eq!(kind("https://cdn.example/m.mp4"), Some(ReferenceKind::Url));
        assert_eq!(kind("m.mp4"), None);
    }

    #[test]
    fn no_call_has_more_references_than_the_limit() {
        assert!(ID_FIELDS.len() + URL_FIELDS.len() <= REFERENCES_MAX);
        let mut references = References::default();
        for id in 0..2 * REFERENCES_MAX {
            references.note(b"task_id", || Some(id.to_string().into()));
        }
        assert_eq!(references.as_slice().len(), REFERENCES_MAX);
        assert_eq!(&*references.as_slice()[0].text, "0");
    }

    #[test]
    fn a_name_keeps_its_digits() {
        let text = |json| text_in(json).map(Cow::into_owned);
        let number = "123456789012345678901234567890";
        assert_eq!(text(number).as_deref(), Some(number));
        assert_eq!(text("-1").as_deref(), Some("-1"));
        assert_eq!(text(r#""a\/\u0062""#).as_deref(), Some("a/b"));
        let long = format!("\"{}\"", "a".repeat(6 * URL_BYTES_MAX));
        for nothing in ["null", "true", "[1]", "{}", r#""\ud800""#, &long] {
            assert_eq!(text(nothing), None, "{nothing}");
        }
    }
}
