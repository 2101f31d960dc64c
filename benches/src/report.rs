//! The table: each server of a run, and the sidecar as a multiple of the bare server.

use hdrhistogram::{AdditionError, Histogram};

use crate::load::{Tally, Work};

/// The percentiles of the table.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
const NANOS_PER_MICRO: f64 = 1000.0;

/// The parameters of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) accounts_count: u32,
    pub(crate) work: Work,
}

/// The rounds of both servers.
#[derive(Debug, Default)]
pub(crate) struct Report {
    bare: Vec<Tally>,
    sidecar: Vec<Tally>,
}

/// A line of the table: calls per second, CPU per call, latencies; times in µs.
#[derive(Clone, Copy, Debug)]
struct Figures {
    calls_per_second: f64,
    cpu_micros: f64,
    latency_micros: [f64; QUANTILES.len()],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Absolute,
    Ratio,
}

impl Report {
    /// The heading of the table.
    pub(crate) const HEAD: &str = "\
accounts  calls         server     calls/s  CPU µs/call  pick p50 µs   p99 µs  p99.9 µs";

    /// Adds a round.
    pub(crate) fn add(&mut self, bare: Tally, sidecar: Tally) {
        self.bare.push(bare);
        self.sidecar.push(sidecar);
    }

    /// Both servers and their ratio. Behind it, the smallest and the largest CPU ratio of a round.
    pub(crate) fn table(&self, row: &Row) -> Result<String, AdditionError> {
        let bare = Figures::of(&self.bare)?;
        let sidecar = Figures::of(&self.sidecar)?;
        let mut table = String::new();
        for (name, figures) in [("bare", bare), ("sidecar", sidecar)] {
            table += &row.start(name);
            table += &figures.line(Kind::Absolute);
            table.push('\n');
        }
        table += &row.start("ratio");
        table += &sidecar.over(&bare).line(Kind::Ratio);
        let rounds = self.bare.iter().zip(&self.sidecar);
        let ratios = rounds.map(|(bare, sidecar)| cpu_micros(sidecar) / cpu_micros(bare));
        let (min, max) = ratios.fold((f64::MAX, f64::MIN), |(min, max), ratio| {
            (min.min(ratio), max.max(ratio))
        });
        table += &format!("   CPU by round {min:.2}x to {max:.2}x");
        Ok(table)
    }
}

impl Row {
    fn start(&self, server: &str) -> String {
        let work = match self.work {
            Work::PicksAndReleases => "pick+release",
            Work::Picks => "pick",
        };
        format!("{:>8}  {work:12}  {server:7}", self.accounts_count)
    }
}

impl Figures {
    fn of(rounds: &[Tally]) -> Result<Self, AdditionError> {
        let mut latency = Histogram::<u64>::new_from(&rounds[0].pick_latency);
        for round in rounds {
            latency.add(&round.pick_latency)?;
        }
        let calls_count: f64 = rounds.iter().map(|round| as_f64(round.calls_count)).sum();
        let seconds: f64 = rounds.iter().map(|round| round.elapsed.as_secs_f64()).sum();
        let cpu: f64 = rounds
            .iter()
            .map(|round| round.server_cpu.as_secs_f64())
            .sum();
        Ok(Self {
            calls_per_second: calls_count / seconds,
            cpu_micros: cpu * 1e6 / calls_count,
            latency_micros: QUANTILES
                .map(|quantile| as_f64(latency.value_at_quantile(quantile)) / NANOS_PER_MICRO),
        })
    }

    fn over(&self, other: &Self) -> Self {
        let mut ratio = *self;
        ratio.calls_per_second /= other.calls_per_second;
        ratio.cpu_micros /= other.cpu_micros;
        for (mine, its) in ratio.latency_micros.iter_mut().zip(other.latency_micros) {
            *mine /= its;
        }
        ratio
    }

    /// The columns. Counts have no decimals, times have one, and ratios have two.
    fn line(&self, kind: Kind) -> String {
        let (count_digits, time_digits, unit) = match kind {
            Kind::Absolute => (0, 1, ""),
            Kind::Ratio => (2, 2, "x"),
        };
        let cell = |value: f64, digits| format!("{value:.digits$}{unit}");
        let [p50, p99, p999] = self.latency_micros.map(|micros| cell(micros, time_digits));
        format!(
            "  {:>9}  {:>11}  {p50:>11}  {p99:>7}  {p999:>8}",
            cell(self.calls_per_second, count_digits),
            cell(self.cpu_micros, time_digits),
        )
    }
}

fn cpu_micros(round: &Tally) -> f64 {
    round.server_cpu.as_secs_f64() * 1e6 / as_f64(round.calls_count)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds far below 2^53"
)]
fn as_f64(number: u64) -> f64 {
    number as f64
}
