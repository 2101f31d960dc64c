//! Clients of every kind: patient and hasty ones, with JSON and forms, through us and beside us.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use harness::{Answer, PATIENCE, Running, try_send};
use http::Method;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    exchange::{answer_within, job_start},
    surroundings::NAMED,
};

/// How long a client that calls the upstream itself waits for its answer.
const DIRECT_PATIENCE: Duration = Duration::from_millis(250);

/// Reads the name of a job from its body. The audit recognises the job by it.
pub(crate) fn reference(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let from = text
        .find("job-")
        .unwrap_or_else(|| panic!("no name: {text}"));
    let is_of_it = |c: char| c == '-' || c.is_ascii_alphanumeric();
    text[from..].chars().take_while(|c| is_of_it(*c)).collect()
}

/// What a client knows of its job in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// It has its id.
    Job(i64),
    /// It was told that it is not known.
    Unknown,
    /// It was told that there is none.
    NoJob,
    /// Nothing: it has left for good.
    Nothing,
    /// Nothing of us: it called the upstream itself.
    Aside,
}

/// One client. It submits one job after the other.
pub(crate) struct Client {
    pub(crate) running: Arc<Running>,
    number: usize,
    pub(crate) rng: SmallRng,
}

impl Client {
    pub(crate) fn new(running: Arc<Running>, number: usize, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
        Self {
            running,
            number,
            rng,
        }
    }

    /// Returns what it knows of each job, by name.
    pub(crate) async fn work(mut self, jobs: usize) -> Vec<(String, Told)> {
        let mut known = Vec::new();
        for job in 0..jobs {
            let name = format!("job-{}-{job}", self.number);
            let told = match self.rng.random_range(0..20) {
                0..2 => self.leave(&name).await,
                2..4 => self.pick_and_call(&name).await,
                4..7 => {
                    let email = NAMED[self.rng.random_range(0..NAMED.len())];
                    self.submit(&name, Some(email)).await
                }
                7..14 => self.insist(&name).await,
                _ => self.submit(&name, None).await,
            };
            known.push((name, told));
        }
        known
    }

    /// Submits through us until the job is sent or finally refused, and then uses the job.
    async fn submit(&mut self, name: &str, email: Option<&str>) -> Told {
        let (media, body) = self.body(name, email);
        let told = loop {
            let request = job_start(name, &media, &body);
            let answer = answer_within(PATIENCE, self.running.addr, &request).await;
            if let Some(told) = told(&answer.expect("no answer")) {
                break told;
            }
            tokio::task::yield_now().await;
        };
        if let Told::Job(id) = told {
            self.use_job(id).await;
        }
        told
    }

    /// Leaves a job alone, untracks it, or polls it to its end.
    pub(crate) async fn use_job(&mut self, id: i64) {
        let poll = format!("/v1/kling/tasks/{id}");
        match self.rng.random_range(0..4) {
            0 => {}
            1 => {
                // The job is untracked: it still runs but no longer counts.
                let path = format!("/v1/kling/scheduler/{id}");
                self.running.delete(&path).await;
            }
            _ => while !is_over(&self.running.get(&poll).await) {},
        }
    }

    /// Sends a job start or the beginning of one, and disconnects.
    async fn leave(&mut self, name: &str) -> Told {
        let (media, body) = self.body(name, None);
        let request = job_start(name, &media, &body);
        let whole = request.len();
        let sent = if self.rng.random_ratio(1, 2) {
            whole
        } else {
            self.rng.random_range(0..whole)
        };
        let mut stream = TcpStream::connect(self.running.addr).await.unwrap();
        stream.write_all(&request.as_bytes()[..sent]).await.unwrap();
        // The delay draws the moment of the disconnect; it waits for no event.
        sleep(Duration::from_micros(self.rng.random_range(0..20_000))).await;
        Told::Nothing
    }

