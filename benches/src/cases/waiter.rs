//! How long it takes from a release until the one who waits for the slot has its answer.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::{
    Fault,
    bench::Bench,
    calls::pick,
    cases::{Case, heading},
    client::{Answer, Connection, request},
    load::latencies,
    output::progress,
    sidecar::Settings,
    stats::{Spread, as_f64, grouped},
    upstream,
    wire::text_field,
};

/// Hand-overs of a round.
const COUNT: u32 = 2000;
const NANOS_PER_MICRO: f64 = 1e3;

/// One round, in nanoseconds.
#[derive(Debug)]
struct Round {
    /// Picks of a free slot, while nothing else is under way.
    idle: Histogram<u64>,
    /// From the first byte of a release to the last byte of the answer to the one who waited.
    handed_over: Histogram<u64>,
}

pub(super) fn measure(bench: &Bench) -> Result<(), Fault> {
    // One slot, so that a second pick waits.
    let upstream = upstream::start(1, 1)?;
    let settings = Settings {
        upstream: upstream.addr(),
        ..bench.settings()
    };
    let server = settings.ready()?;
    let mut first = Connection::open(server.addr())?;
    let mut second = Connection::open(server.addr())?;
    let mut rounds = Vec::new();
    for number in 1..=bench.plan.rounds() {
        let count = bench.plan.count(COUNT);
        rounds.push(round(&mut first, &mut second, count)?);
        progress(&format!("round {number} of {}", bench.plan.rounds()));
    }
    let text = "from the first byte of DELETE /leases/{id} to the answer of the pick that waits, beside an idle POST /pick";
    bench.output.say(&heading(Case::Waiter, text))?;
    for (quantile, is_p99) in [(0.5, false), (0.99, true)] {
        let of = |histogram: &Histogram<u64>| {
            as_f64(histogram.value_at_quantile(quantile)) / NANOS_PER_MICRO
        };
        let idle = Spread::of(rounds.iter().map(|round| of(&round.idle)));
        let handed = Spread::of(rounds.iter().map(|round| of(&round.handed_over)));
        let ratio = rounds
            .iter()
            .map(|round| of(&round.handed_over) / of(&round.idle));
        let ratio = Spread::of(ratio);
        if let (Some(idle), Some(handed), Some(ratio)) = (idle, handed, ratio) {
            bench.output.say(&format!(
                "p{:<3}  idle pick {idle:.1} µs  handed over {handed:.1} µs  handed over ÷ idle {ratio:.2}",
                quantile * 100.0
            ))?;
            if is_p99 {
                let text = |spread: Spread| grouped(spread.median, 1);
                bench.output.keep_row(format!(
                    "| from a release to the answer of the pick that waits: p99, µs | {} | idle pick {} | {:.2} |",
                    text(handed),
                    text(idle),
                    ratio.median
                ));
            }
        }
    }
    server.stop()?;
    upstream.stop()
}

fn round(first: &mut Connection, second: &mut Connection, count: u32) -> Result<Round, Fault> {
    let mut round = Round {
        idle: latencies()?,
        handed_over: latencies()?,
    };
    let waiting_pick = request("POST /pick?wait=30s");
    let livez = request("GET /livez");
    for _ in 0..count {
        let begun_at = Instant::now();
        let release = release(&first.call(&pick())?)?;
        round.idle.saturating_record(nanos(begun_at));
        second.send(&waiting_pick)?;
        // Once these are answered, the pick behind which they came waits.
        first.call(&livez)?.check()?;
        first.call(&livez)?.check()?;
        let begun_at = Instant::now();
        first.send(&release)?;
        let handed = self::release(&second.wait()?)?;
        round.handed_over.saturating_record(nanos(begun_at));
        first.wait()?.check()?;
        first.call(&handed)?.check()?;
    }
    Ok(round)
}

/// The request that gives a picked slot back.
fn release(answer: &Answer<'_>) -> Result<Vec<u8>, Fault> {
    let answer = answer.check()?;
    let id = text_field(answer.body, "leaseId").ok_or_else(|| answer.unexpected())?;
    Ok(request(&format!("DELETE /leases/{}", str::from_utf8(id)?)))
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
