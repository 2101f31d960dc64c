//! Calls that name a thing go to the account that owns it, though the client names no account.

use harness::{Running, Slots, eventually, manual};
use http::Method;
use kling_sim::{AccountAudit, Fault, Outcome, RequestSeen, Sim, Submission};
use serde_json::{Value, json};

use super::client::{JOB, JSON, Raw, exchange, ready, until_slots};

const THREE: [(&str, u32); 3] = [("a@x", 4), ("b@x", 4), ("c@x", 4)];
pub(super) const ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "100ms");
pub(super) const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");
const PNG: (&str, &str) = ("content-type", "image/png");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=xyz");
const LONG: (&str, &str) = ("x-kling-wait", "20s");

pub(super) async fn three(settings: (&str, &str)) -> Running {
    with(&THREE, settings).await
}

async fn with(accounts: &[(&str, u32)], settings: (&str, &str)) -> Running {
    let sim = manual(accounts).start().await.unwrap();
    ready(sim, &[settings]).await
}

/// How a client writes bodies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    Json,
    Form,
}

/// The fields of a JSON object as parts of a form.
fn form(fields: &Value) -> String {
    let fields = fields.as_object().unwrap().iter();
    let parts = fields.map(|(name, value)| {
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    parts.collect::<String>() + "--xyz--\r\n"
}

pub(super) async fn call(running: &Running, method: Method, path: &str) -> Raw {
    let path = format!("/v1/kling{path}");
    exchange(running.addr, method, &path, &[], "").await
}

pub(super) async fn post(running: &Running, style: Style, path: &str, fields: &Value) -> Raw {
    let path = format!("/v1/kling{path}");
    let (header, body) = match style {
        Style::Json => (JSON, fields.to_string()),
        Style::Form => (FORM, form(fields)),
    };
    exchange(running.addr, Method::POST, &path, &[header, LONG], body).await
}

/// Starts a job under the idempotency key `k`.
pub(super) async fn keyed_post(running: &Running, style: Style, fields: &Value) -> Raw {
    let (header, body) = match style {
        Style::Json => (JSON, fields.to_string()),
        Style::Form => (FORM, form(fields)),
    };
    let headers = [header, LONG, ("idempotency-key", "k")];
    exchange(running.addr, Method::POST, JOB, &headers, body).await
}

/// Posts without waiting for a slot.
async fn post_at_once(running: &Running, path: &str, fields: &Value) -> Raw {
    let path = format!("/v1/kling{path}");
    exchange(
        running.addr,
        Method::POST,
        &path,
        &[JSON],
        fields.to_string(),
    )
    .await
}

async fn upload(running: &Running, query: &str) -> Raw {
    let path = format!("/v1/kling/assets/{query}");
    exchange(running.addr, Method::POST, &path, &[PNG], "PNG").await
}

/// The account of an answer, which must be a success.
#[track_caller]
pub(super) fn account(answer: &Raw) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-kling-account")
}

#[track_caller]
fn started(answer: &Raw) -> i64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["task"]["id"].as_i64().unwrap()
}

/// The requests for a path that are no job starts, oldest first.
pub(super) fn asked(sim: &Sim, method: &Method, path: &str) -> Vec<RequestSeen> {
    let path = format!("/v1/kling{path}");
    let requests = sim.requests().into_iter();
    let asked = requests.filter(|seen| seen.head.path == path && seen.head.method == *method);
    asked.collect()
}

fn submissions(sim: &Sim) -> Vec<Submission> {
    sim.audit().submissions
}

/// An avatar and an element of an account, made by a client that names it.
async fn made_by(running: &Running, email: &str) -> (Value, Value) {
    let who = json!({"email": email, "name": "Ann"});
    let avatar = post(running, Style::Json, "/avatars", &who).await.json();
    let element = post(running, Style::Form, "/elements", &who).await.json();
    (avatar["id"].clone(), element["element"]["id"].clone())
}

/// A finished task of an account, polled once.
async fn task_of(running: &Running, email: &str) -> Value {
    let fields = json!({"email": email, "prompt": "p"});
    let id = started(&post(running, Style::Json, "/videos/text2video", &fields).await);
    assert!(running.sim.finish(id));
    let task = call(running, Method::GET, &format!("/tasks/{id}")).await;
    assert_eq!(account(&task), email);
    task.json()
}