    /// Picks, and calls the upstream itself, unless it thinks better of it.
    async fn pick_and_call(&mut self, name: &str) -> Told {
        let lease = loop {
            let answer = self.running.get("/pick?wait=60s&ttl=2s").await;
            if !is_own_refusal(&answer) {
                break answer.lease();
            }
            tokio::task::yield_now().await;
        };
        let held = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
        if self.rng.random_ratio(1, 4) {
            self.running.delete(&held).await;
            return Told::Aside;
        }
        let (media, body) = self.body(name, lease["email"].as_str());
        let sim = &self.running.sim;
        let token = format!("Bearer {}", sim.token());
        let headers = [("content-type", &*media), ("authorization", &*token)];
        let path = format!("{}{}", base_path(&sim.base_url()), "/videos/text2video");
        let called = try_send(sim.addr(), Method::POST, &path, &headers, &body);
        let Ok(Ok(answer)) = timeout(DIRECT_PATIENCE, called).await else {
            // The outcome is unknown. The lease ends by itself or is bound to the job.
            return Told::Aside;
        };
        let id = json(&answer)["task"]["id"].as_i64();
        match id {
            Some(id) if self.rng.random_ratio(1, 2) => {
                let bound = format!(r#"{{"taskId":{id}}}"#);
                self.running.put(&held, &bound).await;
            }
            Some(_) => {}
            None if is_refusal(&answer) => {
                self.running.delete(&held).await;
            }
            None => {}
        }
        Told::Aside
    }

    /// A job start as JSON or as a form.
    pub(crate) fn body(&mut self, name: &str, email: Option<&str>) -> (String, String) {
        // The history of an account tells jobs apart by their prompts.
        let is_told_apart = self.rng.random_ratio(1, 2);
        let prompt = if is_told_apart { name } else { "a boat" };
        let mut fields = vec![("prompt", prompt), ("replyRef", name)];
        fields.extend(email.map(|email| ("email", email)));
        if self.rng.random_ratio(1, 3) {
            let parts = fields.iter().map(|(name, value)| {
                format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            });
            let form = parts.collect::<String>() + "--x--\r\n";
            return ("multipart/form-data; boundary=x".to_owned(), form);
        }
        let fields: serde_json::Map<_, _> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        (
            "application/json".to_owned(),
            Value::from(fields).to_string(),
        )
    }
}

/// Starts one job on each account that clients name. Each has a free slot.
pub(crate) async fn start_on_each(addr: SocketAddr) -> Vec<(String, Told)> {
    let mut started = Vec::new();
    for (number, email) in NAMED.iter().enumerate() {
        let name = format!("job-last-{number}");
        let body = json!({ "prompt": name, "replyRef": name, "email": email });
        let request = job_start(&name, "application/json", &body.to_string());
        let answer = answer_within(PATIENCE, addr, &request).await;
        let answer = answer.expect("no answer");
        let told = told(&answer).unwrap_or_else(|| panic!("{answer:?}"));
        started.push((name, told));
    }
    started
}

/// What an answer to a job start says; `None`: that it may come again.
pub(crate) fn told(answer: &Answer) -> Option<Told> {
    if is_own_refusal(answer) {
        return None;
    }
    let id = json(answer)["task"]["id"].as_i64();
    Some(match (answer.status.as_u16(), id) {
        (200, Some(id)) => Told::Job(id),
        (502 | 504, None) if answer.text.contains("outcome-unknown") => Told::Unknown,
        (_, None) => {
            assert!(!answer.headers.contains_key("proxy-status"), "{answer:?}");
            Told::NoJob
        }
        (_, Some(_)) => panic!("{answer:?}"),
    })
}

/// Whether the sidecar refused before it sent anything, so that the same job may come again.
fn is_own_refusal(answer: &Answer) -> bool {
    let reason = json(answer)["reason"].as_str().map(str::to_owned);
    let is_known = |reason: &str| {
        matches!(
            reason,
            "saturated"
                | "unverified"
                | "cooling-down"
                | "no-usable-account"
                | "token-rejected"
                | "learning"
                | "no-accounts"
        )
    };
    reason.is_some_and(|reason| is_known(&reason))
}

/// Whether the upstream refused and started no job.
fn is_refusal(answer: &Answer) -> bool {
    let is_moderated = answer.text.contains("CM_EXT");
    matches!(answer.status.as_u16(), 300..=407 | 409..=499 | 596) || is_moderated
}

fn is_over(poll: &Answer) -> bool {
    poll.status == 404 || json(poll)["status_final"] == true
}

/// The body of an answer, if it is JSON.
pub(crate) fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_default()
}

fn base_path(base_url: &str) -> &str {
    let (_, below) = base_url.split_once("://").unwrap();
    &below[below.find('/').unwrap()..]
}
