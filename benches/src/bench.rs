//! A run: what its cases share, and the order of things.

use std::{
    env,
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::thread::set_current_timer_slack;
use tempfile::TempDir;

use crate::{
    Fault,
    calls::{Calls, Work},
    child::Server,
    floors::bare,
    load::{Load, Pace},
    machine,
    output::{Output, progress},
    plan::Plan,
    report::{Figures, Rounds},
    sidecar::{Settings, first_grant},
    upstream,
};

/// Slots of each account: the most that a list may give.
pub(crate) const SLOTS: u32 = 1000;

/// What the cases share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    /// The sidecar.
    pub(crate) program: PathBuf,
    /// The upstream of the sidecars that carry no calls, with as many accounts as the plan says.
    pub(crate) upstream: Server,
    /// For books, logs and configurations.
    pub(crate) directory: TempDir,
    pub(crate) output: Output,
    /// How many files this process may have open.
    pub(crate) files_max: u64,
}

/// A server that takes turns with others.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    /// An upstream of its own.
    pub(crate) upstream: Option<Server>,
    /// The task that is read.
    pub(crate) task: String,
}

/// Measures what the plan says.
pub(crate) fn measure(plan: Plan) -> Result<(), Fault> {
    // The kernel's own slack of 50 µs would be part of every latency of an open loop.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let files_max = rlimit::increase_nofile_limit(u64::MAX)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = match &plan.program {
        Some(program) => program.clone(),
        None => build(&root)?,
    };
    let bench = Bench {
        upstream: upstream::start(plan.accounts.get(), SLOTS)?,
        directory: tempfile::tempdir()?,
        output: Output::create(&plan.runs)?,
        program,
        plan,
        files_max,
    };
    bench.tell_run(&root)?;
    let mut failures = 0;
    for case in bench.plan.cases() {
        progress(case.as_str());
        // The cases behind it can still be measured.
        if let Err(error) = case.run(&bench) {
            bench
                .output
                .say(&format!("{} failed: {error}", case.as_str()))?;
            failures += 1;
        }
    }
    bench.output.say_rows()?;
    progress(&format!("written to {}", bench.output.path().display()));
    bench.upstream.stop()?;
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} cases failed").into()),
    }
}

/// Builds the sidecar as this program was built, and returns its path.
fn build(root: &Path) -> Result<PathBuf, Fault> {
    progress("building the sidecar, and what `instructions` counts");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .args(["build", "--bin", "kling-balancer", "--bin", "pool-steps"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if !command.status()?.success() {
        return Err("the sidecar was not built; --program names one that is there".into());
    }
    Ok(env::current_exe()?.with_file_name("kling-balancer"))
}

impl Bench {
    /// What was run where, with what.
    fn tell_run(&self, root: &Path) -> Result<(), Fault> {
        let args: Vec<_> = env::args().skip(1).collect();
        let command = format!(
            "cargo run --release -p benches --bin rig -- {}",
            args.join(" ")
        );
        let load = self.plan.load();
        self.output.say(&format!(
            "$ {}\n{}\n{}",
            command.trim_end_matches([' ', '-']),
            machine::describe(),
            machine::commit(root),
        ))?;
        self.output.say(&format!(
            "{} rounds, windows of {:?}, {} connections, {} worker(s) a server of ours, {} accounts with {SLOTS} slots\n\
             Figures are medians of the rounds; ratios are of the same round: median (smallest–largest).",
            self.plan.rounds(),
            load.window,
            load.connections,
            self.plan.workers,
            self.plan.accounts,
        ))?;
        if cfg!(debug_assertions) {
            self.output
                .say("This is a debug build: its numbers mean nothing.")?;
        }
        Ok(())
    }

    /// A sidecar in memory.
    pub(crate) fn settings(&self) -> Settings<'_> {
        Settings {
            program: &self.program,
            upstream: self.upstream.addr(),
            workers: self.plan.workers.get() as usize,
            state: None,
            directory: self.directory.path(),
        }
    }

    /// The servers that `/pick` is measured on: a bare one, the sidecar of before, the sidecar.
    pub(crate) fn pick_targets(&self) -> Result<Vec<Target>, Fault> {
        let sidecar = self.settings().ready()?;
        let answers = first_grant(sidecar.addr())?;
        let workers = self.plan.workers.get() as usize;
        let mut targets = vec![Target::new("bare-hyper", bare::start(&answers, workers)?)];
        if let Some(program) = &self.plan.before {
            let settings = Settings {
                program,
                ..self.settings()
            };
            targets.push(Target::new("before", settings.ready()?));
        }
        targets.push(Target::new("sidecar", sidecar));
        Ok(targets)
    }

    /// One window of one server.
    pub(crate) fn window(
        &self,
        target: &Target,
        load: Load,
        work: Work,
        pace: Pace,
    ) -> Result<Figures, Fault> {
        let server = &target.server;
        let mut calls = Calls::new(work, &target.task);
        let tally = load
            .run(server.addr(), || server.cpu(), &mut calls, pace)
            .map_err(|error| format!("{}: {error}", target.name))?;
        Ok(Figures::of(&tally, server.rss()?))
    }

    /// All rounds: a window of each server in turn.
    pub(crate) fn rounds(
        &self,
        targets: &[Target],
        load: Load,
        work: Work,
        pace: Pace,
    ) -> Result<Rounds, Fault> {
        let mut rounds = Rounds::default();
        for round in 1..=self.plan.rounds() {
            for target in targets {
                rounds.add(target.name, self.window(target, load, work, pace)?);
            }
            progress(&format!("round {round} of {}", self.plan.rounds()));
        }
        Ok(rounds)
    }
}

impl Target {
    pub(crate) fn new(name: &'static str, server: Server) -> Self {
        Self {
            name,
            server,
            upstream: None,
            task: String::new(),
        }
    }

    pub(crate) fn is_sidecar(&self) -> bool {
        matches!(self.name, "before" | "sidecar")
    }
}

/// Ends them, and waits until they are gone.
pub(crate) fn stop(targets: Vec<Target>) -> Result<(), Fault> {
    for Target {
        server, upstream, ..
    } in targets
    {
        server.stop()?;
        upstream.map_or(Ok(()), Server::stop)?;
    }
    Ok(())
}
