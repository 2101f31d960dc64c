//! A server that is sent raw bytes: whatever they are, it answers in valid HTTP, sends nothing twice to the upstream,
//! and has all its slots in the end.

mod answers;

use std::{cell::Cell, panic, sync::Mutex, time::Duration};

use accounts_fetcher::USER_AGENT;
use http::{Method, StatusCode, header};
use kling_sim::Head;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
};

use crate::{Running, eventually, manual, within};

/// So many inputs are tried on one server. What the simulator remembers of them is looked through after each.
const INPUTS_MAX: usize = 100;

const ACCOUNTS: &[(&str, u32)] = &[("a@x", 50), ("b@x", 50), ("c@x", 50)];

/// Grants rest on rounds of this second. No answer moves a job start, so that each is sent once.
const SETTINGS: &[(&str, &str)] = &[
    ("ACCOUNTS__REFRESH_INTERVAL", "1h"),
    ("RECONCILE__INTERVAL", "1s"),
    ("FORWARD__RETRY_STATUSES", ""),
];

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// A sidecar beside a simulator, both in this thread. It is started anew now and then.
#[derive(Debug)]
pub struct RawServer {
    runtime: Runtime,
    tried: Mutex<Option<Tried>>,
}

/// A sidecar, and what happened to it so far.
#[derive(Debug)]
struct Tried {
    running: Running,
    inputs: usize,
    /// How many calls have gone to the upstream.
    calls: usize,
    /// How many more the last input may have sent, whose client did not wait for them.
    late: usize,
}

impl RawServer {
    /// A server that starts with the first input.
    ///
    /// # Panics
    /// If there can be no runtime.
    #[must_use]
    pub fn new() -> Self {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            PANICS.with(|count| count.set(count.get() + 1));
            hook(about);
        }));
        Self {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            tried: Mutex::default(),
        }
    }

    /// Sends `data` over a connection of its own, and closes the sending side.
    ///
    /// # Panics
    /// If the answers are not valid HTTP, more requests reach the upstream than were accepted, a slot is not back in
    /// the end, or a task panics.
    pub fn check(&self, data: &[u8]) {
        let mut tried = self.tried.lock().unwrap();
        self.runtime.block_on(async {
            if tried
                .as_ref()
                .is_some_and(|tried| tried.inputs >= INPUTS_MAX)
            {
                let Running { shutdown, task, .. } = tried.take().unwrap().running;
                shutdown.cancel();
                within(task).await.unwrap().unwrap();
            }
            if tried.is_none() {
                *tried = Some(Tried::start().await);
            }
            tried.as_mut().unwrap().check(data).await;
        });
        assert_eq!(PANICS.with(Cell::get), 0, "a task panicked");
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tried {
    async fn start() -> Self {
        let sim = manual(ACCOUNTS).mcp_pause(Duration::ZERO);
        let running = Running::beside(sim.start().await.unwrap(), SETTINGS).await;
        running
            .until(|readiness| readiness.status == StatusCode::OK)
            .await;
        Self {
            running,
            inputs: 0,
            calls: 0,
            late: 0,
        }
    }

    async fn check(&mut self, data: &[u8]) {
        self.inputs += 1;
        let answers = within(exchange(&self.running, data)).await;
        let has_head = answers::count_of(data, b"HEAD ") > 0;
        let answered = answers::count(&answers, has_head);
        self.settle(&answers).await;
        // The last one may have been accepted without being answered: its client does not wait.
        let accepted = (answered + 1)
            .min(answers::count_of(data, b"HTTP/1."))
            .min(answers::count_of(data, b"/v1/kling"));
        let calls = self.calls();
        let new = calls - self.calls;
        assert!(
            new <= accepted + self.late,
            "{new} calls upstream of {accepted} requests, and {} before",
            self.late
        );
        self.late = accepted.saturating_sub(new);
        self.calls = calls;
    }

    /// How many calls the sidecar has carried. It shows its name with questions of its own only.
    fn calls(&self) -> usize {
        let is_call = |head: &Head| {
            let mut names = head.headers.get_all(header::USER_AGENT).iter();
            !names.any(|name| name == USER_AGENT)
        };
        let requests = self.running.sim.requests();
        let reads = requests.iter().filter(|request| is_call(&request.head));
        let audit = self.running.sim.audit();
        let starts = audit.submissions.iter().filter(|it| is_call(&it.head));
        reads.count() + starts.count()
    }

    /// Ends all jobs, and the picks that the answers told, and waits until all slots are free.
    async fn settle(&self, answers: &[u8]) {
        eventually(async || {
            let accounts = self.running.get("/accounts").await.json();
            let accounts = accounts["accounts"].as_array().unwrap();
            assert_eq!(accounts.len(), ACCOUNTS.len());
            let mut are_free = true;
            for account in accounts {
                are_free &= self.is_free(account).await;
            }
            if !are_free {
                self.end_leases(answers).await;
            }
            are_free.then_some(())
        })
        .await;
        let executing = |(email, _): &(&str, u32)| self.running.sim.executing(email);
        let executing: u32 = ACCOUNTS.iter().map(executing).sum();
        assert_eq!(executing, 0, "a job runs that no lease is for");
    }

    async fn is_free(&self, account: &Value) -> bool {
        if account["state"] == "draining" {
            let path = format!("/accounts/{}/resume", account["email"].as_str().unwrap());
            assert_eq!(self.running.post(&path, "").await.status, StatusCode::OK);
        }
        account["inFlight"] == 0
    }

    /// Ends what a client can end. All else has to end by itself: what is under way, and a pick whose client did not
    /// learn of it.
    async fn end_leases(&self, answers: &[u8]) {
        let leases = self.running.get("/leases").await.json();
        for lease in leases["leases"].as_array().unwrap() {
            let id = lease["leaseId"].as_str().unwrap();
            let email = lease["email"].as_str().unwrap();
            let is_told = answers::count_of(answers, id.as_bytes()) > 0;
            let path = match lease["taskId"].as_str() {
                Some(task_id) => format!("/v1/kling/scheduler/{task_id}?email={email}"),
                None if is_told || lease["state"] == "uncertain" => format!("/leases/{id}"),
                None => continue,
            };
            let headers = [("user-agent", USER_AGENT)];
            let ended = self.running.send(Method::DELETE, &path, &headers, "");
            let status = ended.await.status;
            // It may have ended meanwhile.
            assert!(
                status.is_success() || status == StatusCode::NOT_FOUND,
                "{status}"
            );
        }
    }
}

/// Everything that is answered to `data`.
async fn exchange(running: &Running, data: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answers = Vec::new();
    let send = async {
        // The server may have closed the connection: it reads no request behind its last answer.
        if writer.write_all(data).await.is_ok() {
            writer.shutdown().await.ok();
        }
    };
    let (_, read) = tokio::join!(send, reader.read_to_end(&mut answers));
    read.expect("the server resets no connection that it answered");
    answers
}
