//! Real clients and answers that come before their requests were read: on one session, the early answer is seen, and
//! the next request is neither lost nor sent twice.
//!
//! A client that is not installed is left out, unless `CLIENTS=all` says that all must be there.

use std::{env, fmt::Write, path::Path, process::Stdio, time::Duration};

use harness::Running;
use kling_sim::{Answer, Effect, Fault};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

const TOKEN: &str = "a-token-of-a-client";
const WATCHER: &str = "the-token-of-a-watcher";
const JOB: &str = "/v1/kling/videos/text2video";
/// Below, at and above what is read of a request after its answer.
const BODIES: [&str; 4] = ["1024", "61440", "1048576", "chunked"];
/// How long a client may take for its calls, which are its own business to give up.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(120);
/// Of a client that waits for `100 Continue`.
const ASKS: &str = "asks 1024";

/// The sidecars that answer early, each in its way.
struct Sidecars {
    /// Refuses bodies above 512 bytes.
    open: Running,
    /// Wants a token.
    closed: Running,
    /// Has no slot left.
    full: Running,
    _watchers: tempfile::NamedTempFile,
}

impl Sidecars {
    async fn start() -> Self {
        let watchers = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(watchers.path(), WATCHER).unwrap();
        let tokens = [
            ("AUTH__TOKENS", TOKEN),
            ("AUTH__READ_TOKENS_FILE", watchers.path().to_str().unwrap()),
        ];
        let all = Self {
            open: Running::configured(&[("a@x", 1)], &[("FORWARD__BODY_MAX", "512B")]).await,
            closed: Running::configured(&[("a@x", 1)], &tokens).await,
            full: Running::with(&[("a@x", 1)]).await,
            _watchers: watchers,
        };
        all.full.pick("").await;
        for running in all.each() {
            let sim = &running.sim;
            let early = Effect::EarlyAnswer(Answer::new(413));
            sim.fault(Fault::new(early).on("POST", "/early"));
            sim.fault(Fault::status(200).on("POST", "/next"));
        }
        all
    }

    fn each(&self) -> [&Running; 3] {
        [&self.open, &self.closed, &self.full]
    }

    /// Every kind of early answer: its name, the sidecar, method, path, header lines, and its status.
    fn kinds(
        &self,
    ) -> Vec<(
        &'static str,
        &Running,
        &'static str,
        &'static str,
        String,
        u16,
    )> {
        let (open, closed, full) = (&self.open, &self.closed, &self.full);
        let many: Vec<_> = (0..101).map(|idx| format!("x-{idx}: 1")).collect();
        let watcher = format!("authorization: Bearer {WATCHER}");
        let encoded = "content-encoding: gzip".to_owned();
        let kind = "content-type: application/json".to_owned();
        vec![
            (
                "400",
                open,
                "POST",
                JOB,
                "x-kling-wait: soon".to_owned(),
                400,
            ),
            ("401", closed, "POST", JOB, kind.clone(), 401),
            ("403", closed, "POST", JOB, watcher, 403),
            ("404", open, "POST", "/nowhere", kind.clone(), 404),
            ("405", open, "PUT", "/pick", kind.clone(), 405),
            ("413", open, "POST", JOB, kind.clone(), 413),
            ("415", open, "POST", JOB, encoded, 415),
            ("421", open, "POST", JOB, kind.clone(), 421),
            ("429", full, "POST", JOB, kind.clone(), 429),
            ("431", open, "POST", JOB, many.join("|"), 431),
            ("upstream", open, "POST", "/v1/kling/early", kind, 413),
        ]
    }

