//! Tables: the medians of each server's windows, and one server as a multiple of the others.

use hdrhistogram::Histogram;

use crate::{
    load::Tally,
    stats::{Spread, as_f64, grouped},
};

const NANOS_PER_MICRO: f64 = 1e3;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

/// What one window shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures([f64; COLUMNS_COUNT]);

/// A figure of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Calls answered a second.
    Rate,
    /// User and system time of the server a call, in µs.
    Cpu,
    /// How much of the time the server ran, in percent of a core.
    Busy,
    /// The same of the client.
    Client,
    /// Percentiles and the largest of the latency, in µs.
    P50,
    P99,
    P999,
    Worst,
    /// How late calls were sent, in µs: 99 of 100 at most so much.
    Late,
    /// Resident memory of the server after the window, in MiB.
    Rss,
}

const COLUMNS_COUNT: usize = 10;

impl Column {
    /// What a closed loop shows.
    pub(crate) const CLOSED: [Self; 7] = [
        Self::Rate,
        Self::Cpu,
        Self::Busy,
        Self::Client,
        Self::P50,
        Self::P99,
        Self::Rss,
    ];
    /// What an open loop shows.
    pub(crate) const OPEN: [Self; 6] = [
        Self::Rate,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Worst,
        Self::Late,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Rate => "calls/s",
            Self::Cpu => "CPU µs/call",
            Self::Busy => "busy %",
            Self::Client => "client %",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::Worst => "worst µs",
            Self::Late => "sent late p99 µs",
            Self::Rss => "RSS MiB",
        }
    }

    /// How many decimals its figures have.
    fn digits(self) -> usize {
        match self {
            Self::Rate | Self::Busy | Self::Client | Self::Worst => 0,
            Self::Cpu => 2,
            Self::P50 | Self::P99 | Self::P999 | Self::Late | Self::Rss => 1,
        }
    }
}

impl Figures {
    /// `rss` is in bytes.
    pub(crate) fn of(tally: &Tally, rss: u64) -> Self {
        let (calls, seconds) = (as_f64(tally.calls_count), tally.elapsed.as_secs_f64());
        let cpu = tally.server_cpu.as_secs_f64();
        let micros = |histogram: &Histogram<u64>, quantile| {
            as_f64(histogram.value_at_quantile(quantile)) / NANOS_PER_MICRO
        };
        let figures = [
            (Column::Rate, calls / seconds),
            (Column::Cpu, cpu * 1e6 / calls),
            (Column::Busy, cpu * 100.0 / seconds),
            (
                Column::Client,
                tally.client_cpu.as_secs_f64() * 100.0 / seconds,
            ),
            (Column::P50, micros(&tally.latency, 0.5)),
            (Column::P99, micros(&tally.latency, 0.99)),
            (Column::P999, micros(&tally.latency, 0.999)),
            (Column::Worst, micros(&tally.latency, 1.0)),
            (Column::Late, micros(&tally.lateness, 0.99)),
            (Column::Rss, as_f64(rss) / BYTES_PER_MIB),
        ];
        let mut all = [0.0; COLUMNS_COUNT];
        for (column, figure) in figures {
            all[column as usize] = figure;
        }
        Self(all)
    }

    pub(crate) fn get(&self, column: Column) -> f64 {
        self.0[column as usize]
    }
}

/// The windows of each server, in the order in which they took turns.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Vec<(String, Vec<Figures>)>);

impl Rounds {
    /// Adds a window of a server.
    pub(crate) fn add(&mut self, server: &str, figures: Figures) {
        match self.0.iter_mut().find(|(name, _)| name == server) {
            Some((_, windows)) => windows.push(figures),
            None => self.0.push((server.to_owned(), vec![figures])),
        }
    }

    /// The median of a figure of a server.
    pub(crate) fn median(&self, server: &str, column: Column) -> Option<f64> {
        let (_, windows) = self.0.iter().find(|(name, _)| name == server)?;
        let spread = Spread::of(windows.iter().map(|window| window.get(column)))?;
        Some(spread.median)
    }

