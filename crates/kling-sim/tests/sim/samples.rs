//! What the vendor's sample scripts need: ids that exist nowhere, numbers that a double holds, and
//! paths with more slashes than one.

use kling_sim::{JobDuration, SAMPLE_IDS, Sim, SimBuilder};
use serde_json::{Value, json};

use crate::client::{call_raw, delete, get, post, submit};

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual)
}

/// How each account answers a job start with these fields.
async fn statuses(sim: &Sim, path: &str, fields: &Value) -> [u16; 2] {
    let mut statuses = [0; 2];
    for (status, email) in statuses.iter_mut().zip(["a@x", "b@x"]) {
        let mut body = fields.clone();
        body["email"] = json!(email);
        *status = post(sim, path, &body).await.status;
    }
    sim.finish_all();
    statuses
}

#[tokio::test]
async fn accepted_ids_are_those_of_every_account() {
    let ids = SAMPLE_IDS.into_iter().chain(["777", "888"]);
    let accepting = builder().accept_ids(ids).start().await.unwrap();
    let strict = builder().start().await.unwrap();
    for (path, fields) in [
        ("/videos/omni", json!({"element_1": "u_123456789012345"})),
        (
            "/videos/motion-create",
            json!({"element_1": "u_123456789012345"}),
        ),
        ("/avatars/video", json!({"avatarId": "300137233318846"})),
        ("/images/upscale", json!({"workId": 777})),
        ("/videos/extend", json!({"task_id": "888"})),
    ] {
        assert_eq!(
            statuses(&accepting, path, &fields).await,
            [200, 200],
            "{path}"
        );
        assert_eq!(statuses(&strict, path, &fields).await, [404, 404], "{path}");
    }
    let others = json!({"element_1": "u_123456789012345", "element_2": "u_1"});
    assert_eq!(
        statuses(&accepting, "/videos/omni", &others).await,
        [404, 404]
    );
    // They are accepted where a job is made of them, and nowhere else.
    let element = "/elements/u_123456789012345?email=a@x";
    assert_eq!(get(&accepting, element).await.status, 404);
    assert_eq!(delete(&accepting, element).await.status, 404);
    assert_eq!(get(&accepting, "/tasks/888?email=a@x").await.status, 404);
}

/// All numbers in a value.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(members) => members.values().flat_map(numbers).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => Vec::new(),
    }
}

#[tokio::test]
async fn every_number_is_exact_for_clients_that_read_doubles() {
    /// All whole numbers up to this one are doubles.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    for (seed, is_long) in [(1, false), (2, false), (3, false), (1, true)] {
        let sim = builder().seed(seed).ids_of_18_digits(is_long);
        let sim = sim.start().await.unwrap();
        let started = submit(&sim, &json!({"email": "a@x", "prompt": "p"}))
            .await
            .json();
        let task = format!("/tasks/{}?email=a@x", started["task"]["id"]);
        let scheduler = get(&sim, "/scheduler/available").await.json();
        sim.finish_all();
        let mut answers = vec![started, scheduler];
        for path in [
            &*task,
            "/tasks?email=a@x",
            "/accounts/a@x",
            "/assets?email=a@x",
        ] {
            answers.push(get(&sim, path).await.json());
        }
        let numbers = numbers(&Value::Array(answers));
        let is_exact = numbers.iter().all(|number| number.abs() <= EXACT_MAX);
        assert_eq!(is_exact, !is_long, "{numbers:?}");
    }
}

#[tokio::test]
async fn slashes_in_a_row_count_as_one() {
    let sim = builder().start().await.unwrap();
    let started = post(
        &sim,
        "//videos///text2video//",
        &json!({"email": "a@x", "prompt": "p"}),
    )
    .await;
    let id = started.json()["task"]["id"].to_string();
    sim.finish_all();
    let task = get(&sim, &format!("//tasks//{id}/?email=a@x")).await;
    assert_eq!(task.json()["status_name"], "succeed");
    let file = format!("//results///{id}-output.mp4");
    assert_eq!(call_raw(&sim, "GET", &file, "").await.status, 200);
    let audit = call_raw(&sim, "GET", "//_sim//audit/", "").await;
    assert_eq!(audit.json()["accounts"][0]["accepted"], 1);
}
