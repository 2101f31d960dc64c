//! Answers have the documented shape, member for member and type for type.

use kling_sim::{JobDuration, Sim};
use serde_json::{Value, json};

use crate::client::{delete, get, submit};

/// Two accounts whose order is not that of the alphabet.
async fn sim() -> Sim {
    Sim::builder()
        .account("b@example.com", 8)
        .account("a@example.com", 3)
        .job_duration(JobDuration::Manual)
        .start()
        .await
        .unwrap()
}

async fn start_job(sim: &Sim) -> Value {
    let body = json!({
        "email": "b@example.com", "prompt": "a boat", "duration": 5,
        "replyUrl": "https://h.example/cb", "replyRef": "r1",
    });
    let answer = submit(sim, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// `value` with every number, id and time that a run invents replaced by the sample's.
///
/// The rest is compared exactly: names, types, lengths, and all values not listed here.
fn as_in_sample(value: Value, sample: &Value) -> Value {
    const INVENTED: &str = "id taskId workId resource resourceKey started elapsed createTime \
        updateTime startTime endTime nextApplyTime ExpireTime ExpireTimeUTC";
    match (value, sample) {
        (Value::Object(members), Value::Object(samples)) => {
            let replaced = members.into_iter().map(|(name, value)| {
                let sample = samples.get(&name).unwrap_or(&Value::Null);
                let is_alike = (value.is_number() && sample.is_number())
                    || (value.is_string() && sample.is_string());
                let value = if is_alike && INVENTED.split(' ').any(|invented| invented == name) {
                    sample.clone()
                } else {
                    as_in_sample(value, sample)
                };
                (name, value)
            });
            Value::Object(replaced.collect())
        }
        (Value::Array(values), Value::Array(samples)) => values
            .into_iter()
            .enumerate()
            .map(|(idx, value)| as_in_sample(value, samples.get(idx).unwrap_or(&Value::Null)))
            .collect(),
        (value, _) => value,
    }
}

#[track_caller]
fn assert_like(value: Value, sample: &str) {
    let sample: Value = serde_json::from_str(sample).unwrap();
    assert_eq!(as_in_sample(value, &sample), sample);
}

#[tokio::test]
async fn accounts_are_listed_in_configured_order_and_shape() {
    let sim = sim().await;
    assert!(sim.set_account_error("a@example.com", Some("Failed to refresh session: 500")));
    let answer = get(&sim, "/accounts").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text().find("b@example.com") < answer.text().find("a@example.com"));
    assert_like(answer.json(), include_str!("../data/accounts.json"));
}

#[tokio::test]
async fn one_account_is_found_by_its_encoded_name_and_shows_its_balance() {
    let sim = sim().await;
    for path in [
        "/accounts/b@example.com",
        "/accounts/b%40example%2Ecom",
        "/accounts/b@example.com/",
    ] {
        assert_like(
            get(&sim, path).await.json(),
            include_str!("../data/account.json"),
        );
    }
}

#[tokio::test]
async fn a_started_job_answers_with_its_task() {
    let task = start_job(&sim().await).await;
    assert!(task["task"]["id"].is_u64());
    assert_like(task, include_str!("../data/task-started.json"));
}

#[tokio::test]
async fn the_scheduler_lists_only_running_jobs() {
    let sim = sim().await;
    let id = start_job(&sim).await["task"]["id"].as_u64().unwrap();
    let running = get(&sim, "/scheduler").await.json();
    assert_eq!(running[0]["id"], id);
    assert_like(running, include_str!("../data/scheduler.json"));
    let available = get(&sim, "/scheduler/available").await.json();
    assert_like(available, include_str!("../data/scheduler-available.json"));
    assert!(sim.finish(id));
    assert_eq!(get(&sim, "/scheduler").await.json(), json!([]));
    assert_eq!(
        get(&sim, "/scheduler/available").await.json()["available"][0]["available"],
        8
    );
}

#[tokio::test]
async fn a_finished_task_shows_its_work() {
    let sim = sim().await;
    let id = start_job(&sim).await["task"]["id"].as_u64().unwrap();
    let path = format!("/tasks/{id}?email=b%40example.com");
    let running = get(&sim, &path).await.json();
    assert_eq!(
        (&running["status"], &running["works"]),
        (&json!(10), &json!([]))
    );
    assert!(sim.finish(id));
    let done = get(&sim, &path).await.json();
    assert_eq!(done["works"][0]["taskId"], id);
    assert_eq!(
        done["works"][0]["resource"]["resource"],
        format!("http://{}/results/{id}-output.mp4", sim.addr())
    );
    assert_like(done, include_str!("../data/task.json"));
}

#[tokio::test]
async fn deleting_a_scheduled_task_frees_its_slot() {
    let sim = sim().await;
    let id = start_job(&sim).await["task"]["id"].as_u64().unwrap();
    let path = format!("/scheduler/{id}");
    assert_eq!(delete(&sim, &path).await.status, 204);
    assert_eq!(sim.audit().account("b@example.com").unwrap().executing, 0);
    let again = delete(&sim, &path).await;
    assert_eq!(again.status, 404);
    assert_eq!(
        again.json(),
        json!({"error": format!("Unable to locate running task_id {id}")})
    );
}
