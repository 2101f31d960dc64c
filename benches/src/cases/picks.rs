//! `/pick` in a closed and in an open loop, on disk, and while others watch.

use crate::{
    Fault,
    bench::{Bench, Target, stop},
    calls::Work,
    cases::{Case, heading},
    load::{Load, Pace},
    output::progress,
    report::{Column, Rounds},
    sidecar::Settings,
};

/// What a closed loop is compared by.
const COSTS: [Column; 3] = [Column::Rate, Column::Cpu, Column::P99];
/// What an open loop is compared by.
const LATENCIES: [Column; 3] = [Column::P50, Column::P99, Column::P999];

/// Picks beside a bare server that gives the same answers.
pub(super) fn closed(bench: &Bench, work: Work) -> Result<(), Fault> {
    let targets = bench.pick_targets()?;
    let rounds = bench.rounds(&targets, bench.plan.load(), work, Pace::Closed)?;
    let heading = if work == Work::Picks {
        heading(
            Case::PickAlone,
            "POST /pick, its leases stay until the window is over; closed loop",
        )
    } else {
        heading(
            Case::Pick,
            "POST /pick and DELETE /leases/{id} in turn, figures over both, latency of picks; closed loop",
        )
    };
    tell(
        bench,
        &heading,
        &rounds,
        &Column::CLOSED,
        ("sidecar", &COSTS),
    )?;
    if work == Work::PicksAndReleases {
        let row = |what, column| rounds.row(what, "sidecar", &["bare-hyper"], column);
        let output = &bench.output;
        output.keep_row(row(
            "`POST /pick` and its `DELETE`: µs of CPU a call",
            Column::Cpu,
        ));
        output.keep_row(row("the same: calls/s, 32 connections", Column::Rate));
    }
    stop(targets)
}

/// Picks at the same rate on both servers.
pub(super) fn open(bench: &Bench) -> Result<(), Fault> {
    let targets = bench.pick_targets()?;
    let text = "POST /pick, each followed by a DELETE of a lease";
    let rounds = open_loop(
        bench,
        &targets,
        Work::PicksAndReleases,
        &heading(Case::OpenPick, text),
    )?;
    bench.output.keep_row(rounds.row(
        "`POST /pick` at half of that rate: p99, µs",
        "sidecar",
        &["bare-hyper"],
        Column::P99,
    ));
    stop(targets)
}

/// Measures latencies of `targets` at one rate: half of what the slowest of them does in a closed loop.
pub(super) fn open_loop(
    bench: &Bench,
    targets: &[Target],
    work: Work,
    heading: &str,
) -> Result<Rounds, Fault> {
    let load = bench.plan.open_load();
    let mut slowest = (f64::INFINITY, "");
    for target in targets {
        let figures = bench.window(target, bench.plan.load(), work, Pace::Closed)?;
        let rate = figures.get(Column::Rate);
        progress(&format!("{}: {rate:.0} calls/s at most", target.name));
        if rate < slowest.0 {
            slowest = (rate, target.name);
        }
    }
    let rate = slowest.0 / 2.0;
    let rounds = bench.rounds(targets, load, work, Pace::Open(rate))?;
    let heading = format!(
        "{heading}; open loop, {rate:.0} calls/s: half of what {} does in a closed one; latency from when a call was due",
        slowest.1
    );
    tell(
        bench,
        &heading,
        &rounds,
        &Column::OPEN,
        ("sidecar", &LATENCIES),
    )?;
    Ok(rounds)
}

/// A book on disk beside one in memory.
pub(super) fn disk(bench: &Bench) -> Result<(), Fault> {
    let book = bench.directory.path().join("picks.db");
    let on_disk = Settings {
        state: Some(&book),
        ..bench.settings()
    };
    let targets = [
        Target::new("memory", bench.settings().ready()?),
        Target::new("disk", on_disk.ready()?),
    ];
    let load = Load {
        connections: bench.plan.open_load().connections,
        ..bench.plan.load()
    };
    for (work, text) in [
        (
            Work::PicksAndReleases,
            "POST /pick and DELETE /leases/{id} in turn",
        ),
        (Work::Picks, "POST /pick alone"),
    ] {
        let rounds = bench.rounds(&targets, load, work, Pace::Closed)?;
        let text = format!("{text}, {} connections; closed loop", load.connections);
        let heading = heading(Case::Disk, &text);
        tell(bench, &heading, &rounds, &Column::CLOSED, ("disk", &COSTS))?;
        if work == Work::PicksAndReleases {
            let what = "`POST /pick` and its `DELETE` with a book on disk, 64 connections: µs of CPU a call";
            bench
                .output
                .keep_row(rounds.row(what, "disk", &["memory"], Column::Cpu));
        }
    }
    stop(targets.into())
}

/// A sidecar that pages and readers of events watch, beside one that they do not.
pub(super) fn watched(bench: &Bench) -> Result<(), Fault> {
    let watchers = bench.plan.watchers;
    let targets = [
        Target::new("memory", bench.settings().ready()?),
        Target::new("watched", bench.settings().ready()?),
    ];
    let (load, work) = (bench.plan.load(), Work::PicksAndReleases);
    let mut rounds = Rounds::default();
    for round in 1..=bench.plan.rounds() {
        let [memory, watched] = &targets;
        rounds.add(memory.name, bench.window(memory, load, work, Pace::Closed)?);
        let watching = watchers.watch(watched.server.addr())?;
        rounds.add(
            watched.name,
            bench.window(watched, load, work, Pace::Closed)?,
        );
        watching.stop()?;
        progress(&format!("round {round} of {}", bench.plan.rounds()));
    }
    let text = format!(
        "picks and releases while {} pages ask for /status each second and {} readers follow /events; closed loop",
        watchers.pages, watchers.streams
    );
    let heading = heading(Case::Watched, &text);
    tell(
        bench,
        &heading,
        &rounds,
        &Column::CLOSED,
        ("watched", &COSTS),
    )?;
    stop(targets.into())
}

/// A heading, the medians, and what `over` is as a multiple of the others.
pub(super) fn tell(
    bench: &Bench,
    heading: &str,
    rounds: &Rounds,
    columns: &[Column],
    (over, compared): (&str, &[Column]),
) -> Result<(), Fault> {
    let (table, ratios) = (rounds.table(columns), rounds.ratios(over, compared));
    Ok(bench.output.say(&format!("{heading}\n{table}\n{ratios}"))?)
}
