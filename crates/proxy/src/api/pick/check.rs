//! What must hold for the parameters of every pick, by comparison with parsers that are not ours.

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};

use super::*;

const SELECTION: Selection = Selection {
    wait: Duration::ZERO,
    wait_max: Duration::from_secs(600),
    waiters_max: 10,
};
const LEASES: Leases = Leases {
    ttl: Duration::from_secs(60),
    ttl_max: Duration::from_secs(3600),
    job_ttl: Duration::from_secs(3900),
};

/// `data` as a pick: its first line is the query, the rest the body.
///
/// # Panics
/// If a parameter is read that is not given, or one that is given is not read.
pub fn params(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == b'\n');
    let query = String::from_utf8_lossy(halves.next().unwrap_or_default());
    let body = halves.next().unwrap_or_default();
    let in_query = Params::from_query(&query);
    if let Ok(params) = &in_query {
        query_is_read(&query, params);
        assert_eq!(
            Params::from_query(&query_of(params)).ok().as_ref(),
            Some(params)
        );
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let in_body = params::read_object::<Params>(&headers, body);
    if let Ok(params) = &in_body {
        body_is_read(body, params);
    }
    let joined = in_query.and_then(|query| query.join(in_body?));
    let request = joined.and_then(|params| {
        let named = params.email.clone();
        let excluded = params.exclude.clone().unwrap_or_default();
        let caller = pool::Caller::default();
        let request = params.request(&SELECTION, &LEASES, caller)?;
        Ok((request, named, excluded))
    });
    match request {
        Ok((request, named, excluded)) => within_limits(&request, named.as_deref(), &excluded),
        Err(Error::BadRequest { field, expected }) => {
            assert!(!field.is_empty() && !expected.is_empty());
            assert!(field.chars().count() <= 64, "{field}");
        }
        Err(error) => unreachable!("{error}"),
    }
}

fn within_limits(request: &PickRequest, named: Option<&str>, excluded: &[String]) {
    assert!(request.wait <= SELECTION.wait_max, "{request:?}");
    let ttl = request.ttl.expect("a pick has a ttl");
    assert!((TTL_MIN..=LEASES.ttl_max).contains(&ttl), "{ttl:?}");
    let given = request.email.as_ref().map(|name| &**name.given());
    assert_eq!(given, named);
    assert!(given != Some("") && request.exclude.len() <= EXCLUDE_MAX);
    assert!(request.exclude.is_sorted());
    let mut names: Vec<_> = request.exclude.iter().map(|name| &**name.given()).collect();
    let mut excluded: Vec<_> = excluded.iter().map(|email| &**email).collect();
    names.sort_unstable();
    excluded.sort_unstable();
    assert_eq!(names, excluded);
    assert!(!names.contains(&"") && given.is_none_or(|given| !names.contains(&given)));
}

/// A parser of forms reads the same, if plus signs are told to it as such.
fn query_is_read(query: &str, params: &Params) {
    let query = query.replace('+', "%2B");
    let (mut email, mut wait, mut ttl, mut dry_run) = (None, None, None, None);
    let mut exclude = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*name {
            "email" => email = Some(value),
            "wait" => wait = Some(value),
            "ttl" => ttl = Some(value),
            "dryRun" => dry_run = Some(value),
            "exclude" => exclude.push(value),
            name => unreachable!("{name} is no parameter"),
        }
    }
    let expected = Params {
        email,
        exclude: (!exclude.is_empty()).then_some(exclude),
        wait,
        ttl,
        dry_run: dry_run.map(|flag| flag == "true"),
    };
    assert_eq!(params, &expected);
}

fn query_of(params: &Params) -> String {
    let Params {
        email,
        exclude,
        wait,
        ttl,
        dry_run,
    } = params;
    let mut query = form_urlencoded::Serializer::new(String::new());
    let flag = dry_run.map(|flag| flag.to_string());
    let single = [
        ("email", email),
        ("wait", wait),
        ("ttl", ttl),
        ("dryRun", &flag),
    ];
    for (name, value) in single {
        query.extend_pairs(value.iter().map(|value| (name, value)));
    }
    query.extend_pairs(exclude.iter().flatten().map(|email| ("exclude", email)));
    // A plus sign stands for itself in our queries.
    query.finish().replace('+', "%20")
}

fn body_is_read(body: &[u8], params: &Params) {
    if body.is_empty() {
        assert_eq!(params, &Params::default());
        return;
    }
    let given: Map<String, Value> = serde_json::from_slice(body).expect("it was read as an object");
    let text = |name: &str| given.get(name).and_then(Value::as_str).map(str::to_owned);
    let exclude = given.get("exclude").and_then(Value::as_array);
    let exclude = exclude.map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned));
    let expected = Params {
        email: text("email"),
        exclude: exclude.map(Iterator::collect),
        wait: text("wait"),
        ttl: text("ttl"),
        dry_run: given.get("dryRun").and_then(Value::as_bool),
    };
    assert_eq!(params, &expected);
    let known = |name: &String| matches!(&**name, "email" | "exclude" | "wait" | "ttl" | "dryRun");
    assert!(given.keys().all(known), "an unknown field was read");
}
