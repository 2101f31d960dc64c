//! A client with the habits of the vendor's scripts loses no prompt and no result to restarts.
//!
//! It takes its e-mail from `GET /accounts` and sends it with every call. It wants exactly 200, repeats only what
//! got 429, and gives up a prompt on anything else, a task on any failed poll, and its whole run where an
//! exchange fails.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use harness::{eventually, manual, send, within};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kling_sim::{Effect, Fault, Outcome, Sim};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};

use super::client::{JOB, JSON, accepted, drawn_seed, exchange, task_path};
use crate::program::{PassedSocket, Process};

/// The scripts pause 10 s after a 429.
const PAUSE_429: Duration = Duration::from_millis(500);
/// A prompt is given up after this many 429 in a row, and one more.
const RETRIES_429_MAX: usize = 6;
/// The scripts pause 20 s between polls.
const PAUSE_POLL: Duration = Duration::from_millis(50);

const ACCOUNTS: [(&str, u32); 3] = [("a@x", 2), ("b@x", 2), ("c@x", 1)];
const SLOTS: usize = 5;
/// Scripts of one prompt, which poll all along, and of several, whose prompts wait for slots.
const POLLING: usize = 2;
const SUBMITTING: usize = 6;
const PROMPTS_EACH: usize = 3;
const PROMPTS: usize = POLLING + SUBMITTING * PROMPTS_EACH;
/// The most jobs that end before a restart, so that prompts are left that wait during the second one.
const ENDED_MAX: usize = 4;
/// How long a submission is under way at a restart: longer than the signal takes, shorter than the pauses of a script
/// together.
const SLOW: Duration = Duration::from_millis(500);

/// What one run of a script achieved.
#[derive(Debug, Default)]
struct Report {
    /// Why prompts and tasks were given up.
    given_up: Vec<String>,
    /// How many clean files were saved.
    files: usize,
}

/// One run of a script.
struct Script {
    addr: SocketAddr,
    email: String,
    /// Kept between calls, as `fetch` does it, but not over a pause.
    connection: Option<SendRequest<Full<Bytes>>>,
    /// How many scripts are done with submitting.
    polling: Arc<AtomicUsize>,
    report: Report,
}

impl Script {
    /// Submits `prompts` one after the other, then polls each task until it is final and saves its file. It names
    /// the account at this place in the list.
    async fn run(
        addr: SocketAddr,
        account: usize,
        prompts: Vec<String>,
        polling: Arc<AtomicUsize>,
    ) -> Result<Report, String> {
        let mut script = Self {
            addr,
            email: String::new(),
            connection: None,
            polling,
            report: Report::default(),
        };
        let (status, accounts) = script.fetch(Method::GET, "/v1/kling/accounts", "").await?;
        if status != StatusCode::OK {
            return Err(format!("accounts: {status} {accounts}"));
        }
        let mut accounts = accounts.as_object().unwrap().values();
        let account = accounts.nth(account).unwrap();
        account["email"]
            .as_str()
            .unwrap()
            .clone_into(&mut script.email);
        let mut tasks = Vec::new();
        for prompt in prompts {
            tasks.extend(script.submit(&prompt).await?);
        }
        script.polling.fetch_add(1, Ordering::Relaxed);
        for task in tasks {
            script.download(task).await?;
        }
        Ok(script.report)
    }

    /// The task of a prompt, unless the prompt was given up.
    async fn submit(&mut self, prompt: &str) -> Result<Option<i64>, String> {
        let body = json!({ "email": self.email, "model_name": "kling-v1-6", "prompt": prompt });
        let body = body.to_string();
        for _ in 0..=RETRIES_429_MAX {
            let (status, answer) = self.fetch(Method::POST, JOB, &body).await?;
            match status {
                StatusCode::OK => return Ok(answer["task"]["id"].as_i64()),
                StatusCode::TOO_MANY_REQUESTS => self.pause(PAUSE_429).await,
                _ => {
                    self.give_up(format!("{prompt}: {status} {answer}"));
                    return Ok(None);
                }
            }
        }
        self.give_up(format!("{prompt}: 429 too often"));
        Ok(None)
    }

