//! What a call can name that belongs to one account: its kinds, as data, and where a call names it.
//! Source: the vendor's pages as gathered in July 2026.
//!
//! What is official, such as templates of avatars, belongs to everybody and is no mention.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::pool::TaskId;

/// Most mentions of one call: forms have some fifty fields that can name something. What comes
/// after them is the upstream's to judge.
pub const MENTIONS_MAX: usize = 64;
/// Longest URL that is remembered or looked up, the most that browsers and gateways take. What is
/// longer is a picture in base64.
pub const URL_BYTES_MAX: usize = 2048;
/// Longest id: the longest known have 20 characters.
const ID_BYTES_MAX: usize = 64;
/// Avatars with an id of so many digits are templates, which belong to everybody.
const TEMPLATE_DIGITS_MAX: usize = 8;

/// What belongs to one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A result of a task.
    Work,
    /// A personal avatar.
    Avatar,
    /// A personal element, `u_…`.
    Element,
    /// A voice of such an element. How the ids of other custom voices look is not known.
    Voice,
    /// A motion of one's own, `motion_…`.
    Motion,
    /// The record of an uploaded file.
    Upload,
    /// Where a file lies: an upload, a work, speech. Another account may be able to use it too.
    Url,
    /// A job. Rounds teach its owner too.
    Task,
}

impl Kind {
    /// Whether no other account but the owner can use it.
    pub fn is_strict(self) -> bool {
        self != Self::Url
    }

    /// Whether `text` names one of this kind that belongs to one account.
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

/// Fields of a body that name something by its id.
const ID_FIELDS: &[(&str, Kind)] = &[
    ("task_id", Kind::Task),
    ("workId", Kind::Work),
    ("avatarId", Kind::Avatar),
    ("element_1", Kind::Element),
    ("element_2", Kind::Element),
    ("element_3", Kind::Element),
    ("element_4", Kind::Element),
    ("element_5", Kind::Element),
    ("element_6", Kind::Element),
    ("element_7", Kind::Element),
    ("voice", Kind::Voice),
    ("speakerId", Kind::Voice),
    ("ttsSpeaker", Kind::Voice),
];

/// Fields of a body that name a file by its URL. A motion of one's own has an id besides.
#[rustfmt::skip]
const URL_FIELDS: &[&str] = &[
    "image", "image_tail", "image_0", "image_1", "image_2", "image_3", "image_4", "image_5",
    "image_6", "image_7", "image_8", "image_9", "image_10", "frame_start", "frame_end", "video_1",
    "video", "audio", "imageUrl", "audioUrl", "motionUrl", "resourceUrl", "coverUrl", "coverImage",
    "extraImage1", "extraImage2", "extraImage3", "humanImage", "upperInput", "dressInput",
    "lowerInput", "imageReference", "subjectImage1", "subjectImage2", "subjectImage3",
    "subjectImage4", "sceneImage", "styleImage",
];

/// Something that a call names and that belongs to one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Where the call names it.
    pub field: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its name, as the client wrote it.
    pub text: Box<str>,
}

impl Mention {
    /// What `text` names in the field `field`, where something of this kind belongs.
    pub fn new(field: &'static str, kind: Kind, text: &str) -> Option<Self> {
        let is_motion = kind == Kind::Url && Kind::Motion.fits(text);
        let kind = if is_motion { Kind::Motion } else { kind };
        kind.fits(text).then(|| Self {
            field,
            kind,
            text: text.into(),
        })
    }
}

/// What the fields of a body name, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Mentions(Vec<Mention>);

impl Mentions {
    /// Notes what the field `name` names, if it can name something. Its value is read only then.
    pub(super) fn note<'a>(&mut self, name: &str, value: impl FnOnce() -> Option<Cow<'a, str>>) {
        if self.0.len() < MENTIONS_MAX
            && let Some((field, kind)) = field(name)
        {
            let text = value();
            self.0
                .extend(text.and_then(|text| Mention::new(field, kind, &text)));
        }
    }

    pub(super) fn as_slice(&self) -> &[Mention] {
        &self.0
    }
}

fn field(name: &str) -> Option<(&'static str, Kind)> {
    let ids = ID_FIELDS.iter().copied();
    let urls = URL_FIELDS.iter().map(|field| (*field, Kind::Url));
    ids.chain(urls).find(|(field, _)| *field == name)
}

/// A string or a number that stands in JSON, its digits as they are written. `None` if it is
/// anything else, or longer than any name.
pub(super) fn text_in(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
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
    fn what_is_official_is_nobodys() {
        let own = [
            (Kind::Task, "123456789012345678"),
            (Kind::Work, "987654321"),
            (Kind::Avatar, "300137233318846"),
            (Kind::Avatar, "123456789"),
            (Kind::Element, "u_300000000000001"),
            (Kind::Voice, "u_1"),
            (Kind::Motion, "motion_1"),
            (Kind::Upload, "300000000000000001"),
            (Kind::Url, "https://cdn.example/a.png?x=1"),
        ];
        for (kind, text) in own {
            assert!(kind.fits(text), "{kind:?} {text}");
        }
        let long_id = format!("u_{}", "1".repeat(ID_BYTES_MAX));
        let long_url = format!("https://x/{}", "a".repeat(URL_BYTES_MAX));
        let others = [
            (Kind::Task, "1.5"),
            (Kind::Task, "007"),
            (Kind::Work, "-1"),
            (Kind::Work, ""),
            (Kind::Avatar, "12345678"),
            (Kind::Avatar, "template-123"),
            (Kind::Element, "o_102"),
            (Kind::Element, &long_id),
            (Kind::Voice, "chat1_female_new-3"),
            (Kind::Motion, "1"),
            (Kind::Upload, ""),
            (Kind::Url, "data:image/png;base64,iVBORw0KGgo="),
            (Kind::Url, &long_url),
        ];
        for (kind, text) in others {
            assert!(!kind.fits(text), "{kind:?} {text}");
        }
    }

    #[test]
    fn a_field_for_urls_may_name_a_motion_by_its_id() {
        let kind = |text| Mention::new("motionUrl", Kind::Url, text).map(|it| it.kind);
        assert_eq!(kind("motion_7"), Some(Kind::Motion));
        assert_eq!(kind("https://cdn.example/m.mp4"), Some(Kind::Url));
        assert_eq!(kind("m.mp4"), None);
    }

    #[test]
    fn no_call_has_more_mentions_than_there_is_room_for() {
        assert!(ID_FIELDS.len() + URL_FIELDS.len() <= MENTIONS_MAX);
        let mut mentions = Mentions::default();
        for id in 0..2 * MENTIONS_MAX {
            mentions.note("task_id", || Some(id.to_string().into()));
        }
        assert_eq!(mentions.as_slice().len(), MENTIONS_MAX);
        assert_eq!(&*mentions.as_slice()[0].text, "0");
    }

    #[test]
    fn a_name_keeps_its_digits() {
        let text = |json: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            text_in(raw).map(Cow::into_owned)
        };
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
