//! The shapes of answers, as data: where ids and URLs stand in them.
//!
//! An answer is read in one pass. One that cannot be read to its end yields nothing.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    references::{ReferenceKind, text_in},
    scheduler::{RunningJob, running_in},
};

use Shape::{Each, Id, Job, Members, Urls};

/// The shape of an answer, as far as it holds references. Anything of another shape is skipped.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// An object, some of whose members hold references.
    Members(&'static [(&'static str, Shape)]),
    /// An array whose items have this shape.
    Each(&'static Shape),
    /// The id of a resource of the account that answered.
    Id(ReferenceKind),
    /// URLs of files of the account that answered, at any depth.
    Urls,
    /// A running job: its id beside the e-mail of its account.
    Job,
}

const WORK: Shape = Members(&[
    ("taskId", Id(ReferenceKind::Task)),
    ("workId", Id(ReferenceKind::Work)),
    ("resource", Urls),
    ("cover", Urls),
]);
/// The works of a task.
pub(crate) const WORKS: Shape = Each(&WORK);
const ELEMENT: Shape = Members(&[("id", Id(ReferenceKind::Element))]);
const UPLOAD: Shape = Members(&[
    ("id", Id(ReferenceKind::Upload)),
    ("resource", Urls),
    ("cover", Urls),
]);
const MOTION: Shape = Members(&[
    ("assetId", Id(ReferenceKind::Motion)),
    ("taskId", Id(ReferenceKind::Task)),
    ("workId", Id(ReferenceKind::Work)),
    ("url", Urls),
]);
const VOICE: Shape = Members(&[
    ("id", Id(ReferenceKind::Voice)),
    ("speakerId", Id(ReferenceKind::Voice)),
]);

/// A task.
pub(crate) const TASK: Shape = Members(&[("works", WORKS)]);
/// Tasks of an account.
pub(crate) const HISTORY: Shape = Members(&[("history", Each(&TASK))]);
/// The jobs that run.
pub(crate) const JOBS: Shape = Each(&Job);
/// The same, and what is available.
pub(crate) const EXECUTING: Shape = Members(&[("executing", JOBS)]);
/// An avatar that was made.
pub(crate) const NEW_AVATAR: Shape = Members(&[("id", Id(ReferenceKind::Avatar))]);
/// Avatars.
pub(crate) const AVATARS: Shape = Each(&NEW_AVATAR);
/// An element, or one that was made: that answer's shape is not documented.
pub(crate) const ONE_ELEMENT: Shape =
    Members(&[("element", ELEMENT), ("id", Id(ReferenceKind::Element))]);
/// Elements.
pub(crate) const ELEMENTS: Shape = Members(&[("elementsList", Each(&ELEMENT))]);
/// A file that was uploaded.
pub(crate) const NEW_UPLOAD: Shape = Members(&[
    ("url", Urls),
    ("resourceUrl", Urls),
    ("coverUrl", Urls),
    ("cover", Urls),
]);
/// Files that were uploaded.
pub(crate) const UPLOADS: Shape = Members(&[("uploadAssetsList", Each(&UPLOAD))]);
/// Speech. The pages show its file in more than one place.
pub(crate) const SPEECH: Shape = Members(&[("resource", Urls), ("cover", Urls), ("works", WORKS)]);
/// Motions of one's own.
pub(crate) const OWN_MOTIONS: Shape = Each(&MOTION);
/// Voices.
pub(crate) const VOICES: Shape = Each(&VOICE);

/// What an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Resources of the account that answered.
    pub references: Vec<(ReferenceKind, Box<str>)>,
    /// Running jobs, of any account.
    pub jobs: Vec<RunningJob>,
}

impl Shape {
    /// What `answer`, which has this shape, holds. Nothing if it is no JSON.
    pub fn extract(&'static self, answer: &[u8]) -> Extracted {
        let mut extracted = Extracted::default();
        let mut source = serde_json::Deserializer::from_slice(answer);
        let extractor = Extractor(self, &mut extracted);
        let read = extractor
            .deserialize(&mut source)
            .and_then(|()| source.end());
        read.map_or_else(|_| Extracted::default(), |()| extracted)
    }
}

struct Extractor<'t>(&'static Shape, &'t mut Extracted);

