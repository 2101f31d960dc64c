//! Writes the document, and checks that the file has what is written.
//!
//! Paths, methods, fields of queries, who may call, and what is refused with which headers come from the tables of the
//! code. The words and schemas are those of `words.json`, which is the document without refusals; it must have every
//! path, method, field and reason of the tables, and no other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::DOCUMENT;
use crate::{
    api::{
        ROUTES,
        route::{Endpoint, Operation, Row},
    },
    error::{Error, Facts},
};

/// Read as it is at run time, so that the document is written anew without another build.
const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi/words.json");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi/openapi.json");
/// Set, the file is written anew.
const WRITE: &str = "WRITE_OPENAPI";

#[test]
fn the_document_has_what_the_tables_say() {
    let written = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(FILE, &written).unwrap();
        return;
    }
    assert!(
        DOCUMENT == written,
        "{FILE} is out of date; write it with\n{WRITE}=1 cargo test --package proxy --lib openapi"
    );
}

#[test]
fn every_component_is_used_and_every_one_that_is_used_is_there() {
    let document = document();
    let mut used = BTreeSet::new();
    collect_refs(&document, &mut used);
    let mut there = BTreeSet::new();
    for (kind, components) in document["components"].as_object().unwrap() {
        if kind != "securitySchemes" {
            let names = components.as_object().unwrap().keys();
            there.extend(names.map(|name| format!("#/components/{kind}/{name}")));
        }
    }
    assert_eq!(used, there);
}

fn collect_refs(value: &Value, refs: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                refs.insert(target.clone());
            }
            for member in members.values() {
                collect_refs(member, refs);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_refs(item, refs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The errors of our own surface. Those of job starts are told in words: their paths are the upstream's.
fn own_errors() -> impl Iterator<Item = Facts> {
    let own = Error::KINDS
        .into_iter()
        .filter(|error| !matches!(error, Error::NotStarted(_)));
    own.map(|error| error.facts())
}

fn document() -> Value {
    let mut document: Value = serde_json::from_slice(&std::fs::read(WORDS).unwrap()).unwrap();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let reasons = document.as_object_mut().unwrap().remove("reasons").unwrap();
    let known: BTreeSet<_> = Error::KINDS.iter().map(|it| it.facts().reason).collect();
    assert_eq!(names(&reasons), known, "reasons");
    document["components"]["schemas"]["Reason"] = json!({
        "enum": known,
        "description": "Why, for programs",
    });

    let served = ROUTES
        .iter()
        .filter(|row| row.endpoint != Endpoint::Upstream);
    let templates: BTreeSet<_> = served.clone().map(|row| row.template).collect();
    assert_eq!(names(&document["paths"]), templates, "paths");
    for row in served {
        check_operations(row, &document);
        for operation in row.operations {
            let refusals = refusals(row, operation, &reasons);
            let method = operation.method.to_ascii_lowercase();
            let shown = &mut document["paths"][row.template][method];
            if row.access.is_open() {
                shown["security"] = json!([]);
            }
            tag_all(&mut shown["responses"]);
            let shared = add_refusals(&mut shown["responses"], refusals);
            let responses = &mut document["components"]["responses"];
            responses.as_object_mut().unwrap().extend(shared);
        }
    }
    tag_all(&mut document["components"]["responses"]);
    document
}

fn names(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The document has the methods of a row and the fields of its query, and no other.
fn check_operations(row: &Row, document: &Value) {
    let path = &document["paths"][row.template];
    let mut shown = names(path);
    let has_name = shown.remove("parameters");
    assert_eq!(has_name, row.template.contains('{'), "{}", row.template);
    let methods = row
        .operations
        .iter()
        .map(|it| it.method.to_ascii_lowercase());
    let methods: Vec<_> = methods.collect();
    let expected: BTreeSet<_> = methods.iter().map(String::as_str).collect();
    assert_eq!(shown, expected, "{}", row.template);
    for method in &methods {
        let parameters = path[method]["parameters"].as_array();
        let parameters = parameters
            .into_iter()
            .flatten()
            .map(|it| resolve(it, document));
        let in_query = parameters.filter(|it| it["in"] == "query");
        let shown: Vec<_> = in_query.map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(shown, row.query.fields(), "{method} {}", row.template);
    }
}

fn resolve<'a>(value: &'a Value, document: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(target) => document.pointer(target.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// Every answer has a request id.
fn tag_all(responses: &mut Value) {
    for response in responses.as_object_mut().unwrap().values_mut() {
        if response.get("$ref").is_none() {
            response["headers"]["x-request-id"] = header("RequestId");
        }
    }
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// What an operation refuses, by status: the answer, and its name if it is one of several operations.
fn refusals(
    row: &Row,
    operation: &Operation,
    words: &Value,
) -> BTreeMap<String, (Option<String>, Value)> {
    let mut by_status: BTreeMap<_, Vec<Facts>> = BTreeMap::new();
    for facts in own_errors() {
        if row.may_refuse(operation.method, facts.reason) {
            let of_status = by_status.entry(facts.status.as_u16()).or_default();
            if of_status.iter().all(|it| it.reason != facts.reason) {
                of_status.push(facts);
            }
        }
    }
    by_status
        .into_iter()
        .map(|(status, facts)| {
            let reasons: Vec<_> = facts.iter().map(|it| it.reason).collect();
            // Several operations have the same answer, if its reasons are few.
            let name = (reasons.len() <= 2).then(|| format!("{status}-{}", reasons.join("-")));
            (status.to_string(), (name, refusal(status, &facts, words)))
        })
        .collect()
}

/// The answer that refuses for one of the reasons of `facts`.
fn refusal(status: u16, facts: &[Facts], words: &Value) -> Value {
    let reasons: Vec<_> = facts.iter().map(|it| it.reason).collect();
    let told = facts
        .iter()
        .map(|it| format!("`{}`: {}", it.reason, words[it.reason].as_str().unwrap()));
    let mut headers = Map::new();
    headers.insert("x-request-id".to_owned(), header("RequestId"));
    headers.insert("proxy-status".to_owned(), header("ProxyStatus"));
    let mut schema = json!({
        "$ref": "#/components/schemas/Error",
        "properties": { "code": { "const": status }, "reason": { "enum": reasons } },
    });
    if facts.iter().any(|it| it.retry_after.is_some()) {
        assert!(facts.iter().all(|it| it.retry_after.is_some()), "{status}");
        headers.insert("retry-after".to_owned(), header("RetryAfter"));
        schema["required"] = json!(["retryAfterMs"]);
    }
    for (name, _) in facts.iter().filter_map(|it| it.header.as_ref()) {
        headers.insert(name.to_string(), header(name.as_str()));
    }
    json!({
        "description": told.collect::<Vec<_>>().join("; "),
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    })
}

/// Adds refusals to the responses of an operation. Returns those with a name, which several operations share.
fn add_refusals(
    responses: &mut Value,
    refusals: BTreeMap<String, (Option<String>, Value)>,
) -> Vec<(String, Value)> {
    let mut shared = Vec::new();
    for (status, (name, mut response)) in refusals {
        let own = &mut responses[&status];
        if let Some(content) = own.get("content").and_then(Value::as_object) {
            let added = response["content"].as_object_mut().unwrap();
            added.extend(content.clone());
            *own = response;
        } else if let Some(name) = name {
            *own = json!({ "$ref": format!("#/components/responses/{name}") });
            shared.push((name, response));
        } else {
            *own = response;
        }
    }
    shared
}
