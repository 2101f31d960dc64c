//! Resident memory: idle, and per account, lease, idle connection and waiter. Each is the difference of two sizes.
//!
//! For accounts they are sizes of two processes, of which other pages of the program are resident, 0.2 MB more or less. So
//! the difference without pages of files is told, too.

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
    stats::{as_f64, grouped},
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
/// How often it is looked whether all wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
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

    let count = connections_count(bench);
    let sidecar = settings(&few).ready()?;
    let answers = first_grant(sidecar.addr())?;
    let idle = settled(&sidecar)?;
    let idle_anonymous = sidecar.anonymous()?;
    let connection = per_connection(&sidecar, idle, count)?;
    sidecar.stop()?;
    let floor = bare::start(&answers, 1)?;
    first_grant(floor.addr())?;
    let floor_idle = settled(&floor)?;
    let floor_connection = per_connection(&floor, floor_idle, count)?;
    floor.stop()?;
    let of_10 = format!("idle, {FEW_ACCOUNTS} accounts");
    let mib = |bytes| as_f64(bytes) / BYTES_PER_MIB;
    tell(bench, &of_10, "MiB", mib(idle), Some(mib(floor_idle)))?;
    let of_each = format!("idle connection (of {count})");
    let floor = Some(floor_connection);
    tell(bench, &of_each, "bytes", connection, floor)?;

    let server = settings(&many).ready()?;
    let before = settled(&server)?;
    let accounts = MANY_ACCOUNTS - FEW_ACCOUNTS;
    let account = each(idle, before, accounts);
    let name = format!("account (of {MANY_ACCOUNTS})");
    tell(bench, &name, "bytes", account, None)?;
    let account = each(idle_anonymous, server.anonymous()?, accounts);
    let name = format!("{name}, no pages of files");
    tell(bench, &name, "bytes", account, None)?;
    let leases = bench.plan.leases();
    fill(&server, leases)?;
    let lease = each(before, settled(&server)?, leases);
    let name = format!("lease (of {leases})");
    tell(bench, &name, "bytes", lease, None)?;
    server.stop()?;
    few.stop()?;
    many.stop()?;

    let one = upstream::start(1, 1)?;
    let server = settings(&one).ready()?;
    let before = settled(&server)?;
    let waiter = per_waiter(&server, before, count)?;
    let name = format!("waiter, with its connection (of {count})");
    tell(bench, &name, "bytes", waiter, None)?;
    server.stop()?;
    one.stop()
}

/// Bytes a connection that has had one call.
fn per_connection(server: &Server, before: u64, count: u32) -> Result<f64, Fault> {
    let livez = request("GET /livez");
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(server.addr())?;
        connection.call(&livez)?.check()?;
        connections.push(connection);
    }
    Ok(each(before, settled(server)?, count))
}

/// Bytes a pick that waits for the only slot, on a connection of its own.
fn per_waiter(server: &Server, before: u64, count: u32) -> Result<f64, Fault> {
    let mut holder = Connection::open(server.addr())?;
    holder.call(&pick())?.check()?;
    let mut waiters = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(server.addr())?;
        connection.send(&request("POST /pick?wait=10m"))?;
        waiters.push(connection);
    }
    let line = format!("\nkling_balancer_waiters {count}\n");
    let scrape = request("GET /metrics");
    while memmem::find(holder.call(&scrape)?.check()?.body, line.as_bytes()).is_none() {
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(each(before, settled(server)?, count))
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

/// The growth of each of `count` things.
fn each(before: u64, after: u64, count: u32) -> f64 {
    (as_f64(after) - as_f64(before)) / f64::from(count)
}

/// Tells what a thing takes, and what it takes of bare hyper.
fn tell(
    bench: &Bench,
    name: &str,
    unit: &str,
    figure: f64,
    floor: Option<f64>,
) -> Result<(), Fault> {
    let text = |figure| grouped(figure, usize::from(unit == "MiB"));
    let (beside, ratio) = match floor {
        Some(floor) => (
            format!("bare-hyper {}", text(floor)),
            format!("{:.2}", figure / floor),
        ),
        None => Default::default(),
    };
    bench.output.keep_row(format!(
        "| memory, {name}: {unit} | {} | {beside} | {ratio} |",
        text(figure)
    ));
    let line = format!("{name:44}  {:>8} {unit:5}  {beside}", text(figure));
    Ok(bench.output.say(line.trim_end())?)
}
