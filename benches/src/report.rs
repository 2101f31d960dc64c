//! The table: each server of a run, and some as a multiple of others.

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

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// hyper, with the sidecar's answers.
    Bare,
    /// The sidecar of another commit, in memory.
    Before,
    /// The sidecar, in memory.
    Memory,
    /// The sidecar, in memory, and it is watched.
    Watched,
    /// The sidecar, with its book on disk.
    Disk,
}

/// What is told as a multiple of what.
const RATIOS: [(Target, Target); 4] = [
    (Target::Memory, Target::Bare),
    (Target::Memory, Target::Before),
    (Target::Disk, Target::Memory),
    (Target::Watched, Target::Memory),
];

/// The rounds of each server.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(Target, Vec<Tally>)>);

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
accounts  calls         server            calls/s  CPU µs/call  pick p50 µs   p99 µs  p99.9 µs";

    /// Adds a round of a server.
    pub(crate) fn add(&mut self, target: Target, tally: Tally) {
        match self.0.iter_mut().find(|(its, _)| *its == target) {
            Some((_, rounds)) => rounds.push(tally),
            None => self.0.push((target, vec![tally])),
        }
    }

    fn rounds(&self, target: Target) -> Option<&[Tally]> {
        let (_, rounds) = self.0.iter().find(|(its, _)| *its == target)?;
        Some(rounds)
    }

    /// All servers and their ratios. Behind these, the smallest, the middle and the largest CPU ratio of a round.
    pub(crate) fn table(&self, row: &Row) -> Result<String, AdditionError> {
        let mut lines = Vec::new();
        for (target, rounds) in &self.0 {
            let line = Figures::of(rounds)?.line(Kind::Absolute);
            lines.push(row.start(target.as_str()) + &line);
        }
        for (over, under) in RATIOS {
            let (Some(mine), Some(its)) = (self.rounds(over), self.rounds(under)) else {
                continue;
            };
            let name = format!("{}/{}", over.as_str(), under.as_str());
            let line = Figures::of(mine)?
                .over(&Figures::of(its)?)
                .line(Kind::Ratio);
            let rounds = mine.iter().zip(its);
            let ratios = rounds.map(|(mine, its)| cpu_micros(mine) / cpu_micros(its));
            let mut ratios: Vec<_> = ratios.collect();
            ratios.sort_by(f64::total_cmp);
            let [min, max] = [ratios[0], ratios[ratios.len() - 1]];
            let median = ratios[ratios.len() / 2];
            let start = row.start(&name);
            lines.push(format!(
                "{start}{line}   CPU by round {min:.2}x, {median:.2}x, {max:.2}x"
            ));
        }
        Ok(lines.join("\n"))
    }
}

impl Target {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Before => "before",
            Self::Memory => "memory",
            Self::Watched => "watched",
            Self::Disk => "disk",
        }
    }
}

impl Row {
    fn start(&self, server: &str) -> String {
        let work = match self.work {
            Work::PicksAndReleases => "pick+release",
            Work::Picks => "pick",
        };
        format!("{:>8}  {work:12}  {server:14}", self.accounts_count)
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
