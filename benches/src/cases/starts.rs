//! What a start takes up to the first grant: in memory, and with leases on disk; and what these take there.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    Fault,
    bench::Bench,
    calls::pick,
    cases::{Case, heading},
    child::Server,
    client::Connection,
    output::progress,
    sidecar::Settings,
    stats::Spread,
};

/// Clients that fill a book at once.
const CLIENTS: u32 = 64;
const NAMES: [&str; 4] = [
    "in memory",
    "on disk, empty",
    "on disk, full, closed",
    "on disk, full, killed",
];

/// Measures the four kinds in turn.
pub(super) fn measure(bench: &Bench) -> Result<(), Fault> {
    let directory = bench.directory.path();
    let full = directory.join("full.db");
    let in_memory = bench.settings();
    let on_full = Settings {
        state: Some(&full),
        ..in_memory
    };
    on_full.ready()?.stop()?;
    let bytes_empty = fs::metadata(&full)?.len();
    let server = on_full.ready()?;
    fill(&server, bench.plan.leases())?;
    server.stop()?;
    let bytes = fs::metadata(&full)?.len();
    let leases = bench.plan.leases();
    bench.output.say(&heading(
        Case::Starts,
        "from the start of the process to its first grant, the list and the first round by HTTP in it",
    ))?;
    bench.output.say(&format!(
        "{leases} leases on disk, closed: {bytes} bytes, {} a lease",
        (bytes - bytes_empty) / u64::from(leases),
    ))?;
    let mut times = [const { Vec::new() }; NAMES.len()];
    for round in 0..bench.plan.rounds() {
        let (took, server) = start(in_memory)?;
        server.stop()?;
        times[0].push(took);
        let empty = directory.join(format!("empty-{round}.db"));
        let (took, server) = start(Settings {
            state: Some(&empty),
            ..in_memory
        })?;
        server.stop()?;
        times[1].push(took);
        let (took, server) = start(on_full)?;
        server.kill()?;
        times[2].push(took);
        let log = log_bytes(&full)?;
        let (took, server) = start(on_full)?;
        server.stop()?;
        times[3].push(took);
        if round == 0 {
            bench
                .output
                .say(&format!("the log that a kill leaves: {log} bytes"))?;
        }
        progress(&format!("round {} of {}", round + 1, bench.plan.rounds()));
    }
    for (name, times) in NAMES.into_iter().zip(times) {
        let times = times.iter().map(|time| time.as_secs_f64() * 1e3);
        let times = Spread::of(times).ok_or("no rounds")?;
        bench.output.say(&format!("{name:24}  {times:.1} ms"))?;
        bench.output.keep_row(format!(
            "| start to first pick, {name}: ms | {:.1} | | |",
            times.median
        ));
    }
    Ok(())
}

/// Starts a sidecar, and picks until it grants. Returns how long that took.
fn start(settings: Settings<'_>) -> Result<(Duration, Server), Fault> {
    let begun_at = Instant::now();
    let server = settings.ready()?;
    Ok((begun_at.elapsed(), server))
}

/// What a sidecar has not copied into the file yet.
fn log_bytes(book: &Path) -> io::Result<u64> {
    let mut log = book.as_os_str().to_owned();
    log.push("-wal");
    Ok(fs::metadata(log)?.len())
}

/// Picks so many leases, on many connections at once.
pub(super) fn fill(server: &Server, leases: u32) -> Result<(), Fault> {
    let open = |_| Connection::open(server.addr());
    let mut clients = (0..CLIENTS).map(open).collect::<io::Result<Vec<_>>>()?;
    let mut left = leases;
    while left > 0 {
        let count = left.min(CLIENTS);
        let clients = &mut clients[..count as usize];
        for client in &mut *clients {
            client.send(&pick())?;
        }
        for client in clients {
            client.wait()?.check()?;
        }
        left -= count;
    }
    Ok(())
}
