//! Resident memory: idle, and per account, lease, idle connection and waiter. Each is the difference of two sizes.

use std::{thread, time::Duration};

use memchr::memmem;

use crate::{
    Fault,
    bench::Bench,
    calls::pick,
    cases::{Case, heading, starts::fill},
    child::Server,
    client::{Connection, request},
    floors::bare,
    output::progress,
    sidecar::{Settings, first_grant},
    stats::as_f64,
    upstream,
};

const FEW_ACCOUNTS: u32 = 10;
const MANY_ACCOUNTS: u32 = 10_000;
const SLOTS: u32 = 1000;
const CONNECTIONS: u32 = 5000;
/// Files that are not connections.
const OTHER_FILES: u64 = 200;
/// The allocator gives memory back a second after it was freed.
const SETTLE_TIME: Duration = Duration::from_millis(2500);
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

pub(super) fn measure(bench: &Bench) -> Result<(), Fault> {
    bench.output.say(&heading(
        Case::Memory,
        "resident memory, from differences of RSS",
    ))?;
    let few = upstream::start(FEW_ACCOUNTS, SLOTS)?;
    let many = upstream::start(MANY_ACCOUNTS, SLOTS)?;
    let settings = |upstream: &Server| Settings {
        upstream: upstream.addr(),
        ..bench.settings()
    };

    let server = settings(&few).ready()?;
    let idle = settled(&server)?;
    tell(
        bench,
        &format!("idle, {FEW_ACCOUNTS} accounts"),
        as_f64(idle) / BYTES_PER_MIB,
        "MiB",
    )?;
    per_connection(bench, &server, idle, "idle connection")?;
    let answers = first_grant(server.addr())?;
    server.stop()?;

    let floor = bare::start(&answers, 1)?;
    first_grant(floor.addr())?;
    let floor_idle = settled(&floor)?;
    tell(
        bench,
        "bare hyper, idle",
        as_f64(floor_idle) / BYTES_PER_MIB,
        "MiB",
    )?;
    per_connection(bench, &floor, floor_idle, "idle connection of bare hyper")?;
    floor.stop()?;

    let server = settings(&many).ready()?;
    let before = settled(&server)?;
    let accounts = MANY_ACCOUNTS - FEW_ACCOUNTS;
    tell_each(bench, "account", idle, before, accounts)?;
    let leases = bench.plan.leases();
    fill(&server, leases)?;
    tell_each(bench, "lease", before, settled(&server)?, leases)?;
    server.stop()?;
    few.stop()?;
    many.stop()?;

    let one = upstream::start(1, 1)?;
    let server = settings(&one).ready()?;
    let before = settled(&server)?;
    per_waiter(bench, &server, before)?;
    server.stop()?;
    one.stop()
}

/// Connections that have had one call each.
fn per_connection(bench: &Bench, server: &Server, before: u64, name: &str) -> Result<(), Fault> {
    let livez = request("GET /livez");
    let mut connections = Vec::new();
    for _ in 0..connections_count(bench) {
        let mut connection = Connection::open(server.addr())?;
        connection.call(&livez)?.check()?;
        connections.push(connection);
    }
    let after = settled(server)?;
    tell_each(bench, name, before, after, connections_count(bench))
}

/// Picks that wait for the only slot, each on a connection of its own.
fn per_waiter(bench: &Bench, server: &Server, before: u64) -> Result<(), Fault> {
    let mut holder = Connection::open(server.addr())?;
    holder.call(&pick())?.check()?;
    let count = connections_count(bench);
    let mut waiters = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(server.addr())?;
        connection.send(&request("POST /pick?wait=10m"))?;
        waiters.push(connection);
    }
    let line = format!("\nkling_balancer_waiters {count}\n");
    while memmem::find(
        holder.call(&request("GET /metrics"))?.check()?.body,
        line.as_bytes(),
    )
    .is_none()
    {
        thread::sleep(Duration::from_millis(10));
    }
    let after = settled(server)?;
    tell_each(bench, "waiter, with its connection", before, after, count)
}

/// As many as the limit of files allows.
fn connections_count(bench: &Bench) -> u32 {
    let files = bench.files_max.saturating_sub(OTHER_FILES);
    let most = bench.plan.count(CONNECTIONS);
    u32::try_from(files).map_or(most, |files| files.min(most))
}

/// Resident memory once the server has given back what it does not need.
fn settled(server: &Server) -> Result<u64, Fault> {
    progress("waiting until memory has settled");
    let mut last = server.rss()?;
    loop {
        thread::sleep(SETTLE_TIME);
        let now = server.rss()?;
        // It still gives back.
        if now >= last.saturating_sub(last / 200) {
            return Ok(now);
        }
        last = now;
    }
}

fn tell_each(bench: &Bench, name: &str, before: u64, after: u64, count: u32) -> Result<(), Fault> {
    let grown = as_f64(after) - as_f64(before);
    let name = format!("{name} (of {count})");
    tell(bench, &name, grown / f64::from(count), "bytes")
}

fn tell(bench: &Bench, name: &str, figure: f64, unit: &str) -> Result<(), Fault> {
    let digits = usize::from(unit == "MiB");
    bench.output.keep_row(format!(
        "| memory: {name}, {unit} | {figure:.digits$} | | |"
    ));
    Ok(bench
        .output
        .say(&format!("{name:44}  {figure:>8.digits$} {unit}"))?)
}
