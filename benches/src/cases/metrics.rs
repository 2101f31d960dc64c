//! A scrape of `/metrics`, and picks meanwhile.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::picks::tell;
use crate::{
    Fault,
    bench::{Bench, Target, stop},
    calls::Work,
    cases::{Case, heading},
    child::Server,
    client::{Connection, request},
    load::Pace,
    output::progress,
    report::{Column, Rounds},
    stats::{Spread, as_f64, grouped},
};

/// Scrapes that are timed.
const SCRAPES: u32 = 50;
/// Between two scrapes while there are picks.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(100);
const COMPARED: [Column; 3] = [Column::P99, Column::P999, Column::Worst];

pub(super) fn measure(bench: &Bench) -> Result<(), Fault> {
    let scrape = request("GET /metrics");
    let targets = [
        Target::new("alone", bench.settings().ready()?),
        Target::new("scraped", bench.settings().ready()?),
    ];
    let [alone, scraped] = &targets;
    let (load, work) = (bench.plan.load(), Work::PicksAndReleases);
    let most = bench.window(alone, load, work, Pace::Closed)?;
    // So that there is something to tell.
    bench.window(scraped, load, work, Pace::Closed)?;
    time_scrapes(bench, &scraped.server, &scrape)?;

    let rate = most.get(Column::Rate) / 2.0;
    let (load, pace) = (bench.plan.open_load(), Pace::Open(rate));
    let mut rounds = Rounds::default();
    for round in 1..=bench.plan.rounds() {
        rounds.add(alone.name, bench.window(alone, load, work, pace)?);
        let figures = while_scraped(scraped.server.addr(), &scrape, || {
            bench.window(scraped, load, work, pace)
        })?;
        rounds.add(scraped.name, figures);
        progress(&format!("round {round} of {}", bench.plan.rounds()));
    }
    let text = format!(
        "picks at {rate:.0} calls/s, while /metrics is scraped each {SCRAPE_INTERVAL:?}; open loop"
    );
    let heading = heading(Case::Metrics, &text);
    let ratios = ("scraped", &COMPARED[..]);
    tell(bench, &heading, &rounds, &Column::OPEN, ratios)?;
    let worst = rounds.median("scraped", Column::Worst);
    let usual = rounds.median("alone", Column::P999);
    if let (Some(worst), Some(usual)) = (worst, usual) {
        let ratio = worst / usual;
        let (worst, usual) = (grouped(worst, 0), grouped(usual, 0));
        bench.output.keep_row(format!(
            "| the worst pick in {:?} with scrapes, µs | {worst} | p99.9 without {usual} | {ratio:.2} |",
            load.window,
        ));
        let text = "worst pick while scraped ÷ p99.9 alone";
        bench.output.say(&format!("{text} {ratio:.2}"))?;
    }
    stop(targets.into())
}

/// Scrapes of a sidecar that has nothing else to do.
fn time_scrapes(bench: &Bench, server: &Server, scrape: &[u8]) -> Result<(), Fault> {
    let mut connection = Connection::open(server.addr())?;
    let series = count_series(connection.call(scrape)?.check()?.body);
    let scrapes = bench.plan.count(SCRAPES);
    let cpu_before = server.cpu()?;
    let mut times = Vec::new();
    for _ in 0..scrapes {
        let begun_at = Instant::now();
        connection.call(scrape)?.check()?;
        times.push(begun_at.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = (server.cpu()? - cpu_before).as_secs_f64() * 1e6 / f64::from(scrapes);
    let times = Spread::of(times).ok_or("no scrapes")?;
    bench.output.keep_row(format!(
        "| `GET /metrics`, {series} series: µs a series | {:.2} | | |",
        times.median / series
    ));
    let heading = heading(Case::Metrics, "GET /metrics of an idle sidecar");
    Ok(bench.output.say(&format!(
        "{heading}\n{series} series: {times:.0} µs a scrape, {:.3} µs a series; {cpu:.0} µs of CPU, {:.3} µs a series",
        times.median / series,
        cpu / series,
    ))?)
}

/// Runs `work` while `addr` is scraped.
fn while_scraped<T>(
    addr: SocketAddr,
    scrape: &[u8],
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            let mut connection = Connection::open(addr)?;
            while !is_over.load(Ordering::Relaxed) {
                connection.call(scrape)?.check()?;
                thread::sleep(SCRAPE_INTERVAL);
            }
            Ok::<_, Fault>(())
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let scraped = scraping.join();
        scraped.map_err(|_panic| "the scraper has failed")??;
        done
    })
}

/// How many lines are no comments.
fn count_series(text: &[u8]) -> f64 {
    let lines = text.split(|byte| *byte == b'\n');
    let series = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    as_f64(series.count() as u64)
}
