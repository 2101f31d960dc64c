//! Helpers of all tests of carried calls: a client that keeps every byte, and short names for the
//! values that they compare.

use std::{env, net::SocketAddr};

use bytes::Bytes;
use harness::{Answer, PATIENCE, Running, Slots, eventually};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kling_sim::{Outcome, Sim};
use serde_json::Value;
use tokio::{net::TcpStream, time};

/// A job start that every account takes.
pub(super) const JOB: &str = "/v1/kling/videos/text2video";
/// Its smallest body.
pub(super) const PROMPT: &str = r#"{"prompt":"a boat"}"#;
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Raw {
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same with its body as text.
    pub(super) fn text(self) -> Answer {
        Answer {
            status: self.status,
            headers: self.headers,
            text: String::from_utf8(self.body.to_vec()).unwrap(),
        }
    }
}

/// Sends bytes, and keeps those that come back.
pub(super) async fn exchange(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Raw {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::HOST, addr.to_string());
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
        .body(Full::new(body.into()))
        .unwrap();
    let answered = async {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Raw {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    };
    let answer = time::timeout(PATIENCE, answered).await.expect("no answer");
    connection.abort();
    answer
}

/// A sidecar that knows the accounts and the jobs of `sim`.
pub(super) async fn ready(sim: Sim, settings: &[(&str, &str)]) -> Running {
    let running = Running::beside(sim, settings).await;
    running
        .until(|readiness| readiness.status == StatusCode::OK)
        .await;
    running
}

/// A seed from the environment, or another one each time. A test that fails shows it.
#[expect(clippy::print_stdout, reason = "a failure shows its seed")]
pub(super) fn drawn_seed() -> u64 {
    let seed = env::var("CARRY_SEED");
    let seed = seed.map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("CARRY_SEED={seed}");
    seed
}

/// Where a task is read and deleted.
pub(super) fn task_path(id: i64) -> String {
    format!("/v1/kling/tasks/{id}")
}

/// Starts a job on any account.
pub(super) async fn start_job(running: &Running) -> Answer {
    running.post(JOB, PROMPT).await
}

/// The id in the answer to a job start, which must have been accepted.
#[track_caller]
pub(super) fn task_id(answer: &Answer) -> i64 {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["task"]["id"].as_i64().unwrap()
}

/// The jobs that the simulator accepted, oldest first.
pub(super) fn accepted(sim: &Sim) -> Vec<i64> {
    let submissions = sim.audit().submissions;
    let ids = submissions
        .iter()
        .map(|submission| match submission.outcome {
            Outcome::Accepted(id) => Some(id.get()),
            Outcome::Refused(_) | Outcome::Unjudged(_) => None,
        });
    ids.flatten().collect()
}

/// Every lease that is held, oldest first.
pub(super) async fn leases(running: &Running) -> Vec<Value> {
    let listed = running.get("/leases").await.json();
    listed["leases"].as_array().unwrap().clone()
}

/// The slots of an account in use.
pub(super) async fn slots(running: &Running, email: &str) -> Slots {
    let account = running.account(email).await;
    let count = |field: &str| u32::try_from(account[field].as_u64().unwrap()).unwrap();
    Slots {
        held: count("held"),
        uncertain: count("uncertain"),
        foreign: count("foreignJobs"),
    }
}

/// Waits until an account's slots in use are these.
pub(super) async fn until_slots(running: &Running, email: &str, wanted: Slots) {
    eventually(async || (slots(running, email).await == wanted).then_some(())).await;
}

/// How many leases ended for `cause`.
pub(super) async fn ended(running: &Running, cause: &str) -> f64 {
    let series = format!("kling_balancer_leases_ended_total{{cause=\"{cause}\"}}");
    running.metric(&series).await
}

pub(super) async fn until_ended(running: &Running, cause: &str, count: f64) {
    eventually(async || (ended(running, cause).await == count).then_some(())).await;
}
