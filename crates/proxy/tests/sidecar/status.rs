//! `/status`: every member with a real cause, and a tag that says whether anything happened.

use std::sync::Arc;

use harness::{Answer, Running, eventually, manual, send, with_accounts, within};
use http::{Method, StatusCode};
use jiff::Timestamp;
use kling_sim::{Effect, Fault};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

const JOB: &str = "/v1/kling/videos/text2video";
const JSON: (&str, &str) = ("content-type", "application/json");
const STUDIO: (&str, &str) = ("authorization", "Bearer first-client-token");
const VIEWER: (&str, &str) = ("authorization", "Bearer token-that-only-looks");

/// Nothing happens by itself: no list is fetched, and no round is sent.
const QUIET: [(&str, &str); 2] = [
    ("ACCOUNTS__REFRESH_INTERVAL", "1h"),
    ("RECONCILE__INTERVAL", "0s"),
];

async fn status(running: &Running) -> Value {
    let answer = running.get("/status").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

async fn asked(running: &Running, tag: &str) -> Answer {
    let known = [("if-none-match", tag)];
    running.send(Method::GET, "/status", &known, "").await
}

#[track_caller]
fn time(value: &Value) -> Timestamp {
    let time = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no time"));
    time.parse().unwrap()
}

#[track_caller]
fn names(object: &Value) -> Vec<&str> {
    let object = object.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

/// A file with these lines.
fn file(lines: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    file
}

/// A sidecar with something of everything: `a` is full, `b` has a lost submission and a pick, `c` is drained, `d` is
/// quarantined, and a job start waits for `a`.
struct Busy {
    running: Arc<Running>,
    shown: Value,
    /// The job on `a`.
    task_id: String,
    pick: Value,
    waiter: JoinHandle<Answer>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.waiter.abort();
    }
}

async fn busy() -> Busy {
    let (clients, viewers) = (
        file("studio first-client-token\n"),
        file("viewer token-that-only-looks\n"),
    );
    let accounts = [("a@x", 1), ("b@x", 2), ("c@x", 1), ("d@x", 1)];
    let settings = [
        ("AUTH__TOKENS_FILE", clients.path().to_str().unwrap()),
        ("AUTH__READ_TOKENS_FILE", viewers.path().to_str().unwrap()),
        ("RECONCILE__INTERVAL", "1h"),
    ];
    let running = Arc::new(Running::configured(&accounts, &settings).await);
    let start = async |email: &str| {
        let body = format!(r#"{{"prompt":"a boat","email":"{email}"}}"#);
        let headers = [JSON, STUDIO];
        running.send(Method::POST, JOB, &headers, &body).await
    };
    let task_id = start("a@x").await.json()["task"]["id"].to_string();
    let lost = Fault::new(Effect::ResetBefore).on_job_starts();
    running.sim.fault(lost.account("b@x").times(1));
    assert_eq!(start("b@x").await.status, StatusCode::BAD_GATEWAY);
    let drain = running.send(Method::POST, "/accounts/c@x/drain", &[STUDIO], "");
    assert_eq!(drain.await.status, StatusCode::OK);
    let broken = Fault::status(596).on_job_starts();
    running.sim.fault(broken.account("d@x").times(1));
    assert_eq!(start("d@x").await.status.as_u16(), 596);
    let picked = running.send(Method::GET, "/pick?email=b@x", &[STUDIO], "");
    let pick = picked.await.lease();
    let waiter = {
        let addr = running.addr;
        tokio::spawn(async move {
            let headers = [JSON, STUDIO, ("x-kling-wait", "60s")];
            let body = r#"{"prompt":"a boat","email":"a@x"}"#;
            send(addr, Method::POST, JOB, &headers, body).await
        })
    };
    let shown = eventually(async || {
        let shown = running
            .send(Method::GET, "/status", &[VIEWER], "")
            .await
            .json();
        (shown["waiting"]["count"] == 1).then_some(shown)
    })
    .await;
    Busy {
        running,
        shown,
        task_id,
        pick,
        waiter,
    }
}

#[tokio::test]
async fn it_begins_with_how_it_is() {
    let busy = busy().await;
    let (running, shown) = (&busy.running, &busy.shown);
    let members = [
        "accounts",
        "events",
        "history",
        "instance",
        "leases",
        "list",
        "medianJobMs",
        "ready",
        "reasons",
        "restart",
        "role",
        "round",
        "slots",
        "upSince",
        "upstream",
        "version",
        "waiters",
        "waiting",
    ];
    assert_eq!(names(shown), members);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    let port = format!(":{}", running.addr.port());
    assert!(
        shown["instance"].as_str().unwrap().ends_with(&port),
        "{shown}"
    );
    assert_eq!(
        (&shown["ready"], &shown["reasons"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(shown["role"], "single");
    assert_eq!(shown["slots"], json!({"inFlight": 3, "max": 5}));
    assert_eq!(shown["upstream"], json!({"isReachable": true}));
    assert_eq!(
        (&shown["list"]["error"], &shown["round"]["error"]),
        (&Value::Null, &Value::Null)
    );
    let up_since = time(&shown["upSince"]);
    for later in [&shown["round"]["sentAt"], &shown["list"]["fetchedAt"]] {
        assert!(up_since <= time(later), "{shown}");
    }
}

#[tokio::test]
async fn accounts_and_leases_are_shown_as_elsewhere() {
    let busy = busy().await;
    let (running, shown) = (&busy.running, &busy.shown);
    let rows = running
        .send(Method::GET, "/accounts", &[VIEWER], "")
        .await
        .json();
    let rows = rows["accounts"].as_array().unwrap();
    for (row, same) in shown["accounts"].as_array().unwrap().iter().zip(rows) {
        assert_eq!(names(row), names(same));
    }
    let states = shown["accounts"].as_array().unwrap().iter();
    let states: Vec<_> = states.map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["full", "full", "draining", "quarantined"]);
    let leases = shown["leases"].as_array().unwrap();
    let of = leases.iter().map(|lease| {
        let text = |name: &str| lease[name].as_str().unwrap_or_default().to_owned();
        (text("email"), text("state"), text("kind"), text("taskId"))
    });
    let [a, b] = ["a@x", "b@x"].map(str::to_owned);
    let word = str::to_owned;
    let expected = [
        (a, word("bound"), word("forward"), busy.task_id.clone()),
        (b.clone(), word("uncertain"), word("forward"), word("")),
        (b, word("reserved"), word("pick"), word("")),
    ];
    assert!(of.eq(expected), "{leases:?}");
    assert_eq!(leases[2]["leaseId"], busy.pick["leaseId"]);
}

#[tokio::test]
async fn who_waits_what_happened_and_what_a_restart_would_cost_is_shown() {
    let busy = busy().await;
    let shown = &busy.shown;
    let waiting = &shown["waiters"][0];
    assert_eq!(waiting["since"], shown["waiting"]["oldestSince"]);
    let left = time(&waiting["deadline"]).duration_since(time(&waiting["since"]));
    assert!((50..=60).contains(&left.as_secs()), "{left}");
    let mut waiting = waiting.clone();
    waiting["since"].take();
    waiting["deadline"].take();
    let expected = json!({
        "position": 1, "operation": "/videos/text2video", "email": "a@x", "client": "studio",
        "since": null, "deadline": null,
    });
    assert_eq!(waiting, expected);
    let events = shown["events"].as_array().unwrap();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    for kind in [
        "sidecar-started",
        "job-started",
        "submission-lost",
        "account-state",
    ] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    assert!(events.is_sorted_by_key(|event| event["id"].as_u64()));
    let point = &shown["history"][0];
    assert_eq!(names(point), ["at", "inFlight", "max", "waiting"]);
    assert_eq!((&point["max"], &point["waiting"]), (&json!(5), &json!(0)));
    let because = [
        "1 call waiting for a slot",
        "1 pick without a job",
        "1 submission with an unknown outcome",
        "1 drained account",
    ];
    assert_eq!(
        shown["restart"],
        json!({"isSafe": false, "because": because})
    );
}

#[tokio::test]
async fn how_long_jobs_take_is_learnt_from_their_ends() {
    let settings = [("RECONCILE__INTERVAL", "100ms")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    assert_eq!(status(&running).await["medianJobMs"], json!({}));
    running.post(JOB, r#"{"prompt":"a boat"}"#).await;
    running.sim.finish_all();
    let took = eventually(async || {
        let shown = status(&running).await;
        shown["medianJobMs"]["/videos/text2video"].as_u64()
    })
    .await;
    assert!(took < 60_000, "{took} ms");
}

#[tokio::test]
async fn why_it_is_not_ready_is_told_in_the_words_of_readyz() {
    let sim = with_accounts(&[]).start().await.unwrap();
    let running = Running::beside(sim, &QUIET).await;
    let refused = running
        .until(|it| it.json()["reason"] == "no-accounts")
        .await;
    let shown = status(&running).await;
    assert_eq!(shown["ready"], false);
    assert_eq!(shown["reasons"], json!([refused.json()["error"]]));
    assert!(shown["list"]["error"].is_string(), "{shown}");
    assert_eq!(shown["restart"], json!({"isSafe": true, "because": []}));
}

/// After a text was made there is none for so many times as long as that took (`api/status/board.rs`).
const REST_FACTOR: u32 = 20;

/// The only client that asks for `/status`. So it sees each text being made.
struct Page<'a> {
    running: &'a Running,
    /// Of the text that it has.
    tag: String,
    /// Until then nothing new is made, whatever happens.
    rests_until: Instant,
}

impl<'a> Page<'a> {
    /// One that has seen everything, the start included.
    async fn open(running: &'a Running) -> Self {
        let mut page = Self {
            running,
            tag: String::new(),
            rests_until: Instant::now(),
        };
        within(async { while !page.has_started().await {} }).await;
        page.settle().await;
        page
    }

    /// Whether all is shown that a start brings.
    async fn has_started(&mut self) -> bool {
        let shown = self.ask("\"0\"").await.json();
        let mut events = shown["events"].as_array().unwrap().iter();
        events.any(|event| event["type"] == "ready") && shown["history"][0].is_object()
    }

    async fn ask(&mut self, known: &str) -> Answer {
        let begun = Instant::now();
        let answer = asked(self.running, known).await;
        let tag = answer.header("etag");
        if tag != self.tag {
            self.tag = tag.to_owned();
            self.rests_until = Instant::now() + REST_FACTOR * begun.elapsed();
        }
        answer
    }

    /// Asks once. Whether there is a new text.
    async fn is_new(&mut self) -> bool {
        let before = self.tag.clone();
        let answer = self.ask(&before).await;
        let is_new = answer.status != StatusCode::NOT_MODIFIED;
        assert_eq!(is_new, self.tag != before);
        is_new
    }

    /// Asks until there is nothing new, and not just because nothing new is made yet. Whether there was something new.
    async fn settle(&mut self) -> bool {
        let mut was_new = false;
        within(async {
            loop {
                let may_be_new = Instant::now() >= self.rests_until;
                let is_new = self.is_new().await;
                was_new |= is_new;
                if may_be_new && !is_new {
                    return;
                }
            }
        })
        .await;
        was_new
    }

    /// Asks until there is something new, and then until there is nothing more.
    async fn change(&mut self) {
        within(async { while !self.is_new().await {} }).await;
        self.settle().await;
    }
}

#[tokio::test]
async fn the_tag_stays_while_nothing_happens_and_changes_when_something_does() {
    let running = Arc::new(Running::configured(&[("a@x", 1), ("b@x", 1)], &QUIET).await);
    let mut page = Page::open(&running).await;
    let a = running.pick("?email=a@x").await;
    page.change().await;
    let b = running.pick("?email=b@x").await;
    page.change().await;
    // What is refused or only looked at changes nothing.
    running.get("/pick").await.assert_refused(429, "saturated");
    for path in [
        "/accounts",
        "/leases",
        "/jobs",
        "/pick?dryRun=true",
        "/readyz",
    ] {
        running.get(path).await;
    }
    assert!(!page.settle().await);
    let waiting = Arc::clone(&running);
    let waiter = tokio::spawn(async move { waiting.get("/pick?wait=60s").await });
    page.change().await;
    waiter.abort();
    page.change().await;
    let path = format!("/leases/{}", a["leaseId"].as_str().unwrap());
    running.put(&path, r#"{"taskId":"7"}"#).await;
    page.change().await;
    running.release(&b).await;
    page.change().await;
    for path in ["/accounts/a@x/drain", "/accounts/a@x/resume"] {
        assert_eq!(running.post(path, "").await.status, StatusCode::OK);
        page.change().await;
    }
    let refused = Fault::status(400).on_job_starts();
    running.sim.fault(refused.account("b@x").times(1));
    running
        .post(JOB, r#"{"prompt":"a boat","email":"b@x"}"#)
        .await;
    page.change().await;
    running.sim.set_account("c@x", 1);
    // An account that is not known asks for the list.
    running
        .post(JOB, r#"{"prompt":"a boat","email":"c@x"}"#)
        .await;
    page.change().await;
    eventually(async || {
        let shown = asked(&running, "\"0\"").await.json();
        (shown["accounts"][2]["email"] == "c@x").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_known_text_is_not_sent_again() {
    let running = Running::configured(&[("a@x", 1)], &QUIET).await;
    let tag = Page::open(&running).await.tag;
    let known = asked(&running, &format!("\"0\", W/{tag}")).await;
    assert_eq!((known.status, &*known.text), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(
        (known.header("etag"), known.header("cache-control")),
        (&*tag, "no-cache")
    );
    assert!(!known.headers.contains_key("content-type"));
    let whole = running.get("/status").await;
    assert_eq!(
        (whole.header("etag"), whole.header("cache-control")),
        (&*tag, "no-cache")
    );
    assert_eq!(whole.header("content-type"), "application/json");
    let head = running.send(Method::HEAD, "/status", &[], "").await;
    assert_eq!((head.header("etag"), &*head.text), (&*tag, ""));
    assert_eq!(head.header("content-length"), whole.text.len().to_string());
    running
        .post("/status", "")
        .await
        .assert_refused(405, "method-not-allowed");
    running
        .get("/status?x=1")
        .await
        .assert_refused(400, "bad-request");
}

#[tokio::test]
async fn many_who_ask_share_one_text() {
    let accounts: Vec<_> = (0..2_000).map(|n| format!("{n:04}@x")).collect();
    let accounts: Vec<_> = accounts.iter().map(|email| (&**email, 1)).collect();
    let sim = manual(&accounts).start().await.unwrap();
    let running = Arc::new(Running::beside(sim, &QUIET).await);
    running.until(|it| it.status == StatusCode::OK).await;
    Page::open(&running).await;
    running.pick("").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let running = Arc::clone(&running);
        asking.spawn(async move { running.get("/status").await });
    }
    let answers = asking.join_all().await;
    let mut tags: Vec<_> = answers.iter().map(|it| it.header("etag")).collect();
    tags.sort_unstable();
    tags.dedup();
    // The one before the pick, and the one after it.
    assert!(tags.len() <= 2, "{tags:?}");
    let newest = status(&running).await;
    assert_eq!(newest["accounts"].as_array().unwrap().len(), 2_000);
    assert_eq!(newest["slots"]["max"], 2_000);
}
