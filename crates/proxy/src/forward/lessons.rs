//! What answers teach about owners: where ids and URLs stand in them, as data.
//!
//! An answer is read in one pass, and only one that was understood to its end teaches anything.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::mentions::{Kind, text_in};
use crate::{jobs::running_in, pool::RunningJob};

use Shape::{Each, Id, Job, Members, Urls};

/// The shape of an answer, as far as it teaches something. What has another shape teaches nothing.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// An object, some of whose members teach.
    Members(&'static [(&'static str, Shape)]),
    /// An array, each of whose items teaches.
    Each(&'static Shape),
    /// The id of something that belongs to the account which answered.
    Id(Kind),
    /// URLs of files of the account which answered, at whatever depth.
    Urls,
    /// A job that runs, with the e-mail of its account beside its id.
    Job,
}

const WORK: Shape = Members(&[
    ("taskId", Id(Kind::Task)),
    ("workId", Id(Kind::Work)),
    ("resource", Urls),
    ("cover", Urls),
]);
const WORKS: Shape = Each(&WORK);
const ELEMENT: Shape = Members(&[("id", Id(Kind::Element))]);
const UPLOAD: Shape = Members(&[
    ("id", Id(Kind::Upload)),
    ("resource", Urls),
    ("cover", Urls),
]);
const MOTION: Shape = Members(&[
    ("assetId", Id(Kind::Motion)),
    ("taskId", Id(Kind::Task)),
    ("workId", Id(Kind::Work)),
    ("url", Urls),
]);
const VOICE: Shape = Members(&[("id", Id(Kind::Voice)), ("speakerId", Id(Kind::Voice))]);

/// A task.
pub const TASK: Shape = Members(&[("works", WORKS)]);
/// Tasks of an account.
pub const HISTORY: Shape = Members(&[("history", Each(&TASK))]);
/// The jobs that run.
pub const JOBS: Shape = Each(&Job);
/// The same, and what is available.
pub const EXECUTING: Shape = Members(&[("executing", JOBS)]);
/// An avatar that was made.
pub const NEW_AVATAR: Shape = Members(&[("id", Id(Kind::Avatar))]);
/// Avatars.
pub const AVATARS: Shape = Each(&NEW_AVATAR);
/// An element, or one that was made: that answer's shape is not documented.
pub const ONE_ELEMENT: Shape = Members(&[("element", ELEMENT), ("id", Id(Kind::Element))]);
/// Elements.
pub const ELEMENTS: Shape = Members(&[("elementsList", Each(&ELEMENT))]);
/// A file that was uploaded.
pub const NEW_UPLOAD: Shape = Members(&[
    ("url", Urls),
    ("resourceUrl", Urls),
    ("coverUrl", Urls),
    ("cover", Urls),
]);
/// Files that were uploaded.
pub const UPLOADS: Shape = Members(&[("uploadAssetsList", Each(&UPLOAD))]);
/// Speech. The pages show its file in more than one place.
pub const SPEECH: Shape = Members(&[("resource", Urls), ("cover", Urls), ("works", WORKS)]);
/// Motions of one's own.
pub const OWN_MOTIONS: Shape = Each(&MOTION);
/// Voices.
pub const VOICES: Shape = Each(&VOICE);

/// What an answer names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taught {
    /// What belongs to the account that answered.
    pub names: Vec<(Kind, Box<str>)>,
    /// Jobs of whatever account.
    pub jobs: Vec<RunningJob>,
}

impl Shape {
    /// What `answer`, which has this shape, names. Nothing if it is no JSON.
    pub fn read(&'static self, answer: &[u8]) -> Taught {
        let mut taught = Taught::default();
        let mut source = serde_json::Deserializer::from_slice(answer);
        let reader = Reader(self, &mut taught);
        let read = reader.deserialize(&mut source).and_then(|()| source.end());
        read.map_or_else(|_| Taught::default(), |()| taught)
    }
}

struct Reader<'t>(&'static Shape, &'t mut Taught);

impl Reader<'_> {
    fn note(&mut self, kind: Kind, text: &str) {
        if kind.fits(text) {
            self.1.names.push((kind, text.into()));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, source: D) -> Result<(), D::Error> {
        match self.0 {
            // As it stands there: a number beyond 2^53 must not pass through a float.
            Id(kind) => {
                let value = <&RawValue>::deserialize(source)?;
                if let Some(text) = text_in(value) {
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

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let shape = match self.0 {
                Members(members) => {
                    let name = text_in(key);
                    let mut members = members.iter();
                    let member = members.find(|(member, _)| name.as_deref() == Some(member));
                    member.map(|(_, shape)| shape)
                }
                Urls => Some(self.0),
                Each(_) | Id(_) | Job => None,
            };
            match shape {
                Some(shape) => map.next_value_seed(Reader(shape, self.1))?,
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
        while items.next_element_seed(Reader(shape, self.1))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        if matches!(self.0, Urls) {
            self.note(Kind::Url, text);
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

    fn names(shape: &'static Shape, answer: &str) -> Vec<(Kind, String)> {
        let names = shape.read(answer.as_bytes()).names.into_iter();
        names.map(|(kind, text)| (kind, text.into())).collect()
    }

    fn owned<const N: usize>(names: [(Kind, &str); N]) -> Vec<(Kind, String)> {
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
            (Kind::Work, "987654321987654321"),
            (Kind::Task, "123"),
            (Kind::Url, "https://cdn.example/v.mp4"),
            (Kind::Url, "https://cdn.example/w"),
            (Kind::Url, "https://cdn.example/c.png"),
        ]);
        assert_eq!(names(&HISTORY, answer), expected);
    }

    #[test]
    fn what_is_made_is_named() {
        let cases: [(&Shape, &str, Vec<_>); 6] = [
            (
                &NEW_AVATAR,
                r#"{"id":"300137233318846","status":"SUCCESS"}"#,
                owned([(Kind::Avatar, "300137233318846")]),
            ),
            (
                &AVATARS,
                r#"[{"id":"300137233318846"},{"id":"12345678"}]"#,
                owned([(Kind::Avatar, "300137233318846")]),
            ),
            (
                &ELEMENTS,
                r#"{"elementsList":[{"id":"u_1"},{"id":"o_1"}],"total":2}"#,
                owned([(Kind::Element, "u_1")]),
            ),
            (
                &UPLOADS,
                r#"{"uploadAssetsList":[{"id":"300000000000000001",
                    "resource":{"resource":"https://cdn.example/a?x=1"}}]}"#,
                owned([
                    (Kind::Upload, "300000000000000001"),
                    (Kind::Url, "https://cdn.example/a?x=1"),
                ]),
            ),
            (
                &SPEECH,
                r#"{"status":99,"resource":"https://cdn.example/s.mp3"}"#,
                owned([(Kind::Url, "https://cdn.example/s.mp3")]),
            ),
            (
                &OWN_MOTIONS,
                r#"[{"assetId":"motion_1","workId":5,"url":"https://cdn.example/m.mp4"}]"#,
                owned([
                    (Kind::Motion, "motion_1"),
                    (Kind::Work, "5"),
                    (Kind::Url, "https://cdn.example/m.mp4"),
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
        };
        assert_eq!(EXECUTING.read(answer.as_bytes()).jobs, [job]);
    }

    #[test]
    fn what_is_not_understood_to_its_end_teaches_nothing() {
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
