//! JSON is compressed for clients that accept gzip, and for no others unless a fault encodes it.

use std::io::Read;

use flate2::read::GzDecoder;
use kling_sim::{Effect, Encoding, Fault, JobDuration, ListFault, Sim, SimBuilder};
use serde_json::Value;

use crate::client::{Answer, delete, get, open_with, post, read};

const BODY: &[u8] = br#"{"prompt":"p"}"#;

fn builder() -> SimBuilder {
    let sim = Sim::builder().account("a@x", 50);
    sim.job_duration(JobDuration::Manual)
}

async fn start(sim: &Sim, head: &str) -> Answer {
    let answer = read(open_with(sim, "POST", "/videos/text2video", head, BODY).await).await;
    assert_eq!(answer.status, 200);
    answer
}

fn decoded(answer: &Answer) -> Value {
    let mut json = String::new();
    GzDecoder::new(&*answer.body)
        .read_to_string(&mut json)
        .unwrap();
    serde_json::from_str(&json).unwrap()
}

#[tokio::test]
async fn an_answer_is_compressed_for_a_client_that_accepts_it() {
    let sim = builder().start().await.unwrap();
    let answer = start(&sim, "Accept-Encoding: br, gzip\r\n").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.content_length(), answer.body.len());
    assert!(decoded(&answer)["task"]["id"].is_i64());
}

#[tokio::test]
async fn an_answer_is_plain_for_all_others() {
    let sim = builder().start().await.unwrap();
    for head in [
        "",
        "Accept-Encoding: identity\r\n",
        "Accept-Encoding: gzip;q=0\r\n",
    ] {
        let answer = start(&sim, head).await;
        assert_eq!(answer.header("content-encoding"), None);
        assert!(answer.json()["task"]["id"].is_i64());
    }
    let sim = builder().compression(false).start().await.unwrap();
    assert!(
        start(&sim, "Accept-Encoding: gzip\r\n")
            .await
            .json()
            .is_object()
    );
}

#[tokio::test]
async fn what_a_script_sends_is_sent_as_it_is() {
    let sim = builder().start().await.unwrap();
    let head = "Accept-Encoding: gzip\r\n";
    let list = async || read(open_with(&sim, "GET", "/accounts", head, b"").await).await;
    assert_eq!(list().await.header("content-encoding"), Some("gzip"));
    sim.list_fault(ListFault::Body("[]".to_owned()));
    assert_eq!(list().await.text(), "[]");
}

#[tokio::test]
async fn a_fault_compresses_every_answer_whatever_the_client_accepts() {
    let sim = builder().compression(false).start().await.unwrap();
    sim.fault(Effect::Encode(Encoding::Gzip));
    let started = start(&sim, "Accept-Encoding: identity\r\n").await;
    let id = decoded(&started)["task"]["id"].clone();
    let list = get(&sim, "/accounts").await;
    let refused = get(&sim, "/tasks/x").await;
    let rounds = get(&sim, "/scheduler/available").await;
    assert_eq!(decoded(&list)["a@x"]["maxJobs"], 50);
    assert!(decoded(&refused)["error"].is_string());
    assert_eq!(decoded(&rounds)["executing"][0]["id"], id);
    for answer in [&started, &list, &refused, &rounds] {
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.content_length(), answer.body.len());
    }
    let bare = delete(&sim, &format!("/scheduler/{id}")).await;
    assert_eq!((bare.status, bare.header("content-encoding")), (204, None));
    sim.clear_faults();
    assert!(get(&sim, "/accounts").await.json().is_object());
}

#[tokio::test]
async fn a_fault_encodes_the_answers_of_one_operation() {
    let sim = builder().start().await.unwrap();
    for (encoding, name) in [
        (Encoding::Gzip, "gzip"),
        (Encoding::Utf8, "utf-8"),
        (Encoding::Empty, ""),
    ] {
        sim.fault(
            Fault::new(Effect::Encode(encoding))
                .on("GET", "/scheduler/available")
                .times(1),
        );
        let answer = get(&sim, "/scheduler/available").await;
        let said = answer
            .head
            .lines()
            .find(|line| line.starts_with("content-encoding:"));
        assert_eq!(
            said.map(|said| said["content-encoding:".len()..].trim()),
            Some(name)
        );
        let json = if name == "gzip" {
            decoded(&answer)
        } else {
            answer.json()
        };
        assert_eq!(json["available"][0]["email"], "a@x");
        for path in ["/scheduler", "/accounts", "/scheduler/available"] {
            assert_eq!(
                get(&sim, path).await.header("content-encoding"),
                None,
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_encoded_is_not_encoded_again() {
    let sim = builder().start().await.unwrap();
    for encoding in [Encoding::Gzip, Encoding::Utf8, Encoding::Empty] {
        sim.fault(Fault::new(Effect::Encode(encoding)).times(1));
        let answer = start(&sim, "Accept-Encoding: gzip\r\n").await;
        assert_eq!(answer.head.matches("content-encoding").count(), 1);
        assert!(decoded(&answer)["task"]["id"].is_i64());
    }
}

#[tokio::test]
async fn a_round_that_came_encoded_told_its_reader_all_it_says() {
    let sim = Sim::builder().account("a@x", 2);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    sim.submit_directly("a@x", 2);
    sim.fault(Effect::Encode(Encoding::Gzip));
    for _ in 0..2 {
        get(&sim, "/scheduler/available").await;
    }
    let over = post(
        &sim,
        "/videos/text2video",
        &serde_json::json!({"prompt": "p"}),
    )
    .await;
    assert_eq!(over.status, 429);
    assert_eq!(sim.audit().over_limit_ours(), 1, "both jobs were told of");
}
