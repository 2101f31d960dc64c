//! Calls that are carried to the upstream, beside other proxies.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use memchr::memmem;

use super::picks::{open_loop, tell};
use crate::{
    Fault,
    bench::{Bench, SLOTS, Target, stop},
    calls::{Work, job_start},
    cases::{Case, heading},
    child::Server,
    client::{Connection, request},
    floors::proxy,
    load::Pace,
    proxies::Proxy,
    report::Column,
    sidecar::Settings,
    upstream,
    wire::number_field,
};

/// What a closed loop is compared by.
const COSTS: [Column; 2] = [Column::Rate, Column::Cpu];
/// What the table for readers tells beside the sidecar.
const FLOORS: [&str; 4] = ["hyper-legacy", "hyper-fresh", "nginx", "haproxy"];
/// How long a mark may take to be proven: a round lists its job, every 10 s.
const PROOF_TIME_MAX: Duration = Duration::from_secs(60);
const PROOF_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn closed(bench: &Bench, work: Work) -> Result<(), Fault> {
    let (case, text, row) = match work {
        Work::Reads => (
            Case::Read,
            "GET /tasks/{id}, 1 KiB",
            Some("`GET /tasks/{id}`, 1 KiB: µs of CPU a call"),
        ),
        Work::Passes => (
            Case::Pass,
            "a call in no table, 1 KiB",
            Some("any other call, 1 KiB: µs of CPU a call"),
        ),
        Work::Starts => (
            Case::JobAlone,
            "POST /videos/text2video, 400 bytes; tracking ends after the window",
            Some("a job start, 400 bytes: µs of CPU a call"),
        ),
        Work::StartsAndUntracks | Work::Picks | Work::PicksAndReleases => (
            Case::Job,
            "POST /videos/text2video, 400 bytes, and DELETE /scheduler/{id} in turn, figures over both, latency of starts",
            None,
        ),
    };
    let mut targets = targets(bench, work)?;
    if work.is_jobs() {
        for target in targets.iter().filter(|target| target.is_sidecar()) {
            let upstream = target.upstream.as_ref().ok_or("no upstream")?;
            prove_marks(target.server.addr(), upstream.addr())?;
        }
    } else {
        // The upstream itself, to show that it is not what limits the others.
        let upstream = upstream::start(1, SLOTS)?;
        targets.insert(0, Target::new("upstream", upstream).with_task()?);
    }
    let rounds = bench.rounds(&targets, bench.plan.load(), work, Pace::Closed)?;
    let heading = heading(case, &format!("{text}; closed loop"));
    tell(
        bench,
        &heading,
        &rounds,
        &Column::CLOSED,
        ("sidecar", &COSTS),
    )?;
    if let Some(what) = row {
        bench
            .output
            .keep_row(rounds.row(what, "sidecar", &FLOORS, Column::Cpu));
    }
    stop(targets)
}

pub(super) fn open(bench: &Bench) -> Result<(), Fault> {
    let targets = targets(bench, Work::Reads)?;
    let text = "GET /tasks/{id}, 1 KiB";
    let rounds = open_loop(bench, &targets, Work::Reads, &heading(Case::OpenRead, text))?;
    let what = "`GET /tasks/{id}` at half of what the sidecar can: p99, µs";
    bench
        .output
        .keep_row(rounds.row(what, "sidecar", &FLOORS, Column::P99));
    stop(targets)
}

/// Starts the servers, each with an upstream of its own, since the list of running jobs would tell a sidecar of the jobs of
/// the others, and with a task that it can be asked for.
fn targets(bench: &Bench, work: Work) -> Result<Vec<Target>, Fault> {
    let workers = bench.plan.workers.get() as usize;
    let mut targets = Vec::new();
    let mut add = |name, start: &dyn Fn(SocketAddr) -> Result<Server, Fault>| {
        let upstream = upstream::start(bench.plan.accounts.get(), SLOTS)?;
        let mut target = Target::new(name, start(upstream.addr())?).with_task()?;
        target.upstream = Some(upstream);
        targets.push(target);
        Ok::<_, Fault>(())
    };
    let fresh = ("hyper-fresh", proxy::Kind::Fresh);
    for (name, kind) in [
        ("hyper-legacy", proxy::Kind::Legacy),
        ("hyper-own-pool", proxy::Kind::Own),
    ]
    .into_iter()
    .chain(work.is_jobs().then_some(fresh))
    {
        add(name, &|upstream| proxy::start(kind, upstream, workers))?;
    }
    for proxy in Proxy::ALL {
        let name = proxy.as_str();
        match proxy.find() {
            Some(program) => add(name, &|upstream| {
                proxy.start(&program, upstream, bench.directory.path())
            })?,
            None => bench.output.say(&format!("{name} is not installed"))?,
        }
    }
    let before = bench.plan.before.as_deref();
    let before = before.map(|program| ("before", program));
    for (name, program) in before.into_iter().chain([("sidecar", &*bench.program)]) {
        add(name, &|upstream| {
            let settings = Settings {
                program,
                upstream,
                ..bench.settings()
            };
            settings.ready()
        })?;
    }
    Ok(targets)
}

impl Target {
    fn with_task(mut self) -> Result<Self, Fault> {
        self.task = start_job(self.server.addr(), 1)?;
        Ok(self)
    }
}

/// Starts a job. Returns its task.
fn start_job(addr: SocketAddr, number: u64) -> Result<String, Fault> {
    let mut connection = Connection::open(addr)?;
    let answer = connection.call(&job_start(number))?.check()?;
    let task = number_field(answer.body, "id").ok_or_else(|| answer.unexpected())?;
    Ok(str::from_utf8(task)?.to_owned())
}

/// Starts jobs until one is marked while the first one, which was marked to try it, still runs: from then on the sidecar
/// marks them all.
fn prove_marks(sidecar: SocketAddr, upstream: SocketAddr) -> Result<(), Fault> {
    let until = Instant::now() + PROOF_TIME_MAX;
    let (mut client, mut list) = (Connection::open(sidecar)?, Connection::open(upstream)?);
    for number in 2.. {
        let task = start_job(sidecar, number)?;
        let answer = list.call(&request("GET /v1/kling/scheduler/available"))?;
        let row = memmem::find(answer.body, format!(r#""id":{task},"#).as_bytes());
        let row = &answer.body[row.ok_or("a job that is not listed")?..];
        let row = row.split(|byte| *byte == b'}').next().unwrap_or_default();
        let is_marked = memmem::find(row, b"replyRef").is_some();
        client
            .call(&request(&format!("DELETE /v1/kling/scheduler/{task}")))?
            .check()?;
        if is_marked {
            return Ok(());
        }
        if Instant::now() > until {
            break;
        }
        thread::sleep(PROOF_INTERVAL);
    }
    Err("job starts are not marked".into())
}
