//! The servers, each in a process of its own.
//!
//! Our own ones are this program with a subcommand: such a child prints its address in the first line of its output and
//! ends when its input ends, so it cannot outlive its parent, however that one ends. Other programs are held by a child
//! of that kind, which ends them when its input ends.
#![expect(
    clippy::print_stdout,
    reason = "a child tells its parent what it holds"
)]

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{runtime, task};

use crate::{Fault, machine};

/// How long a program may take to end before it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// The process that serves: the child, or what it holds.
    pid: u32,
    addr: SocketAddr,
}

/// The arguments of the child that holds a program.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Server {
    /// Starts one of our own servers.
    pub(crate) fn own(name: &str, args: &[&str]) -> Result<Self, Fault> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(name).args(args);
        let (child, line) = spawn(command)?;
        let addr = line.parse();
        let addr = addr.map_err(|_error| format!("{name} did not start"))?;
        let pid = child.id();
        Ok(Self { child, pid, addr })
    }

    /// Starts another program with these variables, which serves at the address that `find` finds, once it does.
    /// What it says goes into `log`.
    pub(crate) fn program(
        program: &[String],
        variables: &[(&str, String)],
        log: File,
        find: impl FnOnce() -> Result<SocketAddr, Fault>,
    ) -> Result<Self, Fault> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("hold").arg("--").args(program).stderr(log);
        // Settings of the user's own sidecar.
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("KLB_")) {
            command.env_remove(name);
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let (child, line) = spawn(command)?;
        let pid = line.parse();
        let pid = pid.map_err(|_error| format!("{} did not start", program.join(" ")))?;
        let addr = (Ipv4Addr::LOCALHOST, 0).into();
        // So that it ends if it does not serve.
        let mut server = Self { child, pid, addr };
        server.addr = find()?;
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        machine::cpu_time(self.pid)
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss(&self) -> io::Result<u64> {
        machine::rss(self.pid)
    }

    /// Resident memory without pages of files, in bytes.
    pub(crate) fn anonymous(&self) -> io::Result<u64> {
        machine::anonymous(self.pid)
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(self) -> Result<(), Fault> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("no process")?, Signal::KILL)?;
        self.stop()
    }

    /// Ends it and waits until it is gone. If it is dropped, it ends by itself.
    pub(crate) fn stop(mut self) -> Result<(), Fault> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// Starts a child. Returns the first line that it prints.
fn spawn(mut command: Command) -> Result<(Child, String), Fault> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

/// Runs a program until the input ends, and ends it then.
pub(crate) fn hold(hold: &Hold) -> Result<(), Fault> {
    let mut child = Command::new(&hold.program)
        .args(&hold.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    println!("{}", child.id());
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if child.try_wait()?.is_none() {
        kill_process(pid.ok_or("no process")?, Signal::TERM)?;
    }
    let until = Instant::now() + END_TIME_MAX;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// A port that is free now, for programs that do not tell which one they got.
pub(crate) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A runtime of the kind the sidecar's own program has.
pub(crate) fn on_runtime(
    workers: usize,
    task: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?
        .block_on(task)
}

/// Waits until the parent closes our input, or is gone.
pub(crate) async fn input_end() {
    let read = task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
    if let Ok(Err(error)) = read.await {
        println!("the input cannot be read: {error}");
    }
}
