//! Answers held against an OpenAPI document, both ways: what is answered is documented, and what is documented is
//! answered.

use std::collections::BTreeSet;

use http::HeaderName;
use serde_json::{Map, Value, json};

use crate::Answer;

/// Headers of HTTP itself, which documents do not list.
const COMMON_HEADERS: [&str; 7] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "vary",
];

/// An OpenAPI 3.1 document, and what was seen of it.
#[derive(Debug)]
pub struct Document {
    root: Value,
    /// Members of answers, by schema.
    seen: BTreeSet<String>,
    /// Operations with the status of their answers.
    answered: BTreeSet<(String, u16)>,
}

impl Document {
    /// Reads a document. Objects have no members but the documented ones.
    pub fn new(mut root: Value) -> Self {
        close(&mut root);
        Self {
            root,
            seen: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// Checks the answer to an operation: its status, headers, type and body.
    ///
    /// # Panics
    /// If the document does not have it.
    #[track_caller]
    pub fn check_answer(&mut self, operation: &str, answer: &Answer) {
        let (method, path) = operation.split_once(' ').unwrap();
        let method = method.to_ascii_lowercase();
        let status = answer.status.as_u16();
        let told = &self.root["paths"][path][method]["responses"][status.to_string()];
        assert!(told.is_object(), "undocumented: {operation}: {answer:?}");
        let response = self.resolve(told).clone();
        self.check_headers(&response, answer);
        self.answered.insert((operation.to_owned(), status));
        let Some(types) = response["content"].as_object() else {
            assert_eq!(answer.text, "", "{operation}");
            return;
        };
        let given = answer.header("content-type");
        let essence = given.split(';').next().unwrap();
        let told = types.get(essence);
        let told = told.unwrap_or_else(|| panic!("undocumented type: {operation}: {answer:?}"));
        if essence == "application/json" {
            self.check(&told["schema"], &answer.json());
        }
    }

    fn check_headers(&self, response: &Value, answer: &Answer) {
        let no_headers = Map::new();
        let told = response["headers"].as_object().unwrap_or(&no_headers);
        for (name, header) in told {
            let name: HeaderName = name.parse().unwrap();
            let is_required = self.resolve(header)["required"] == true;
            let is_there = answer.headers.contains_key(&name);
            assert!(is_there || !is_required, "no {name}: {answer:?}");
        }
        let is_told = |name: &HeaderName| {
            COMMON_HEADERS.contains(&name.as_str())
                || told
                    .keys()
                    .any(|told| name.as_str().eq_ignore_ascii_case(told))
        };
        for name in answer.headers.keys() {
            assert!(is_told(name), "undocumented header {name}: {answer:?}");
        }
    }

    /// Checks a value against a schema of the document, such as `{"$ref": "#/components/schemas/Lease"}`.
    ///
    /// # Panics
    /// If it does not fit.
    #[track_caller]
    pub fn check(&mut self, schema: &Value, value: &Value) {
        let mut whole = schema.clone();
        whole["components"] = self.root["components"].clone();
        let mut options = jsonschema::options();
        options = options.should_validate_formats(true);
        let validator = options.build(&whole).unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?} in {value:#}");
        let mut seen = std::mem::take(&mut self.seen);
        self.note(schema, "", value, &mut seen);
        self.seen = seen;
    }

    /// Notes the members of `value` that `schema` has.
    fn note(&self, schema: &Value, place: &str, value: &Value, seen: &mut BTreeSet<String>) {
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.rsplit('/').next().unwrap();
            self.note(self.resolve(schema), name, value, seen);
        }
        for branch in ["oneOf", "anyOf", "allOf"]
            .iter()
            .filter_map(|it| schema[it].as_array())
        {
            for branch in branch {
                self.note(branch, place, value, seen);
            }
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = value.get(name) {
                let place = format!("{place}.{name}");
                self.note(member, &place, value, seen);
                seen.insert(place);
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.note(&schema["items"], &format!("{place}[]"), item, seen);
        }
    }

    /// The members of these schemas, and of those that they consist of, that no checked value had.
    pub fn unseen<'a>(&self, schemas: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut members = BTreeSet::new();
        for name in schemas {
            let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
            self.members(&schema, "", &mut members);
        }
        members.difference(&self.seen).cloned().collect()
    }

    fn members(&self, schema: &Value, place: &str, members: &mut BTreeSet<String>) {
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.rsplit('/').next().unwrap();
            self.members(self.resolve(schema), name, members);
        }
        for branch in schema["oneOf"].as_array().into_iter().flatten() {
            // Those of an event say which members it must have, and no more.
            if branch["properties"]["type"].is_null() {
                self.members(branch, place, members);
            }
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            self.members(member, &place, members);
            members.insert(place);
        }
        if schema["items"].is_object() {
            self.members(&schema["items"], &format!("{place}[]"), members);
        }
    }

    /// The operations of the document, each as `GET /path`, that no checked answer has answered with success.
    pub fn unanswered(&self) -> Vec<String> {
        let paths = self.root["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
        });
        let is_answered = |operation: &String| {
            let mut answered = self.answered.iter();
            answered.any(|(answered, status)| answered == operation && *status < 400)
        };
        operations
            .filter(|operation| !is_answered(operation))
            .collect()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(target) => self.root.pointer(target.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }
}

/// Readers of a document must expect further members; a test does not.
fn close(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("type") == Some(&json!("object")) && members.contains_key("properties") {
                members
                    .entry("additionalProperties")
                    .or_insert(false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