/// Uses everything that it makes, as a client of one account does.
async fn work(running: &Running, style: Style) {
    let job = async |path: &str, fields: Value| {
        let answer = post(running, style, path, &fields).await;
        let id = started(&answer);
        assert!(running.sim.finish(id));
        (id, account(&answer).to_owned())
    };
    let uploaded = upload(running, "").await;
    let url = uploaded.json()["url"].clone();
    let keeper = account(&uploaded).to_owned();
    let frames = json!({"image": url, "prompt": "a boat"});
    job("/videos/image2video-frames", frames).await;
    let (task_id, owner) = job("/videos/text2video", json!({"prompt": "a boat"})).await;
    let path = format!("/tasks/{task_id}");
    let task = call(running, Method::GET, &path).await.json();
    let work_id = task["works"][0]["workId"].clone();
    let (_, extended) = job("/videos/extend", json!({"task_id": task_id})).await;
    let upscaled = json!({"task_id": task_id, "workId": work_id});
    let (_, upscaled) = job("/images/upscale", upscaled).await;
    let video = task["works"][0]["resource"]["resource"].clone();
    job("/videos/add-sound", json!({"video": video})).await;
    assert_eq!([&extended, &upscaled], [&owner; 2]);

    let avatar = post(running, style, "/avatars", &json!({"name": "Ann"})).await;
    let avatar = avatar.json()["id"].clone();
    job("/avatars/video", json!({"avatarId": avatar, "prompt": "p"})).await;
    let element = post(running, style, "/elements", &json!({"name": "Ann"})).await;
    let element = element.json()["element"]["id"].clone();
    job("/videos/omni", json!({"element_3": element, "prompt": "p"})).await;
    let speech = post(running, style, "/tts/create", &json!({"text": "hello"})).await;
    let audio = speech.json()["resource"]["resource"].clone();
    job("/videos/lipsync", json!({"audio": audio, "prompt": "p"})).await;

    let download = format!("/assets/download?workIds={work_id}&fileTypes=MP4");
    assert_eq!(account(&call(running, Method::GET, &download).await), owner);
    let (avatar, element) = (avatar.as_str().unwrap(), element.as_str().unwrap());
    let shown = call(running, Method::GET, &format!("/elements/{element}")).await;
    assert_eq!(shown.json()["element"]["id"], element);
    for path in [
        path,
        format!("/avatars/{avatar}"),
        format!("/elements/{element}/"),
    ] {
        account(&call(running, Method::DELETE, &path).await);
    }
    let path = format!("/assets/uploaded?email={keeper}");
    let listed = call(running, Method::GET, &path).await.json();
    let mut listed = listed["uploadAssetsList"].as_array().unwrap().iter();
    let listed = listed.find(|file| file["resource"]["resource"] == url);
    let listed = listed.unwrap()["id"].clone();
    let path = format!("/assets/uploaded/?id={}", listed.as_str().unwrap());
    assert_eq!(account(&call(running, Method::DELETE, &path).await), keeper);
}

#[tokio::test]
async fn a_client_of_one_account_uses_all_that_it_makes() {
    let running = three(ROUNDS).await;
    let client = async || {
        for _ in 0..8 {
            for style in [Style::Json, Style::Form] {
                work(&running, style).await;
            }
        }
    };
    tokio::join!(client(), client(), client());
    let audit = running.sim.audit();
    assert_eq!((audit.over_limit(), audit.submission_count), (0, 48 * 8));
    // In one of a hundred million runs, 48 draws leave one account out.
    let is_used = |account: &AccountAudit| account.accepted > 0;
    assert!(audit.accounts.iter().all(is_used), "{audit}");
    let accepted = audit.submissions.iter();
    assert!(
        accepted
            .map(|it| it.outcome)
            .all(|outcome| matches!(outcome, Outcome::Accepted(_)))
    );
}

