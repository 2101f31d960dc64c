//! What a history says of how its tasks were made: enough to find a job whose answer was lost.

use kling_sim::{Effect, Fault, HistoryStyle, JobDuration, Sim, SimBuilder};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::client::{get, open, post, post_form, submit};

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 9).account("b@x", 9);
    sim.job_duration(JobDuration::Manual)
}

async fn history(sim: &Sim, email: &str) -> Vec<Value> {
    let list = get(sim, &format!("/tasks?email={email}")).await.json();
    list["history"].as_array().unwrap().clone()
}

/// The arguments of the newest task, as pairs.
async fn arguments(sim: &Sim) -> Vec<(String, String)> {
    let newest = history(sim, "a@x").await[0]["works"][0]["taskInfo"].take();
    let arguments = newest["arguments"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    arguments
        .map(|one| (text(&one["name"]), text(&one["value"])))
        .collect()
}

#[tokio::test]
async fn a_history_shows_a_task_as_the_answer_to_its_start_did() {
    let sim = builder().start().await.unwrap();
    let body = json!({
        "email": "a@x", "prompt": "a boat", "duration": 5, "enable_audio": true, "tail": null,
        "imageCount": 2, "maxJobs": 9, "replyUrl": "https://h.example/cb", "replyRef": "r1",
    });
    let form = [
        ("email", "a@x"),
        ("prompt", "a boat\nat \"sea\" 🚢"),
        ("maxJobs", "9"),
        ("count", "3"),
    ];
    let started = [
        post(&sim, "/images/kolors", &body).await,
        post_form(&sim, "/videos/omni", &form).await,
    ];
    let shown = history(&sim, "a@x").await;
    let shown = shown.iter().rev();
    for ((row, work_count), started) in shown.zip([2, 3]).zip(started) {
        let task = started.json()["task"].take();
        let works = row["works"].as_array().unwrap();
        assert_eq!(works.len(), work_count);
        for work in works {
            assert_eq!(work["taskInfo"], task["taskInfo"]);
            assert_eq!(
                (&work["taskId"], &work["createTime"]),
                (&task["id"], &task["createTime"])
            );
        }
    }
    let expected = [("count", "3"), ("prompt", "a boat\nat \"sea\" 🚢")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(
        arguments(&sim).await,
        expected,
        "none of the upstream's own"
    );
}

#[tokio::test]
async fn a_job_whose_answer_was_lost_is_found_by_its_arguments() {
    let sim = builder().start().await.unwrap();
    sim.submit_directly("a@x", 1);
    let body = json!({"email": "a@x", "prompt": "a lost boat"});
    sim.fault(Fault::new(Effect::ResetAfter).times(1));
    let mut lost = open(&sim, "POST", "/videos/text2video", &body.to_string()).await;
    let answer = lost.read_to_end(&mut Vec::new()).await;
    assert!(answer.is_err(), "{answer:?}");
    let expected = [("prompt".to_owned(), "a lost boat".to_owned())];
    assert_eq!(arguments(&sim).await, expected);
}

#[tokio::test]
async fn a_value_too_long_to_remember_is_whole_in_the_answer_and_cut_in_the_history() {
    let sim = builder().start().await.unwrap();
    let long = "船".repeat(10_000);
    let body = json!({"email": "a@x", "prompt": "p", "image": long});
    let started = submit(&sim, &body).await.json();
    let told = &started["task"]["taskInfo"]["arguments"];
    assert_eq!(told[0], json!({"name": "image", "value": long}));
    let kept = arguments(&sim).await;
    assert!(long.starts_with(&kept[0].1) && kept[0].1.len() <= 10 * 1024);
    assert_eq!(kept[1], ("prompt".to_owned(), "p".to_owned()));
}

#[tokio::test]
async fn what_a_history_shows_can_be_changed_while_it_runs() {
    let sim = builder().history(HistoryStyle::Bare).start().await.unwrap();
    let body = json!({"email": "a@x", "prompt": "a boat", "duration": 5});
    let task = submit(&sim, &body).await.json()["task"].take();
    let info = async || history(&sim, "a@x").await[0]["works"][0]["taskInfo"].take();
    assert_eq!(info().await, json!({}));

    sim.set_history(HistoryStyle::Rewritten);
    let rewritten = info().await;
    let prompt = &rewritten["arguments"][1];
    assert_eq!(prompt["name"], "prompt");
    assert!(!prompt["value"].as_str().unwrap().contains("a boat"));
    let mut expected = task["taskInfo"].clone();
    expected["arguments"][1] = prompt.clone();
    assert_eq!(rewritten, expected, "all else is as it was sent");

    sim.set_history(HistoryStyle::default());
    assert_eq!(info().await, task["taskInfo"]);
}

#[tokio::test]
async fn only_a_history_shows_how_a_task_was_made() {
    let sim = builder().start().await.unwrap();
    let body = json!({"email": "a@x", "prompt": "a boat"});
    let id = submit(&sim, &body).await.json()["task"]["id"].to_string();
    assert_eq!(sim.finish_all(), 1);
    let task = get(&sim, &format!("/tasks/{id}?email=a@x")).await.json();
    assert_eq!(task["works"][0]["taskInfo"], json!({}));
    let assets = get(&sim, "/assets?email=a@x").await.json();
    assert_eq!(assets["history"][0]["works"][0]["taskInfo"], json!({}));
}

#[tokio::test]
async fn an_unreadable_row_is_in_the_history_of_its_account_alone() {
    let sim = builder().start().await.unwrap();
    let id = sim.submit_directly("a@x", 1)[0].get();
    sim.submit_directly("b@x", 1);
    assert!(sim.add_unreadable_history("a@x", true));
    let rows = history(&sim, "a@x").await;
    assert_eq!((rows.len(), &rows[0]), (2, &json!({"works": []})));
    assert_eq!(rows[1]["works"][0]["taskId"], id);
    assert_eq!(history(&sim, "b@x").await.len(), 1);
    assert!(sim.add_unreadable_history("a@x", false));
    assert_eq!(history(&sim, "a@x").await.len(), 1);
    assert!(!sim.add_unreadable_history("nobody@x", true));
}

#[tokio::test]
async fn a_job_start_that_was_refused_is_in_no_history() {
    let sim = builder().start().await.unwrap();
    sim.fault(Fault::status(503).times(1));
    for prompt in ["a boat", "forbidden fruit"] {
        let body = json!({"email": "a@x", "prompt": prompt});
        assert!(submit(&sim, &body).await.status >= 500, "{prompt}");
    }
    assert!(history(&sim, "a@x").await.is_empty());
}
