//! Results are files that a client downloads from the URL it was told, without a token.

use kling_sim::{JobDuration, Sim, SimBuilder};
use serde_json::{Value, json};

use crate::client::{Answer, call_raw, delete, get, post};

/// How each type of result begins on the wire, and what it is called.
const MP4: (&str, &[u8]) = ("video/mp4", b"\0\0\0\x20ftypisom");
const PNG: (&str, &[u8]) = ("image/png", b"\x89PNG\r\n\x1a\n");
const MP3: (&str, &[u8]) = ("audio/mpeg", b"\xff\xf3");
const ZIP: (&str, &[u8]) = ("application/zip", b"PK\x03\x04");

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual)
}

async fn start(sim: &Sim, path: &str, fields: Value) -> i64 {
    let answer = post(sim, path, &fields).await;
    answer.json()["task"]["id"].as_i64().unwrap()
}

/// The first work of a task of `a@x`.
async fn work(sim: &Sim, id: i64) -> Value {
    let task = get(sim, &format!("/tasks/{id}?email=a@x")).await.json();
    task["works"][0].clone()
}

async fn clean(sim: &Sim, ids: &str) -> String {
    let path = format!("/assets/download?email=a@x&workIds={ids}");
    let told = get(sim, &path).await.json();
    told["cdnUrl"].as_str().unwrap().to_owned()
}

/// Requests a URL, without a token, at the address that it names.
async fn fetch(sim: &Sim, method: &str, url: &str) -> Answer {
    let origin = format!("http://{}", sim.addr());
    let path = url.strip_prefix(&origin).expect("a URL of the simulator");
    call_raw(sim, method, path, "").await
}

async fn assert_is(sim: &Sim, url: &str, (media, beginning): (&str, &[u8])) {
    let file = fetch(sim, "GET", url).await;
    assert_eq!(
        (file.status, file.header("content-type")),
        (200, Some(media)),
        "{url}"
    );
    assert!(file.body.starts_with(beginning), "{url}: {:?}", file.body);
    assert_eq!(file.content_length(), file.body.len());
    let head = fetch(sim, "HEAD", url).await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some(media)),
        "{url}"
    );
    assert_eq!(
        (head.content_length(), head.body.len()),
        (file.body.len(), 0)
    );
}

#[tokio::test]
async fn every_url_of_a_finished_task_leads_to_a_file_of_its_type() {
    let sim = builder().start().await.unwrap();
    let fields = json!({"email": "a@x", "prompt": "p", "imageCount": 2});
    let video = start(&sim, "/videos/text2video", fields.clone()).await;
    let image = start(&sim, "/images/kolors", fields).await;
    sim.finish_all();
    for (id, media, ending) in [(video, MP4, "-output.mp4"), (image, PNG, "-output.png")] {
        let work = work(&sim, id).await;
        let url = work["resource"]["resource"].as_str().unwrap();
        assert!(url.ends_with(ending), "{url}");
        assert_is(&sim, url, media).await;
        assert_is(&sim, work["cover"]["resource"].as_str().unwrap(), PNG).await;
        let clean = clean(&sim, &id.to_string()).await;
        assert!(clean.ends_with(ending) && clean != url, "{clean}");
        assert_is(&sim, &clean, media).await;
    }
    let several = clean(&sim, &format!("{image},{}", image + 1)).await;
    assert_is(&sim, &several, ZIP).await;
    assert_is(&sim, &several.replace(',', "%2C"), ZIP).await;
}

#[tokio::test]
async fn speech_is_a_file_too() {
    let sim = builder().start().await.unwrap();
    let speech = post(&sim, "/tts/create", &json!({"email": "a@x", "text": "t"})).await;
    let speech = speech.json();
    let url = speech["resource"]["resource"].as_str().unwrap();
    assert_is(&sim, url, MP3).await;
    let other = url.replace("-output", "1-output");
    assert_eq!(fetch(&sim, "GET", &other).await.status, 404);
}

#[tokio::test]
async fn what_no_answer_names_is_not_found() {
    let sim = builder().start().await.unwrap();
    let one = start(&sim, "/videos/omni", json!({"email": "a@x", "count": 2})).await;
    let url = |name: &str| format!("http://{}/results/{name}", sim.addr());
    let own = url(&format!("{one}-output.mp4"));
    let status = async |url: &str| fetch(&sim, "GET", url).await.status;
    assert_eq!(status(&own).await, 404, "it still runs");
    sim.finish_all();
    assert_eq!(status(&own).await, 200);
    let two = one + 1;
    for name in [
        format!("{}-output.mp4", one + 2),
        format!("{}-output.mp4", one - 1),
        format!("{one}-output.mp4x"),
        format!("{one}-output.png"),
        format!("{one}-output.mp3"),
        format!("{one}-output.zip"),
        format!("{one},{two}-output.zip"),
        format!("{one},{two}-cover.png"),
        format!("clean/{one}-cover.png"),
        format!("clean/{one},{}-output.zip", two + 1),
        format!("clean/{one},-output.zip"),
        format!("{one}"),
        "clean/".to_owned(),
        "-".to_owned(),
    ] {
        let answer = fetch(&sim, "GET", &url(&name)).await;
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.json()["error"].is_string(), "{name}");
    }
    assert_eq!(fetch(&sim, "POST", &own).await.status, 404);
    let gone = delete(&sim, &format!("/tasks/{one}?email=a@x")).await;
    assert_eq!(
        (gone.status, status(&own).await),
        (200, 404),
        "it was deleted"
    );
}

#[tokio::test]
async fn a_doomed_job_has_no_result() {
    let sim = builder().start().await.unwrap();
    let doomed = json!({"email": "a@x", "prompt": "a doomed boat"});
    let id = start(&sim, "/videos/text2video", doomed).await;
    sim.finish_all();
    let url = format!("http://{}/results/{id}-output.mp4", sim.addr());
    assert_eq!(fetch(&sim, "GET", &url).await.status, 404);
}

#[tokio::test]
async fn results_of_negative_ids_are_found() {
    let sim = builder().task_ids(kling_sim::TaskIds::Negative);
    let sim = sim.start().await.unwrap();
    let id = start(&sim, "/videos/omni", json!({"email": "a@x"})).await;
    assert!(id < 0);
    sim.finish_all();
    let work = work(&sim, id).await;
    assert_is(&sim, work["resource"]["resource"].as_str().unwrap(), MP4).await;
}

#[tokio::test]
async fn urls_begin_as_clients_reach_the_simulator() {
    for (builder, expected) in [
        (
            builder().public_url("https://cdn.test:8443/"),
            "https://cdn.test:8443/results/",
        ),
        (
            builder().listen("0.0.0.0:0".parse().unwrap()),
            "http://127.0.0.1:",
        ),
    ] {
        let sim = builder.start().await.unwrap();
        let id = start(&sim, "/videos/omni", json!({"email": "a@x"})).await;
        sim.finish_all();
        let work = work(&sim, id).await;
        for part in ["resource", "cover"] {
            let url = work[part]["resource"].as_str().unwrap();
            assert!(url.starts_with(expected), "{url}");
        }
        assert!(clean(&sim, &id.to_string()).await.starts_with(expected));
    }
}
