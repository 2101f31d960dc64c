//! What a start costs that finds many leases on disk, up to its first grant; and what these take there.

use std::{cell::Cell, fs, io, path::Path, rc::Rc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Fault, MAX_JOBS, Plan,
    client::Connection,
    sample,
    server::{Kind, Server},
    sim,
};

/// Clients that fill a book at once.
const CLIENTS: u32 = 64;

/// Measures starts with an empty book, with a full one that was closed, and with a full one after a kill, in turn.
pub(crate) async fn measure(plan: &Plan) -> Result<(), Fault> {
    // One more is picked after each start.
    let sim = sim(plan.leases / MAX_JOBS + 1).start().await?;
    let base_url = sim.base_url();
    let directory = tempfile::tempdir()?;
    let full = directory.path().join("full.db");
    let kind = Kind {
        state: Some(&full),
        ..plan.kind(&base_url, sim.token())
    };
    let server = Server::sidecar(kind)?;
    sample(&server).await?;
    server.stop()?;
    let bytes_empty = fs::metadata(&full)?.len();
    let server = Server::sidecar(kind)?;
    sample(&server).await?;
    fill(&server, plan.leases).await?;
    server.stop()?;
    let bytes = fs::metadata(&full)?.len();
    println!(
        "\n{} leases on disk, closed: {bytes} bytes, {} a lease",
        plan.leases,
        (bytes - bytes_empty) / u64::from(plan.leases),
    );
    println!(
        "start of the process to its first grant: fastest, median, slowest of {}",
        plan.rounds
    );
    let mut times = [const { Vec::new() }; 3];
    for round in 0..plan.rounds.get() {
        let empty = directory.path().join(format!("empty-{round}.db"));
        let on_empty = Kind {
            state: Some(&empty),
            ..kind
        };
        let (took, server) = start(on_empty).await?;
        server.stop()?;
        times[0].push(took);
        let (took, server) = start(kind).await?;
        server.kill()?;
        times[1].push(took);
        let log = log_bytes(&full)?;
        let (took, server) = start(kind).await?;
        server.stop()?;
        times[2].push(took);
        if round == 0 {
            println!("the log that a kill leaves: {log} bytes");
        }
    }
    let names = ["an empty book", "a full one, closed", "a full one, killed"];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort_unstable();
        let of = |idx: usize| times[idx].as_secs_f64() * 1e3;
        let last = times.len() - 1;
        let [fastest, median, slowest] = [of(0), of(times.len() / 2), of(last)];
        println!("{name:18}  {fastest:>7.1} ms  {median:>7.1} ms  {slowest:>7.1} ms");
    }
    sim.shutdown().await;
    Ok(())
}

/// Starts a sidecar, and picks until it grants. Returns how long that took.
async fn start(kind: Kind<'_>) -> Result<(Duration, Server), Fault> {
    let begun_at = Instant::now();
    let server = Server::sidecar(kind)?;
    sample(&server).await?;
    Ok((begun_at.elapsed(), server))
}

/// What a sidecar has not copied into the file yet.
fn log_bytes(book: &Path) -> io::Result<u64> {
    let mut log = book.as_os_str().to_owned();
    log.push("-wal");
    Ok(fs::metadata(log)?.len())
}

/// Picks so many leases.
async fn fill(server: &Server, leases: u32) -> Result<(), Fault> {
    let mut clients = JoinSet::new();
    let left = Rc::new(Cell::new(leases));
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(server.addr()).await?;
        let left = Rc::clone(&left);
        clients.spawn_local(async move {
            while let Some(rest) = left.get().checked_sub(1) {
                left.set(rest);
                connection.pick().await?.check()?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}