    async fn download(&mut self, task: i64) -> Result<(), String> {
        let path = format!("{}?email={}", task_path(task), self.email);
        let work = loop {
            let (status, poll) = self.fetch(Method::GET, &path, "").await?;
            if status != StatusCode::OK || poll["status_final"] == true {
                if poll["status_name"] == "succeed" {
                    break poll["works"][0]["workId"].clone();
                }
                self.give_up(format!("{task}: {status} {poll}"));
                return Ok(());
            }
            self.pause(PAUSE_POLL).await;
        };
        let work = work
            .as_str()
            .map_or_else(|| work.to_string(), str::to_owned);
        let email = &self.email;
        let path = format!("/v1/kling/assets/download?email={email}&workIds={work}&fileTypes=MP4");
        let (status, answer) = self.fetch(Method::GET, &path, "").await?;
        let Some(url) = answer["cdnUrl"].as_str() else {
            self.give_up(format!("{task}: no clean file: {status} {answer}"));
            return Ok(());
        };
        let url: Uri = url.parse().unwrap();
        let host = url.authority().unwrap().as_str().parse().unwrap();
        let file = exchange(host, Method::GET, url.path(), &[], "").await;
        assert_eq!(
            (file.status, &file.body[4..8]),
            (StatusCode::OK, &b"ftyp"[..])
        );
        self.report.files += 1;
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "a failure shows why")]
    fn give_up(&mut self, why: String) {
        println!("given up: {why}");
        self.report.given_up.push(why);
    }

    async fn pause(&mut self, pause: Duration) {
        self.connection = None;
        sleep(pause).await;
    }

    /// The connection that is kept, if it is still open, or a new one.
    async fn connection(&mut self) -> io::Result<SendRequest<Full<Bytes>>> {
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let stream = TcpStream::connect(self.addr).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, running) = handshake.map_err(io::Error::other)?;
        tokio::spawn(running);
        Ok(sender)
    }

    /// Sends a call. An error ends the run.
    async fn fetch(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, Value), String> {
        let failed = |error: &dyn Error| format!("fetch failed: {path}: {error:?}");
        let mut connection = self.connection().await.map_err(|error| failed(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.addr.to_string())
            .header(JSON.0, JSON.1)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let answer = connection.send_request(request).await;
        let (head, body) = answer.map_err(|error| failed(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?;
        if head.headers.get(header::CONNECTION).is_none() {
            self.connection = Some(connection);
        }
        Ok((
            head.status,
            serde_json::from_slice(&body.to_bytes()).unwrap(),
        ))
    }
}

/// The scripts that run, the upstream, and the process between them.
struct Scripts {
    sim: Sim,
    rng: SmallRng,
    socket: PassedSocket,
    process: Process,
    runs: Vec<JoinHandle<Result<Report, String>>>,
    polling: Arc<AtomicUsize>,
    /// The jobs that run through all restarts.
    kept: Vec<i64>,
    ended: usize,
}

impl Scripts {
    /// Starts scripts until all slots are taken: some poll, and prompts of the others wait.
    async fn new(seed: u64) -> Self {
        let sim = manual(&ACCOUNTS).seed(seed).start().await.unwrap();
        let socket = PassedSocket::new("127.0.0.1:0");
        let mut scripts = Self {
            rng: SmallRng::seed_from_u64(seed),
            process: launch(&socket, &sim).await,
            socket,
            sim,
            runs: Vec::new(),
            polling: Arc::default(),
            kept: Vec::new(),
            ended: 0,
        };
        scripts.start_scripts(POLLING, 1);
        let polling = Arc::clone(&scripts.polling);
        eventually(async || (polling.load(Ordering::Relaxed) == POLLING).then_some(())).await;
        scripts.kept = accepted(&scripts.sim);
        scripts.start_scripts(SUBMITTING, PROMPTS_EACH);
        scripts.until_slots_are_taken().await;
        scripts
    }

    fn start_scripts(&mut self, count: usize, prompts_each: usize) {
        for _ in 0..count {
            let script = self.runs.len();
            let prompts = (0..prompts_each).map(|prompt| prompt_text(script, prompt));
            let account = self.rng.random_range(0..ACCOUNTS.len());
            let run = Script::run(
                self.socket.addr(),
                account,
                prompts.collect(),
                Arc::clone(&self.polling),
            );
            self.runs.push(tokio::spawn(run));
        }
    }

    /// Waits until a prompt has taken the slot of each job that has ended.
    async fn until_slots_are_taken(&self) {
        let count = SLOTS + self.ended;
        eventually(async || (accepted(&self.sim).len() == count).then_some(())).await;
    }

    /// Ends one of the jobs that may end.
    fn end_job(&mut self) {
        let mut jobs = accepted(&self.sim);
        jobs.retain(|id| !self.kept.contains(id));
        // Of those that have ended, none ends again.
        while !self
            .sim
            .finish(jobs.swap_remove(self.rng.random_range(0..jobs.len())))
        {}
        self.ended += 1;
    }

    /// Ends the process while a submission is under way, prompts wait and tasks are polled. Starts the next one on
    /// the same socket.
    async fn restarted(mut self) -> Self {
        for _ in 0..self.rng.random_range(0..=ENDED_MAX) {
            self.end_job();
            self.until_slots_are_taken().await;
        }
        let slow = Fault::new(Effect::Delay(SLOW)).on_job_starts();
        self.sim.fault(slow);
        let addr = self.socket.addr();
        let earlier = submissions(addr).await;
        self.end_job();
        eventually(async || {
            let under_way = submissions(addr).await;
            under_way
                .iter()
                .any(|id| !earlier.contains(id))
                .then_some(())
        })
        .await;
        // No slot is free now, so that those that wait go on waiting.
        eventually(async || {
            let metrics = send(addr, Method::GET, "/metrics", &[], "").await.text;
            (!metrics.contains("kling_balancer_waiters 0")).then_some(())
        })
        .await;
        self.process.signal("-TERM").await;
        let (code, log) = within(self.process.end()).await;
        assert_eq!(code, Some(0), "{log}");
        let mut begin = log.lines().filter(|line| line.contains("draining"));
        let begin: Value = serde_json::from_str(begin.next().unwrap()).unwrap();
        assert!(begin["submissions"].as_u64() > Some(0), "{begin}");
        assert!(begin["waiting"].as_u64() > Some(0), "{begin}");
        self.sim.clear_faults();
        self.process = launch(&self.socket, &self.sim).await;
        self.until_slots_are_taken().await;
        self
    }

    /// Lets all jobs end, and returns what the scripts achieved.
    async fn finished(self) -> (Sim, Vec<Result<Report, String>>) {
        eventually(async || {
            self.sim.finish_all();
            send(self.socket.addr(), Method::GET, "/livez", &[], "").await;
            self.runs.iter().all(JoinHandle::is_finished).then_some(())
        })
        .await;
        let mut reports = Vec::new();
        for run in self.runs {
            reports.push(run.await.unwrap());
        }
        (self.sim, reports)
    }
}

fn prompt_text(script: usize, prompt: usize) -> String {
    format!("boat {script}-{prompt}")
}

async fn launch(socket: &PassedSocket, sim: &Sim) -> Process {
    let env = [
        ("KLB_FORWARD__CLIENT_EMAIL", "ignore"),
        ("KLB_FORWARD__WAIT", "4m"),
        ("KLB_RECONCILE__INTERVAL", "100ms"),
    ];
    Process::launch(socket.command(), sim, &env).await
}

/// The leases of the job starts that are under way.
async fn submissions(addr: SocketAddr) -> Vec<String> {
    let listed = send(addr, Method::GET, "/leases", &[], "").await.json();
    let leases = listed["leases"].as_array().unwrap().iter();
    let reserved = leases.filter(|lease| lease["state"] == "reserved");
    reserved.map(|lease| lease["leaseId"].to_string()).collect()
}

/// The prompts that became jobs, in alphabetical order.
fn started(sim: &Sim) -> Vec<String> {
    let audit = sim.audit();
    let submissions = audit.submissions.iter();
    let accepted = submissions.filter(|it| matches!(it.outcome, Outcome::Accepted(_)));
    let prompts = accepted.map(|submission| {
        let body: Value = serde_json::from_slice(&submission.body).unwrap();
        body["prompt"].as_str().unwrap().to_owned()
    });
    let mut prompts: Vec<_> = prompts.collect();
    prompts.sort_unstable();
    prompts
}

#[tokio::test]
async fn a_client_with_the_habits_of_the_vendors_scripts_loses_nothing_to_two_restarts() {
    let scripts = Scripts::new(drawn_seed()).await;
    let scripts = scripts.restarted().await.restarted().await;
    let (sim, reports) = scripts.finished().await;

    let mut files = 0;
    for report in reports {
        let report = report.expect("no exchange fails");
        assert_eq!(report.given_up, Vec::<String>::new());
        files += report.files;
    }
    assert_eq!(files, PROMPTS);
    let prompts_of = |script| {
        let each = if script < POLLING { 1 } else { PROMPTS_EACH };
        (0..each).map(move |prompt| prompt_text(script, prompt))
    };
    let prompts: Vec<_> = (0..POLLING + SUBMITTING).flat_map(prompts_of).collect();
    assert_eq!(started(&sim), prompts, "each prompt is one job");
    let audit = sim.audit();
    assert_eq!((audit.over_limit(), audit.duplicates), (0, 0), "{audit}");
    let mut accounts = audit.accounts.iter();
    assert!(accounts.all(|it| it.accepted > 0), "{audit}");
}
