//! The program as a process that is killed and started again.

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::Path,
    process::Stdio,
};

use kling_sim::Sim;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

/// Settings as in the environment, without the prefix.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// A running program.
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Program {
    /// Starts it beside a simulator. Returns once it listens, which is before it is ready.
    pub(crate) async fn start(sim: &Sim, settings: &Settings) -> Self {
        Self::spawn(sim, settings).serving().await
    }

    /// Starts it beside a simulator.
    pub(crate) fn spawn(sim: &Sim, settings: &Settings) -> Starting {
        Starting(command("serve", sim, settings).spawn().unwrap())
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }
}

/// A program that was started and may not listen yet.
pub(crate) struct Starting(Child);

impl Starting {
    /// Waits until it serves, which is before it is ready.
    pub(crate) async fn serving(self) -> Program {
        let Self(mut child) = self;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let addr = loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {said}"));
            let logged: Value = serde_json::from_str(&line).unwrap_or_default();
            if logged["message"] == "serving" {
                break logged["addr"].as_str().unwrap().parse().unwrap();
            }
            said = said + &line + "\n";
        };
        tokio::spawn(follow(lines, said));
        Program { child, addr }
    }
}

impl Program {
    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it with SIGTERM.
    pub(crate) async fn terminate(mut self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.await.unwrap().success());
        let status = self.child.wait().await.unwrap();
        assert_eq!(status.code(), Some(0), "it drained");
    }
}

/// Whether the program takes these settings.
pub(crate) async fn takes(sim: &Sim, settings: &[(&'static str, &str)]) -> bool {
    let settings = settings
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let output = command("check-config", sim, &settings.collect()).output();
    output.await.unwrap().status.success()
}

/// The settings of a book in this directory.
pub(crate) fn book_in(directory: &Path) -> (&'static str, String) {
    let path = directory.join("book.db");
    ("STATE__PATH", path.to_str().unwrap().to_owned())
}

pub(crate) fn command(name: &str, sim: &Sim, settings: &Settings) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kling-balancer"));
    command.arg(name).env_clear().kill_on_drop(true);
    command
        .env("KLB_LISTEN", "127.0.0.1:0")
        .env("KLB_UPSTREAM__BASE_URL", sim.base_url())
        .env("KLB_UPSTREAM__TOKEN", sim.token())
        .env("KLB_LOG__FORMAT", "json");
    for (name, value) in settings {
        command.env(format!("KLB_{name}"), value);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Reads the log to its end, and adds it to the file that `RESTARTS_LOG` names.
async fn follow(mut lines: Lines<BufReader<ChildStderr>>, said: String) {
    let open = |path| OpenOptions::new().create(true).append(true).open(path);
    let mut kept: Option<File> = env::var("RESTARTS_LOG")
        .ok()
        .map(|path| open(path).unwrap());
    let mut line = said;
    loop {
        if let Some(file) = &mut kept {
            file.write_all(line.as_bytes()).unwrap();
        }
        match lines.next_line().await {
            Ok(Some(next)) => line = next + "\n",
            Ok(None) | Err(_) => return,
        }
    }
}
