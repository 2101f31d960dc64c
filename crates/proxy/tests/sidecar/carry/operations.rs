//! Every operation gets an e-mail only in the place that the vendor documents.

use harness::Running;
use http::Method;
use kling_sim::{JobDuration, Sim};

use super::client::{JSON, exchange, ready};

const EMAIL: &str = "a+1@x";
const IN_QUERY: &str = "email=a%2B1%40x";

/// Where the sidecar puts an e-mail if the client gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query,
    Body,
    Nowhere,
}

use Place::{Body, Nowhere, Query};

/// The table of `upstream.md` §1. The sidecar leaves the e-mail of an account operation alone,
/// because it is the subject, and guesses none for a delete without a known owner.
const OPERATIONS: [(&str, &str, Place); 45] = [
    ("GET", "/accounts", Nowhere),
    ("POST", "/accounts", Nowhere),
    ("GET", "/accounts/a+1@x", Nowhere),
    ("DELETE", "/accounts/nobody@x", Nowhere),
    ("GET", "/scheduler", Nowhere),
    ("GET", "/scheduler/available", Nowhere),
    ("DELETE", "/scheduler/7", Nowhere),
    ("GET", "/tasks", Query),
    ("GET", "/tasks/7", Query),
    ("DELETE", "/tasks/7", Nowhere),
    ("GET", "/tts/voices", Query),
    ("POST", "/tts/create", Body),
    ("GET", "/avatars", Query),
    ("POST", "/avatars", Body),
    ("POST", "/avatars/video", Body),
    ("DELETE", "/avatars/300137233318846", Nowhere),
    ("GET", "/elements", Query),
    ("POST", "/elements", Body),
    ("GET", "/elements/tags", Query),
    ("GET", "/elements/voices", Query),
    ("GET", "/elements/u_1", Query),
    ("DELETE", "/elements/u_1", Nowhere),
    ("GET", "/assets", Query),
    ("GET", "/assets/download", Query),
    ("POST", "/assets", Query),
    ("GET", "/assets/uploaded", Query),
    ("DELETE", "/assets/uploaded", Nowhere),
    ("GET", "/videos/effects", Query),
    ("POST", "/videos/text2video", Body),
    ("POST", "/videos/image2video-frames", Body),
    ("POST", "/videos/image2video-elements", Body),
    ("POST", "/videos/image2video-effects", Body),
    ("POST", "/videos/extend", Body),
    ("POST", "/videos/lipsync", Body),
    ("GET", "/videos/motions", Query),
    ("POST", "/videos/motion-create", Body),
    ("POST", "/videos/motion-upload", Body),
    ("POST", "/videos/add-sound", Body),
    ("POST", "/videos/omni", Body),
    ("POST", "/images/virtual-try-on", Body),
    ("POST", "/images/kolors", Body),
    ("POST", "/images/kolors-elements", Body),
    ("POST", "/images/recognize-faces", Body),
    ("POST", "/images/upscale", Body),
    ("POST", "/images/omni", Body),
];

/// Operations that are in no table. The sidecar must not change them: clients may know newer ones.
const STRANGERS: [(&str, &str); 8] = [
    ("POST", "/mcp"),
    ("GET", "/videos/text2video"),
    ("PUT", "/tasks/7"),
    ("PATCH", "/assets"),
    ("POST", "/videos/kling-4"),
    ("GET", "/tasks/7/works"),
    ("POST", "/videos/text2video/again"),
    ("OPTIONS", "/tasks"),
];

async fn two_accounts() -> Running {
    let sim = Sim::builder().account(EMAIL, 50).account("b@x", 1);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    // Only the first account has free slots, so every job goes there.
    sim.submit_directly("b@x", 1);
    let settings = [("RECONCILE__INTERVAL", "1h"), ("FORWARD__MARK", "off")];
    ready(sim, &settings).await
}

/// Sends a call, and returns query and body as the upstream received them.
async fn received(
    running: &Running,
    method: &str,
    target: &str,
    body: &str,
) -> (Option<String>, String) {
    let method: Method = method.parse().unwrap();
    let target = format!("/v1/kling{target}");
    // The mark tells this call from calls of the sidecar itself.
    let headers = [JSON, ("x-mark", "client")];
    exchange(
        running.addr,
        method.clone(),
        &target,
        &headers,
        body.to_owned(),
    )
    .await;
    let submissions = running.sim.audit().submissions.into_iter();
    let submissions = submissions.map(|it| (it.at, it.head, it.body));
    let requests = running.sim.requests().into_iter();
    let requests = requests.map(|it| (it.at, it.head, it.body));
    let marked = submissions
        .chain(requests)
        .filter(|(_, head, _)| head.headers.contains_key("x-mark"));
    let (_, head, body) = marked.max_by_key(|(at, ..)| *at).unwrap();
    let path = target.split('?').next();
    assert_eq!((head.method, Some(&*head.path)), (method, path));
    (head.query, String::from_utf8(body.to_vec()).unwrap())
}

/// A body for an operation that reads one.
fn body_of(method: &str) -> &'static str {
    if method == "POST" { r#"{"x":1}"# } else { "" }
}

#[tokio::test]
async fn every_operation_gets_an_email_where_it_takes_one_and_nowhere_else() {
    let running = two_accounts().await;
    for (method, path, place) in OPERATIONS {
        let body = body_of(method);
        let expected = match place {
            Query => (Some(IN_QUERY.to_owned()), body.to_owned()),
            Body => (None, format!(r#"{{"email":"{EMAIL}","x":1}}"#)),
            Nowhere => (None, body.to_owned()),
        };
        let received = received(&running, method, path, body).await;
        assert_eq!(received, expected, "{method} {path}");
    }
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn a_query_keeps_its_fields() {
    let running = two_accounts().await;
    let query = "pageSize=5&x=%2F+%20&x&type=personal";
    for (method, path, place) in OPERATIONS {
        let target = format!("{path}?{query}");
        let (received, _) = received(&running, method, &target, body_of(method)).await;
        let expected = match place {
            Query => format!("{query}&{IN_QUERY}"),
            Body | Nowhere => query.to_owned(),
        };
        assert_eq!(received, Some(expected), "{method} {path}");
    }
}

#[tokio::test]
async fn the_clients_own_email_is_kept_everywhere() {
    let running = two_accounts().await;
    for (method, path, place) in OPERATIONS {
        let (query, body) = match place {
            Body => ("", r#"{"x":1, "email":"a+1@x"}"#),
            Query | Nowhere => ("?email=a%2b1@x", body_of(method)),
        };
        let received = received(&running, method, &format!("{path}{query}"), body).await;
        let expected = query.strip_prefix('?').map(str::to_owned);
        assert_eq!(received, (expected, body.to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_in_no_table_passes_as_it_came() {
    let running = two_accounts().await;
    let body = r#"{"x":1}"#;
    for (method, path) in STRANGERS {
        for query in ["", "?x=1"] {
            let received = received(&running, method, &format!("{path}{query}"), body).await;
            let expected = query.strip_prefix('?').map(str::to_owned);
            assert_eq!(received, (expected, body.to_owned()), "{method} {path}");
        }
    }
}