#[tokio::test]
async fn an_id_goes_to_its_owner_whatever_its_place_in_the_body() {
    let running = three(ROUNDS).await;
    for email in ["b@x", "c@x"] {
        let (avatar, element) = made_by(&running, email).await;
        let task = task_of(&running, email).await;
        let (task_id, work_id) = (&task["task"]["id"], &task["works"][0]["workId"]);
        let cases = [
            ("/avatars/video", json!({"avatarId": avatar})),
            (
                "/videos/omni",
                json!({"element_7": element, "element_1": "o_1"}),
            ),
            ("/videos/extend", json!({"task_id": task_id})),
            ("/videos/extend", json!({"task_id": task_id.to_string()})),
            ("/images/upscale", json!({"workId": work_id})),
        ];
        for (path, fields) in cases {
            for style in [Style::Json, Style::Form] {
                for _ in 0..3 {
                    let answer = post(&running, style, path, &fields).await;
                    assert_eq!(account(&answer), email, "{path} {fields}");
                    running.sim.finish_all();
                }
            }
        }
    }
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn what_belongs_to_two_accounts_is_refused_and_both_are_named() {
    let running = three(NO_ROUNDS).await;
    let (avatar, _) = made_by(&running, "a@x").await;
    let (_, element) = made_by(&running, "b@x").await;
    let count = submissions(&running.sim).len();
    let fields = json!({"prompt": "p", "avatarId": avatar, "element_1": element});
    for style in [Style::Json, Style::Form] {
        let refused = post(&running, style, "/avatars/video", &fields)
            .await
            .text();
        refused.assert_refused(400, "bad-request");
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        for named in ["avatarId", "element_1", "a@x", "b@x"] {
            assert!(error.contains(named), "{error}");
        }
    }
    assert_eq!(submissions(&running.sim).len(), count, "nothing was sent");
    // Lists in a query.
    let works: Vec<_> = [
        task_of(&running, "a@x").await,
        task_of(&running, "b@x").await,
    ]
    .map(|task| task["works"][0]["workId"].to_string())
    .into();
    let mut ids = Vec::new();
    for email in ["b@x", "c@x"] {
        let file = upload(&running, &format!("?email={email}")).await;
        assert_eq!(account(&file), email);
        let path = format!("/assets/uploaded?email={email}");
        let list = call(&running, Method::GET, &path);
        let list = list.await.json();
        ids.push(
            list["uploadAssetsList"][0]["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    for (method, path, list, owners) in [
        (
            Method::GET,
            "/assets/download?workIds=",
            works,
            ["a@x", "b@x"],
        ),
        (Method::DELETE, "/assets/uploaded?id=", ids, ["b@x", "c@x"]),
    ] {
        let query = format!("{path}{}", list.join("%2C"));
        let refused = call(&running, method.clone(), &query).await.text();
        refused.assert_refused(400, "bad-request");
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        for named in owners.into_iter().chain(list.iter().map(String::as_str)) {
            assert!(error.contains(named), "{error}");
        }
        // An unknown id beside them changes nothing: the upstream judges it.
        let mixed = format!("{path}7,{}", list[1]);
        let answer = call(&running, method, &mixed).await;
        assert_eq!(answer.header("x-kling-account"), owners[1]);
    }
}

#[tokio::test]
async fn the_clients_own_email_wins_over_every_owner() {
    let running = three(NO_ROUNDS).await;
    let (avatar, _) = made_by(&running, "a@x").await;
    let (_, element) = made_by(&running, "b@x").await;
    let file = upload(&running, "?email=a@x").await.json();
    let both = json!({"avatarId": avatar, "element_1": element, "email": "c@x"});
    let answer = post(&running, Style::Form, "/avatars/video", &both).await;
    assert_eq!(answer.status, 404, "the upstream's own word: {answer:?}");
    assert_eq!(answer.header("x-kling-account"), "c@x");
    let image = json!({"image": file["url"], "prompt": "p", "email": "c@x"});
    let answer = post(&running, Style::Json, "/videos/image2video-frames", &image).await;
    assert_eq!(account(&answer), "c@x");
    let path = format!("/avatars/{}?email=C@X", avatar.as_str().unwrap());
    let answer = call(&running, Method::DELETE, &path).await;
    assert_eq!(answer.status, 404);
    let path = format!("/elements/{}?email=c@x", element.as_str().unwrap());
    let answer = call(&running, Method::GET, &path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-account")),
        (404, "c@x")
    );
}

#[tokio::test]
async fn an_id_waits_for_its_owner_while_others_are_free() {
    let running = with(&[("a@x", 1), ("b@x", 9), ("c@x", 9)], ROUNDS).await;
    let (avatar, _) = made_by(&running, "a@x").await;
    let fields = json!({"avatarId": avatar, "prompt": "p"});
    let first = post(&running, Style::Json, "/avatars/video", &fields).await;
    assert_eq!(account(&first), "a@x");
    let refused = post_at_once(&running, "/avatars/video", &fields).await;
    refused.text().assert_refused(429, "saturated");
    let waiting = post(&running, Style::Form, "/avatars/video", &fields);
    let free = async {
        running
            .until_metric("kling_balancer_waiters", |count| count == 1.0)
            .await;
        assert!(running.sim.finish(started(&first)));
    };
    let (second, ()) = tokio::join!(waiting, free);
    assert_eq!(account(&second), "a@x");
    let audit = running.sim.audit();
    assert_eq!((audit.submission_count, audit.over_limit()), (2, 0));
}

#[tokio::test]
async fn an_id_is_never_moved_to_another_account() {
    let running = three(NO_ROUNDS).await;
    let (avatar, element) = made_by(&running, "b@x").await;
    running
        .sim
        .fault(Fault::status(429).on("POST", "/videos/omni").account("b@x"));
    let fields = json!({"element_1": element, "avatarId": avatar});
    let answer = post_at_once(&running, "/videos/omni", &fields).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-attempts")),
        (429, "1")
    );
    assert_eq!(answer.header("x-kling-account"), "b@x");
    assert_eq!(submissions(&running.sim).len(), 1);
    // A job does not leave a drained owner either.
    let drained = running.post("/accounts/b@x/drain", "").await;
    assert_eq!(drained.status, 200);
    let refused = post_at_once(&running, "/videos/omni", &fields).await;
    refused.text().assert_refused(503, "no-usable-account");
    assert_eq!(submissions(&running.sim).len(), 1);
}

#[tokio::test]
async fn an_id_of_an_account_that_left_the_list_is_the_upstreams_to_judge() {
    let running = three(NO_ROUNDS).await;
    let (avatar, _) = made_by(&running, "b@x").await;
    running.sim.remove_account("b@x");
    eventually(async || (running.get("/accounts/b@x").await.status == 404).then_some(())).await;
    let fields = json!({"avatarId": avatar});
    let answer = post(&running, Style::Json, "/avatars/video", &fields).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(answer.header("x-kling-account"), "b@x");
    assert_eq!(submissions(&running.sim).len(), 1, "nobody else was asked");
}

#[tokio::test]
async fn an_unknown_task_of_a_job_start_is_asked_for() {
    let sim = manual(&THREE).start().await.unwrap();
    let id = sim.submit_directly("c@x", 1)[0];
    assert!(sim.finish(id));
    let running = ready(sim, &[NO_ROUNDS]).await;
    for style in [Style::Form, Style::Json] {
        let fields = json!({"task_id": id.get(), "workId": id.get()});
        let answer = post(&running, style, "/images/upscale", &fields).await;
        assert_eq!(account(&answer), "c@x");
    }
    // The upstream refuses a task that no account has.
    let unknown = json!({"task_id": 7});
    let answer = post(&running, Style::Json, "/videos/extend", &unknown).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"], "No works found for task 7");
    // The sidecar does not guess if it cannot ask an account.
    let count = submissions(&running.sim).len();
    running.sim.fault(
        Fault::status(500)
            .on("GET", "/tasks/{task_id}")
            .account("b@x"),
    );
    let unknown = json!({"task_id": 8});
    let refused = post_at_once(&running, "/videos/extend", &unknown).await;
    refused.text().assert_refused(503, "owner-unknown");
    assert_eq!(submissions(&running.sim).len(), count);
}

#[tokio::test]
async fn a_file_prefers_its_owner_while_it_has_a_free_slot() {
    let running = with(&[("a@x", 9), ("b@x", 2), ("c@x", 9)], NO_ROUNDS).await;
    let file = upload(&running, "?email=b@x").await.json();
    // The same as a signed URL, whose query differs each time.
    let url = format!("{}?sign=7", file["url"].as_str().unwrap());
    let fields = json!({"prompt": "p", "image_tail": "https://other.example/x.png", "image": url});
    let path = "/videos/image2video-frames";
    for style in [Style::Json, Style::Form] {
        let answer = post(&running, style, path, &fields).await;
        assert_eq!(account(&answer), "b@x");
    }
    // The job start does not wait while other accounts have free slots.
    let third = post_at_once(&running, path, &fields).await;
    assert_ne!(account(&third), "b@x");
    assert_eq!(submissions(&running.sim).len(), 3);
}

#[tokio::test]
async fn a_file_is_used_elsewhere_when_its_owner_takes_no_jobs() {
    let running = three(ROUNDS).await;
    let path = "/videos/image2video-frames";
    let file = upload(&running, "?email=b@x").await.json();
    let fields = json!({"prompt": "p", "image": file["url"]});
    for status in [429, 412, 596] {
        // After a refusal by the owner it moves, as every job does that names no account.
        let refusal = Fault::status(status).on("POST", path).account("b@x");
        running.sim.fault(refusal.times(1));
        for attempts in ["2", "1"] {
            let answer = post(&running, Style::Json, path, &fields).await;
            assert_ne!(account(&answer), "b@x", "{status}");
            assert_eq!(answer.header("x-kling-attempts"), attempts, "{status}");
        }
        let resumed = running.post("/accounts/b@x/resume", "").await;
        assert_eq!(resumed.status, 200);
        let answer = post(&running, Style::Json, path, &fields).await;
        assert_eq!(account(&answer), "b@x");
        running.sim.finish_all();
    }
    assert_eq!(running.post("/accounts/b@x/drain", "").await.status, 200);
    let answer = post(&running, Style::Form, path, &fields).await;
    assert_ne!(account(&answer), "b@x");
    running.sim.remove_account("b@x");
    eventually(async || {
        let account = running.account("b@x").await;
        (account["state"] == "removed").then_some(())
    })
    .await;
    let answer = post(&running, Style::Form, path, &fields).await;
    assert_ne!(account(&answer), "b@x");
}

#[tokio::test]
async fn an_id_wins_over_a_file_and_the_first_file_over_the_others() {
    let running = three(ROUNDS).await;
    let (_, element) = made_by(&running, "c@x").await;
    let of_a = upload(&running, "?email=a@x").await.json();
    let of_b = upload(&running, "?email=b@x").await.json();
    for _ in 0..3 {
        let fields = json!({"image_1": of_a["url"], "element_1": element});
        let answer = post(&running, Style::Json, "/videos/omni", &fields).await;
        assert_eq!(account(&answer), "c@x");
        let fields = json!({"image_1": of_b["url"], "image_2": of_a["url"]});
        let answer = post(&running, Style::Form, "/videos/omni", &fields).await;
        assert_eq!(account(&answer), "b@x");
        running.sim.finish_all();
        until_slots(&running, "b@x", Slots::NONE).await;
        until_slots(&running, "c@x", Slots::NONE).await;
    }
}

#[tokio::test]
async fn what_is_made_of_something_is_made_where_that_is() {
    let running = three(NO_ROUNDS).await;
    let file = upload(&running, "?email=b@x").await.json();
    for style in [Style::Json, Style::Form] {
        let fields = json!({"name": "Ann", "imageUrl": file["url"]});
        let answer = post(&running, style, "/avatars", &fields).await;
        assert_eq!(account(&answer), "b@x");
    }
    running.sim.set_account_error("b@x", Some("broken"));
    eventually(async || {
        let account = running.account("b@x").await;
        (account["state"] == "error").then_some(())
    })
    .await;
    let fields = json!({"name": "Ann", "imageUrl": file["url"]});
    let answer = post(&running, Style::Json, "/avatars", &fields).await;
    assert_eq!(account(&answer), "a@x", "the first one that is well");
}