impl Extractor<'_> {
    fn note(&mut self, kind: ReferenceKind, text: &str) {
        if kind.fits(text) {
            self.1.references.push((kind, text.into()));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Extractor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, source: D) -> Result<(), D::Error> {
        match self.0 {
            // As it stands there: a number beyond 2^53 must not pass through a float.
            Id(kind) => {
                let value = <&RawValue>::deserialize(source)?;
                if let Some(text) = text_in(value.get()) {
                    self.note(*kind, &text);
                }
                Ok(())
            }
            Job => {
                let entry = <&RawValue>::deserialize(source)?;
                self.1.jobs.extend(running_in(entry));
                Ok(())
            }
            Members(_) | Each(_) | Urls => source.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Extractor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let shape = match self.0 {
                Members(members) => {
                    let name = text_in(key.get());
                    let mut members = members.iter();
                    let member = members.find(|(member, _)| name.as_deref() == Some(member));
                    member.map(|(_, shape)| shape)
                }
                Urls => Some(self.0),
                Each(_) | Id(_) | Job => None,
            };
            match shape {
                Some(shape) => map.next_value_seed(Extractor(shape, self.1))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let shape = match self.0 {
            Each(shape) => shape,
            Urls => self.0,
            Members(_) | Id(_) | Job => {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(());
            }
        };
        while items.next_element_seed(Extractor(shape, self.1))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        if matches!(self.0, Urls) {
            self.note(ReferenceKind::Url, text);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(shape: &'static Shape, answer: &str) -> Vec<(ReferenceKind, String)> {
        let names = shape.extract(answer.as_bytes()).references.into_iter();
        names.map(|(kind, text)| (kind, text.into())).collect()
    }

    fn owned<const N: usize>(names: [(ReferenceKind, &str); N]) -> Vec<(ReferenceKind, String)> {
        names.map(|(kind, text)| (kind, text.to_owned())).to_vec()
    }

    #[test]
    fn a_list_of_tasks_names_tasks_works_and_files() {
        let answer = r#"{"page":1.5e3,"history":[
            {"works":[{"workId":987654321987654321,"taskId":123,"userId":5,"resource":
                {"resource":"https:\/\/cdn.example/v.mp4","height":1080,"more":["https://cdn.example/w"]},
                "cover":{"resource":"https://cdn.example/c.png"},"taskInfo":{"taskId":7}}]},
            {"works":null}, {"works":[null,7,{"workId":-4,"resource":null}]}, 5]}"#;
        let expected = owned([
            (ReferenceKind::Work, "987654321987654321"),
            (ReferenceKind::Task, "123"),
            (ReferenceKind::Url, "https://cdn.example/v.mp4"),
            (ReferenceKind::Url, "https://cdn.example/w"),
            (ReferenceKind::Url, "https://cdn.example/c.png"),
        ]);
        assert_eq!(names(&HISTORY, answer), expected);
    }

    #[test]
    fn what_is_made_is_named() {
        let cases: [(&Shape, &str, Vec<_>); 6] = [
            (
                &NEW_AVATAR,
                r#"{"id":"300137233318846","status":"SUCCESS"}"#,
                owned([(ReferenceKind::Avatar, "300137233318846")]),
            ),
            (
                &AVATARS,
                r#"[{"id":"300137233318846"},{"id":"12345678"}]"#,
                owned([(ReferenceKind::Avatar, "300137233318846")]),
            ),
            (
                &ELEMENTS,
                r#"{"elementsList":[{"id":"u_1"},{"id":"o_1"}],"total":2}"#,
                owned([(ReferenceKind::Element, "u_1")]),
            ),
            (
                &UPLOADS,
                r#"{"uploadAssetsList":[{"id":"300000000000000001",
                    "resource":{"resource":"https://cdn.example/a?x=1"}}]}"#,
                owned([
                    (ReferenceKind::Upload, "300000000000000001"),
                    (ReferenceKind::Url, "https://cdn.example/a?x=1"),
                ]),
            ),
            (
                &SPEECH,
                r#"{"status":99,"resource":"https://cdn.example/s.mp3"}"#,
                owned([(ReferenceKind::Url, "https://cdn.example/s.mp3")]),
            ),
            (
                &OWN_MOTIONS,
                r#"[{"assetId":"motion_1","workId":5,"url":"https://cdn.example/m.mp4"}]"#,
                owned([
                    (ReferenceKind::Motion, "motion_1"),
                    (ReferenceKind::Work, "5"),
                    (ReferenceKind::Url, "https://cdn.example/m.mp4"),
                ]),
            ),
        ];
        for (shape, answer, expected) in cases {
            assert_eq!(names(shape, answer), expected, "{answer}");
        }
    }

    #[test]
    fn jobs_are_named_with_their_account() {
        let answer = r#"{"available":[],"executing":[{"id":7,"email":"b@x"},{"id":8},null]}"#;
        let job = RunningJob {
            task_id: "7".parse().unwrap(),
            email: "b@x".to_owned(),
            mark: None,
        };
        assert_eq!(EXECUTING.extract(answer.as_bytes()).jobs, [job]);
    }

    #[test]
    fn an_answer_that_cannot_be_read_to_its_end_yields_nothing() {
        let deep = format!(r#"{{"resource":{}"#, "[".repeat(1000));
        for answer in [
            r#"[{"id":"300137233318846"}"#,
            r#"[{"id":"300137233318846"}] x"#,
            r#"{"id":"300137233318846"}"#,
            "",
            &deep,
        ] {
            assert_eq!(names(&AVATARS, answer), [], "{answer}");
        }
        assert_eq!(names(&SPEECH, &deep), []);
    }
}