    /// What a client is to do, and what it is to say then.
    fn plan(&self, client: &Client) -> (String, Vec<String>) {
        let (mut plan, mut expected) = (String::new(), Vec::new());
        for (kind, running, method, path, lines, status) in self.kinds() {
            for body in BODIES.into_iter().chain(client.asks.then_some(ASKS)) {
                let name = format!("{}/{kind}/{}", client.name, body.replace(' ', "-"));
                let port = running.addr.port();
                // An address that leads here and is not served.
                let host = if status == 421 {
                    "0.0.0.0"
                } else {
                    "127.0.0.1"
                };
                let early = format!("http://{host}:{port}{path}");
                let next = format!("http://127.0.0.1:{port}/v1/kling/next?name={name}");
                let shown = format!("authorization: Bearer {TOKEN}");
                writeln!(
                    plan,
                    "{name}\t{method}\t{early}\t{lines}\t{body}\t{next}\t{shown}"
                )
                .unwrap();
                expected.push(format!("{name}\t{status}\t200"));
            }
        }
        (plan, expected)
    }

    /// How often the upstream got the request that followed `name`.
    fn next_count(&self, name: &str) -> usize {
        let query = format!("name={name}");
        let seen = self.each().into_iter().flat_map(|it| it.sim.requests());
        seen.filter(|it| it.head.query.as_deref() == Some(&query))
            .count()
    }
}

/// A client: a program in `tests/clients`.
struct Client {
    name: &'static str,
    /// Ends well where the client is installed.
    probe: &'static [&'static str],
    program: &'static [&'static str],
    /// Whether it can wait for `100 Continue`. Java's `HttpClient` can, but one that gets another answer waits for
    /// ever (JDK-8286171).
    asks: bool,
}

const CLIENTS: [Client; 8] = [
    client(
        "http.client",
        &["python3", "--version"],
        &["python3", "http_client.py"],
        false,
    ),
    client(
        "requests",
        &["python3", "-c", "import requests"],
        &["python3", "requests_session.py"],
        false,
    ),
    client(
        "aiohttp",
        &["python3", "-c", "import aiohttp"],
        &["python3", "aiohttp_session.py"],
        true,
    ),
    client(
        "node-http",
        &["node", "--version"],
        &["node", "http_agent.mjs"],
        true,
    ),
    client(
        "fetch",
        &["node", "--version"],
        &["node", "fetch.mjs"],
        false,
    ),
    client(
        "curl",
        &["curl", "--version"],
        &["python3", "curl.py"],
        true,
    ),
    client(
        "java-url",
        &["javac", "--version"],
        &["java", "UrlConnection.java"],
        false,
    ),
    client(
        "java-http",
        &["javac", "--version"],
        &["java", "NetHttp.java"],
        false,
    ),
];

const fn client(
    name: &'static str,
    probe: &'static [&'static str],
    program: &'static [&'static str],
    asks: bool,
) -> Client {
    Client {
        name,
        probe,
        program,
        asks,
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    command
        .args(&words[1..])
        .current_dir(dir)
        .kill_on_drop(true);
    // Nothing is written beside the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Client {
    async fn is_installed(&self) -> bool {
        let probed = command(self.probe).output().await;
        let is_installed = probed.is_ok_and(|output| output.status.success());
        let must_be = env::var_os("CLIENTS").is_some_and(|which| which == "all");
        assert!(is_installed || !must_be, "{} is not installed", self.name);
        is_installed
    }

    /// Makes the calls of a plan, and returns what it prints of each.
    async fn run(&self, plan: &str) -> String {
        let mut child = command(self.program).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(plan.as_bytes()).await.unwrap();
        drop(input);
        let ended = timeout(CLIENT_TIME_MAX, child.wait_with_output()).await;
        let output = ended.expect("it hangs").unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_loses_the_request_after_an_early_answer() {
    let sidecars = Sidecars::start().await;
    for client in &CLIENTS {
        if !client.is_installed().await {
            continue;
        }
        let (plan, expected) = sidecars.plan(client);
        let said = client.run(&plan).await;
        let said: Vec<_> = said.lines().collect();
        let wrong = expected
            .iter()
            .zip(&said)
            .filter(|(expected, said)| expected != said);
        let wrong: Vec<_> = wrong.map(|(_, said)| said).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for line in &expected {
            let name = line.split('\t').next().unwrap();
            assert_eq!(sidecars.next_count(name), 1, "{name}");
        }
    }
}
