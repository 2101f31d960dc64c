//! The history of an account, deletion, downloads: all by the owner only.

use kling_sim::{JobDuration, Sim, SimBuilder};
use serde_json::{Value, json};

use crate::client::{delete, get, post, submit};

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual)
}

async fn start(sim: &Sim, path: &str, fields: Value) -> i64 {
    let answer = post(sim, path, &fields).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["task"]["id"].as_i64().unwrap()
}

async fn ids(sim: &Sim, path: &str) -> Vec<i64> {
    let list = get(sim, path).await.json();
    let rows = list["history"].as_array().unwrap().iter();
    rows.map(|row| row["works"][0]["taskId"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_history_is_that_of_one_account_newest_first_and_includes_what_runs() {
    let sim = builder().start().await.unwrap();
    let video = start(&sim, "/videos/omni", json!({"email": "a@x"})).await;
    let image = start(&sim, "/images/omni", json!({"email": "a@x"})).await;
    let other = start(&sim, "/images/omni", json!({"email": "b@x"})).await;
    sim.finish(video);
    assert_eq!(ids(&sim, "/tasks?email=a@x").await, [image, video]);
    assert_eq!(ids(&sim, "/tasks/?email=b@x").await, [other]);
    assert_eq!(
        ids(&sim, "/tasks?email=a@x&contentType=video").await,
        [video]
    );
    assert_eq!(ids(&sim, "/tasks?email=a@x&pageSize=1").await, [image]);
    // Times are milliseconds since 1970: all jobs started after the first second.
    for (range, expected) in [("Before", vec![]), ("After", vec![image, video])] {
        let path = format!("/tasks?email=a@x&created{range}=1000");
        assert_eq!(ids(&sim, &path).await, expected, "{range}");
    }
    assert_eq!(
        ids(&sim, "/assets?email=a@x").await,
        [video],
        "only what is done"
    );
    let both = "/tasks?email=a@x&createdBefore=2&createdAfter=1";
    assert_eq!(get(&sim, both).await.status, 400);
}

#[tokio::test]
async fn a_task_is_deleted_once_by_its_owner_when_it_is_done() {
    let sim = builder().start().await.unwrap();
    let id = start(
        &sim,
        "/images/kolors",
        json!({"email": "a@x", "imageCount": 2}),
    )
    .await;
    let path = |email: &str| format!("/tasks/{id}?email={email}");
    let gone = json!({"error": format!("No works found for task {id}")});
    let running = delete(&sim, &path("a@x")).await;
    assert_eq!((running.status, running.json()), (404, gone.clone()));
    assert!(sim.finish(id));
    assert_eq!(delete(&sim, &path("b@x")).await.json(), gone);
    let deleted = delete(&sim, &path("a@x")).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(
        deleted.json(),
        json!({"deleted": 2, "workIds": [id, id + 1]})
    );
    assert_eq!(delete(&sim, &path("a@x")).await.status, 404);
    assert_eq!(get(&sim, &path("a@x")).await.status, 404);
    assert_eq!(delete(&sim, "/tasks/x?email=a@x").await.status, 400);
}

#[tokio::test]
async fn a_doomed_job_is_final_and_failed() {
    let sim = builder().start().await.unwrap();
    let doomed = json!({"email": "a@x", "prompt": "a doomed boat"});
    let id = submit(&sim, &doomed).await.json()["task"]["id"]
        .as_i64()
        .unwrap();
    assert_eq!(sim.finish_all(), 1);
    let task = get(&sim, &format!("/tasks/{id}?email=a@x")).await.json();
    assert_eq!(task["status_name"], "failed");
    assert_eq!(task["status_final"], true);
    assert_eq!(task["task"]["status_name"], "failed");
}

#[tokio::test]
async fn works_are_downloaded_by_their_owner() {
    let sim = builder().start().await.unwrap();
    let mine = start(
        &sim,
        "/images/kolors",
        json!({"email": "a@x", "imageCount": 2}),
    )
    .await;
    let other = start(&sim, "/images/omni", json!({"email": "b@x"})).await;
    let path = |ids: &str| format!("/assets/download?email=a@x&workIds={ids}");
    assert_eq!(
        get(&sim, &path(&mine.to_string())).await.status,
        404,
        "still running"
    );
    sim.finish_all();
    let one = get(&sim, &path(&mine.to_string())).await.json();
    let expected = format!("http://{}/results/clean/{mine}-output.png", sim.addr());
    assert_eq!(one, json!({"cdnUrl": expected, "status": "success"}));
    let both = get(&sim, &path(&format!("{mine},{}", mine + 1)))
        .await
        .json();
    assert!(both["cdnUrl"].as_str().unwrap().ends_with(".zip"));
    let mixed = get(&sim, &path(&format!("{mine},{other}"))).await;
    assert_eq!(mixed.status, 404);
    assert_eq!(get(&sim, "/assets/download?email=a@x").await.status, 400);
}

#[tokio::test]
async fn long_and_negative_ids_are_found_again() {
    let negative = builder().task_ids(kling_sim::TaskIds::Negative);
    for (sim, digits) in [(builder().ids_of_18_digits(true), 18), (negative, 16)] {
        let sim = sim.start().await.unwrap();
        let answer = submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await;
        let id = answer.json()["task"]["id"].to_string();
        assert_eq!(id.len(), digits);
        let task = get(&sim, &format!("/tasks/{id}?email=a@x")).await;
        assert_eq!(task.json()["task"]["id"].to_string(), id);
        assert_eq!(delete(&sim, &format!("/scheduler/{id}")).await.status, 204);
        assert_eq!(sim.executing("a@x"), 0);
    }
}
