//! JSON is compressed for clients that accept gzip, and for no others.

use std::io::Read;

use flate2::read::GzDecoder;
use kling_sim::{JobDuration, ListFault, Sim, SimBuilder};
use serde_json::Value;

use crate::client::{Answer, open_with, read};

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

#[tokio::test]
async fn an_answer_is_compressed_for_a_client_that_accepts_it() {
    let sim = builder().start().await.unwrap();
    let answer = start(&sim, "Accept-Encoding: br, gzip\r\n").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.content_length(), answer.body.len());
    let mut json = String::new();
    GzDecoder::new(&*answer.body)
        .read_to_string(&mut json)
        .unwrap();
    let decoded: Value = serde_json::from_str(&json).unwrap();
    assert!(decoded["task"]["id"].is_i64());
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