    /// Medians: a line for each server.
    pub(crate) fn table(&self, columns: &[Column]) -> String {
        let mut table = format!("{:16}", "server");
        for column in columns {
            table += &format!("  {:>11}", column.title());
        }
        for (server, _) in &self.0 {
            table += &format!("\n{server:16}");
            for &column in columns {
                let width = column.title().chars().count().max(11);
                let median = self.median(server, column).unwrap_or(f64::NAN);
                table += &format!("  {median:>width$.digits$}", digits = column.digits());
            }
        }
        table
    }

    /// A row of the table for readers: a figure of `over`, of the `floors` that were there, and the ratios.
    pub(crate) fn row(&self, what: &str, over: &str, floors: &[&str], column: Column) -> String {
        let figure = |server| {
            let median = self.median(server, column).unwrap_or(f64::NAN);
            grouped(median, column.digits())
        };
        let floors = floors
            .iter()
            .filter_map(|floor| Some((floor, self.ratio(over, floor, column)?)));
        let (beside, ratios): (Vec<_>, Vec<_>) = floors
            .map(|(floor, ratio)| {
                let ratio = ratio.median;
                (format!("{floor} {}", figure(floor)), format!("{ratio:.2}"))
            })
            .unzip();
        format!(
            "| {what} | {} | {} | {} |",
            figure(over),
            beside.join(", "),
            ratios.join(", ")
        )
    }

    /// What `over` is as a multiple of `under`, round by round.
    fn ratio(&self, over: &str, under: &str, column: Column) -> Option<Spread> {
        let windows = |server| {
            let (_, windows) = self.0.iter().find(|(name, _)| name == server)?;
            Some(windows)
        };
        let pairs = windows(over)?.iter().zip(windows(under)?);
        Spread::of(pairs.map(|(mine, its)| mine.get(column) / its.get(column)))
    }

    /// What `over` is as a multiple of each other server: the median of the rounds, the smallest and the largest.
    pub(crate) fn ratios(&self, over: &str, columns: &[Column]) -> String {
        let others = self.0.iter().filter(|(name, _)| name != over);
        let lines = others.filter_map(|(name, _)| {
            let mut line = format!("{:26}", format!("{over} ÷ {name}"));
            for &column in columns {
                let spread = self.ratio(over, name, column)?;
                let title = column.title().split(' ').next().unwrap_or_default();
                line += &format!("  {:26}", format!("{title} {spread:.2}"));
            }
            Some(line.trim_end().to_owned())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(column: Column, figure: f64) -> Figures {
        let mut all = [0.0; COLUMNS_COUNT];
        all[column as usize] = figure;
        Figures(all)
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_the_rounds() {
        let mut rounds = Rounds::default();
        // The machine is half as fast in the second round, and disturbs one of the two in the third.
        for (floor, mine) in [(10.0, 20.0), (20.0, 40.0), (10.0, 90.0)] {
            rounds.add("floor", figures(Column::Cpu, floor));
            rounds.add("mine", figures(Column::Cpu, mine));
        }
        assert_eq!(rounds.median("mine", Column::Cpu), Some(40.0));
        let line = rounds.ratios("mine", &[Column::Cpu]);
        assert!(line.ends_with("CPU 2.00 (2.00–9.00)"), "{line}");
        assert_eq!(rounds.ratios("none", &[Column::Cpu]), "");
        let row = rounds.row("work", "mine", &["floor", "none"], Column::Cpu);
        assert_eq!(row, "| work | 40.00 | floor 10.00 | 2.00 |");
    }

    #[test]
    fn each_column_has_its_own_place() {
        let all = Column::CLOSED.iter().chain(&Column::OPEN);
        assert!(all.clone().all(|column| (*column as usize) < COLUMNS_COUNT));
        let rounds = Rounds(vec![("a".to_owned(), vec![figures(Column::Late, 7.0)])]);
        assert_eq!(rounds.median("a", Column::Late), Some(7.0));
        assert_eq!(rounds.median("a", Column::Rss), Some(0.0));
    }
}
