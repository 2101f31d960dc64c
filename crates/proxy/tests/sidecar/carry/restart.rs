//! A client written for one account uses three, and the program is killed between its calls.

use harness::{PATIENCE, manual};
use http::Method;
use kling_sim::Sim;
use serde_json::Value;
use tokio::time::timeout;

use super::client::{JSON, Raw, exchange};
use crate::program::Process;

const ACCOUNTS: [(&str, u32); 3] = [("a@x", 1), ("b@x", 1), ("c@x", 1)];
const PNG: (&str, &str) = ("content-type", "image/png");
const ROUNDS: (&str, &str) = ("KLB_RECONCILE__INTERVAL", "100ms");

/// A client that knows of no account, and the program it calls.
struct Client {
    sim: Sim,
    process: Process,
    /// Whether the program is killed and started again before each call.
    is_plagued: bool,
}

impl Client {
    async fn new(is_plagued: bool) -> Self {
        let sim = manual(&ACCOUNTS).start().await.unwrap();
        let process = Process::start(&sim, &[ROUNDS]).await;
        process.until_ready().await;
        Self {
            sim,
            process,
            is_plagued,
        }
    }

    async fn call(&mut self, method: Method, path: &str, header: (&str, &str), body: &str) -> Raw {
        if self.is_plagued {
            self.process.signal("-KILL").await;
            let next = Process::start(&self.sim, &[ROUNDS]).await;
            let killed = std::mem::replace(&mut self.process, next);
            assert_eq!(killed.end().await.0, None, "a signal ended it");
            self.process.until_ready().await;
        }
        let path = format!("/v1/kling{path}");
        let body = body.to_owned();
        exchange(self.process.addr, method, &path, &[header], body).await
    }

    async fn json(&mut self, method: Method, path: &str, body: &str) -> Value {
        let answer = self.call(method, path, JSON, body).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Uploads an image, makes a video of it, polls, downloads and deletes it.
    async fn work(&mut self) {
        let uploaded = self.call(Method::POST, "/assets", PNG, "PNG").await;
        assert_eq!(uploaded.status, 200, "{uploaded:?}");
        let url = uploaded.json()["url"].clone();
        let body = format!(r#"{{"image":{url},"prompt":"a boat"}}"#);
        let path = "/videos/image2video-frames";
        let started = self.json(Method::POST, path, &body).await;
        let id = started["task"]["id"].as_i64().unwrap();
        let path = format!("/tasks/{id}");
        assert_eq!(
            self.json(Method::GET, &path, "").await["status_final"],
            false
        );
        assert!(self.sim.finish(id));
        let finished = self.json(Method::GET, &path, "").await;
        assert_eq!(finished["status_final"], true);
        let work = &finished["works"][0]["workId"];
        let download = format!("/assets/download?workIds={work}&fileTypes=MP4");
        let file = self.json(Method::GET, &download, "").await;
        assert_eq!(file["status"], "success");
        assert_eq!(self.json(Method::DELETE, &path, "").await["deleted"], 1);
        let gone = self.call(Method::GET, &path, JSON, "").await;
        assert_eq!(gone.status, 404);
    }
}

/// Works until every account has had a job.
async fn work_on_every_account(is_plagued: bool) {
    let mut client = Client::new(is_plagued).await;
    let working = async {
        while client
            .sim
            .audit()
            .accounts
            .iter()
            .any(|account| account.accepted == 0)
        {
            client.work().await;
        }
    };
    timeout(PATIENCE, working)
        .await
        .expect("every account has its turn");
    let audit = client.sim.audit();
    assert_eq!((audit.over_limit(), audit.duplicates), (0, 0), "{audit}");
    let sent = audit.submissions.iter();
    assert!(
        sent.clone().all(|submission| submission.email.is_some()),
        "{audit}"
    );
    for submission in sent {
        let body: Value = serde_json::from_slice(&submission.body).unwrap();
        assert_eq!(body["prompt"], "a boat");
    }
}

#[tokio::test]
async fn a_client_of_one_account_works_unchanged_on_three() {
    work_on_every_account(false).await;
}

#[tokio::test]
async fn and_does_so_though_the_program_is_killed_between_its_calls() {
    work_on_every_account(true).await;
}

#[tokio::test]
async fn a_killed_program_over_commits_no_account_when_it_comes_back() {
    let mut client = Client::new(true).await;
    let body = r#"{"prompt":"p"}"#;
    let mut jobs = Vec::new();
    for _ in ACCOUNTS {
        let started = client.json(Method::POST, "/videos/text2video", body).await;
        jobs.push(started["task"]["id"].as_i64().unwrap());
    }
    for _ in 0..3 {
        let refused = client
            .call(Method::POST, "/videos/text2video", JSON, body)
            .await;
        refused.text().assert_refused(429, "saturated");
    }
    let audit = client.sim.audit();
    assert_eq!(
        (audit.over_limit(), audit.submission_count),
        (0, 3),
        "{audit}"
    );
    assert!(client.sim.finish(jobs[0]));
    // The restarted program makes a round first, and the round shows that slot as free.
    client.json(Method::POST, "/videos/text2video", body).await;
    assert_eq!(client.sim.audit().over_limit(), 0);
    // The program finds every job that was started before the kills.
    timeout(PATIENCE, async {
        for id in jobs {
            let task = client.json(Method::GET, &format!("/tasks/{id}"), "").await;
            assert_eq!(task["task"]["id"], id);
        }
    })
    .await
    .unwrap();
}
