//! The program as a process of its own.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Output, Stdio},
    sync::Arc,
};

use harness::{eventually, send};
use http::{Method, StatusCode};
use kling_sim::Sim;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    sync::Notify,
    task::JoinHandle,
};

/// The most resident memory that it keeps after a burst, without its code: 30 MiB with the 9 MiB of code that the
/// released program maps. A debug build maps more than twice as much.
pub(crate) const KEPT_MAX: usize = 21 * 1024 * 1024;

/// The program with `args`, and nothing in its environment but `env`.
pub(crate) fn program(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kling-balancer"));
    command.args(args);
    prepared(command, env)
}

fn prepared(mut command: Command, env: &[(&str, &str)]) -> Command {
    command
        .env_clear()
        .envs(env.iter().copied())
        .kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn output(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(args, env).output().await.unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

/// A running program, the address it says it listens on, and its log.
pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// What it logged, and the end of the pipe that it logs to.
    log: JoinHandle<(String, BufReader<ChildStderr>)>,
    stop_reading: Arc<Notify>,
}

impl Process {
    pub(crate) async fn start(sim: &Sim, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kling-balancer"));
        command.arg("serve");
        Self::launch(command, sim, env).await
    }

    pub(crate) async fn launch(command: Command, sim: &Sim, env: &[(&str, &str)]) -> Self {
        let base_url = sim.base_url();
        let mut all = vec![
            ("KLB_LISTEN", "127.0.0.1:0"),
            ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
            ("KLB_UPSTREAM__TOKEN", sim.token()),
            ("KLB_ACCOUNTS__REFRESH_INTERVAL", "100ms"),
            ("KLB_LOG__FORMAT", "json"),
            // Most tests ask what is so now.
            ("KLB_FORWARD__WAIT", "0s"),
        ];
        all.extend(env);
        let mut child = prepared(command, &all).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        let mut metrics_addr = None;
        let addr = loop {
            let start = text.len();
            assert_ne!(
                log.read_line(&mut text).await.unwrap(),
                0,
                "it ended: {text}"
            );
            let line: serde_json::Value = serde_json::from_str(&text[start..]).unwrap();
            let addr = || line["addr"].as_str().unwrap().parse().unwrap();
            match line["message"].as_str() {
                Some("serving metrics") => metrics_addr = Some(addr()),
                Some("serving") => break addr(),
                _ => {}
            }
        };
        let stop_reading = Arc::<Notify>::default();
        let stopped = Arc::clone(&stop_reading);
        let log = tokio::spawn(async move {
            tokio::select! {
                read = log.read_to_string(&mut text) => drop(read.unwrap()),
                () = stopped.notified() => {}
            }
            (text, log)
        });
        Self {
            child,
            addr,
            metrics_addr,
            log,
            stop_reading,
        }
    }

    /// One that may open few files, ready: eight clients may be connected at once, one of which may read events.
    pub(crate) async fn short_of_files(sim: &Sim) -> Self {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -n 64; exec \"$0\" serve",
            env!("CARGO_BIN_EXE_kling-balancer"),
        ]);
        let process = Self::launch(command, sim, &[]).await;
        process.until_ready().await;
        process
    }

    /// From now on its log is open, and not read.
    pub(crate) fn stop_reading(&self) {
        self.stop_reading.notify_one();
    }

    pub(crate) async fn until_ready(&self) {
        eventually(async || {
            let answer = send(self.addr, Method::GET, "/readyz", &[], "").await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Waits until it accepts no more connections, which means that the drain has begun.
    pub(crate) async fn until_closed(&self) {
        eventually(async || TcpStream::connect(self.addr).await.is_err().then_some(())).await;
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    /// One of its figures in `/proc/{pid}/status`, in bytes.
    pub(crate) fn memory(&self, figure: &str) -> usize {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let kib = lines.find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let kib: usize = kib.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Waits until its resident memory, without its code, is below `bytes`. Freed memory goes back to the system after a second or two.
    pub(crate) async fn until_memory_below(&self, bytes: usize) {
        eventually(async || (self.memory("RssAnon") < bytes).then_some(())).await;
    }

    /// Its exit code and everything it logged.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        (
            self.child.wait().await.unwrap().code(),
            self.log.await.unwrap().0,
        )
    }
}

/// A socket that outlives the processes that serve it, as a service manager keeps it.
pub(crate) struct PassedSocket(TcpListener);

impl PassedSocket {
    pub(crate) fn new(addr: &str) -> Self {
        Self(TcpListener::bind(addr).unwrap())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// A shell that passes the socket on to the program, which takes the place of the shell.
    pub(crate) fn command(&self) -> Command {
        let socket: OwnedFd = self.0.try_clone().unwrap().into();
        let mut command = Command::new("/bin/sh");
        let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve 3<&0 </dev/null"#;
        command.args(["-c", script, env!("CARGO_BIN_EXE_kling-balancer")]);
        command.stdin(Stdio::from(socket));
        command
    }
}
