//! A program with its upstream and its book, which is ended and started again.

use std::time::Duration;

use harness::{Answer, eventually, manual, send};
use http::Method;
use kling_sim::{Effect, Fault, Sim};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::program::{self, Program, Settings};

pub(crate) const JOB: &str = "/v1/kling/videos/text2video";
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// Each account is for one fact.
pub(crate) const ACCOUNTS: [(&str, u32); 8] = [
    ("leased@x", 2),
    ("drained@x", 2),
    ("cooling@x", 2),
    ("broken@x", 2),
    ("poor@x", 2),
    ("keyed@x", 2),
    ("gone@x", 2),
    ("lost@x", 2),
];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Term,
    Kill,
}

pub(crate) const SIGNALS: [Signal; 2] = [Signal::Term, Signal::Kill];

/// A program with its upstream and its book.
pub(crate) struct Restarted {
    pub(crate) sim: Sim,
    pub(crate) settings: Settings,
    pub(crate) program: Program,
    pub(crate) directory: TempDir,
}

impl Restarted {
    /// Starts one, and waits until it is ready.
    pub(crate) async fn new(settings: &[(&'static str, &str)]) -> Self {
        let sim = manual(&ACCOUNTS).start().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let usual = [
            ("ACCOUNTS__REFRESH_INTERVAL", "100ms"),
            ("RECONCILE__INTERVAL", "100ms"),
            ("FORWARD__WAIT", "0s"),
        ];
        let settings = usual.iter().chain(settings);
        let mut settings: Settings = settings
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        settings.push(program::book_in(directory.path()));
        let program = Program::start(&sim, &settings).await;
        let restarted = Self {
            sim,
            settings,
            program,
            directory,
        };
        restarted.until_ready().await;
        restarted
    }

    /// Ends the program, and starts it again. Does not wait until it is ready.
    pub(crate) async fn restart(mut self, signal: Signal) -> Self {
        match signal {
            Signal::Term => self.program.terminate().await,
            Signal::Kill => self.program.kill().await,
        }
        self.program = Program::start(&self.sim, &self.settings).await;
        self
    }

    pub(crate) async fn until_ready(&self) {
        eventually(async || {
            let readiness = self.call(Method::GET, "/readyz", &[], "").await;
            (readiness.status == 200).then_some(())
        })
        .await;
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        send(self.program.addr, method, path, headers, body).await
    }

    /// Starts a job on an account, under a key if there is one.
    pub(crate) async fn start(&self, email: &str, key: Option<&str>) -> Answer {
        let mut headers = vec![JSON];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.call(Method::POST, JOB, &headers, &body(email)).await
    }

    pub(crate) async fn pick(&self, email: &str, key: &str) -> Value {
        let path = format!("/pick?email={email}&ttl=10m");
        let headers = [("idempotency-key", key)];
        self.call(Method::POST, &path, &headers, "").await.lease()
    }

    pub(crate) async fn account(&self, email: &str) -> Value {
        let path = format!("/accounts/{email}");
        self.call(Method::GET, &path, &[], "").await.json()
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        let answer = self.call(Method::DELETE, path, &[], "").await;
        answer.status.as_u16()
    }

    /// Lets the next job start of an account fail.
    pub(crate) fn fail_next(&self, email: &str, effect: Effect) {
        let fault = Fault::new(effect).on_job_starts().account(email);
        self.sim.fault(fault.times(1));
    }

    /// Sends a job start whose client leaves before the answer, and waits until the sidecar knows
    /// that.
    pub(crate) async fn abandon(&self, email: &str) {
        // The job starts at once, and the last byte of its answer comes most of a second later.
        self.fail_next(email, Effect::Drip(Duration::from_millis(1)));
        let count = self.sim.audit().submission_count;
        let body = body(email);
        let request = format!(
            "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = TcpStream::connect(self.program.addr).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        // Not before: a client that leaves before the first byte is sent starts no job.
        eventually(async || (self.sim.executing(email) == 1).then_some(())).await;
        drop(client);
        eventually(async || {
            let listed = self.call(Method::GET, "/jobs", &[], "").await.json();
            let mut jobs = listed["jobs"].as_array().unwrap().iter();
            let is_missed = |job: &Value| job["email"] == email && job["isDelivered"] == false;
            jobs.any(|job| is_missed(job) && job["taskId"].is_string())
                .then_some(())
        })
        .await;
        assert_eq!(self.sim.audit().submission_count, count + 1);
    }
}

/// A job start on an account.
pub(crate) fn body(email: &str) -> String {
    json!({"email": email, "prompt": format!("for {email}")}).to_string()
}
