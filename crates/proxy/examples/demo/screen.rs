//! The terminal: a table that is redrawn in place, or plain lines if the output is no terminal.
//!
//! Text that stays goes above the table. No line is wider than 80 columns where names are as short
//! as the demo's: a wrapped line would spoil the way back up.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    board::Board,
    jobs::Way,
    report::Tally,
    view::{Account, View},
};

/// Between two frames of a live table.
const FRAME_PAUSE: Duration = Duration::from_millis(250);
/// Between two plain lines.
const LINE_PAUSE: Duration = Duration::from_secs(1);

/// Ages shown of one account: more would not fit into a line.
const AGES_MAX: usize = 5;

/// Standard output and what stands on it.
#[derive(Debug)]
pub(crate) struct Screen {
    is_live: bool,
    is_colored: bool,
    started: Instant,
    /// The table as it stands at the bottom, or the last plain line without its time.
    drawn: String,
}

/// A colour, as its ANSI parameter.
#[derive(Clone, Copy)]
enum Color {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Grey = 90,
}

impl Screen {
    /// Standard output. Live if it is a terminal that can move its cursor; colored unless
    /// `NO_COLOR` is set, <https://no-color.org>.
    pub(crate) fn new() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_live = io::stdout().is_terminal() && !is_dumb;
        Self {
            is_live,
            is_colored: is_live && !is_set("NO_COLOR"),
            started: Instant::now(),
            drawn: String::new(),
        }
    }

    /// How often a new picture is worth asking for.
    pub(crate) fn pace(&self) -> Duration {
        if self.is_live {
            FRAME_PAUSE
        } else {
            LINE_PAUSE
        }
    }

    /// Prints text that stays, above the table if there is one.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        if self.is_live {
            return print(&format!("{}{text}\n{}", self.rewind(), self.drawn));
        }
        print(&format!("{text}\n"))
    }

    /// Shows the accounts, if anything about them changed.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(crate) fn show(
        &mut self,
        view: &View,
        board: &Board,
        tally: &Tally,
        over_limit: u64,
    ) -> io::Result<()> {
        let drawn = if self.is_live {
            self.table(view, board, tally, over_limit)
        } else {
            line(view, tally, over_limit)
        };
        if drawn == self.drawn {
            return Ok(());
        }
        let text = if self.is_live {
            format!("{}{drawn}", self.rewind())
        } else {
            format!("{:6.1}s  {drawn}\n", self.started.elapsed().as_secs_f64())
        };
        self.drawn = drawn;
        print(&text)
    }

    /// Leaves the table where it is; what follows goes below it.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(crate) fn freeze(&mut self) -> io::Result<()> {
        self.drawn.clear();
        if self.is_live {
            // Over the `^C` that the terminal shows for a key pressed.
            return print(&format!("{}\n", self.rewind()));
        }
        Ok(())
    }

    /// Moves to where the table begins and erases it, with whatever was typed after it.
    fn rewind(&self) -> String {
        match self.drawn.lines().count() {
            0 => "\r\x1b[J".to_owned(),
            height => format!("\r\x1b[{height}A\x1b[J"),
        }
    }

    fn table(&self, view: &View, board: &Board, tally: &Tally, over_limit: u64) -> String {
        let emails = view.accounts.iter().map(|account| account.email.len());
        let name_width = emails.max().unwrap_or(0).max("account".len());
        let slots = view.accounts.iter().map(|account| account.max_jobs);
        let bar_width = slots.max().unwrap_or(0);
        let slots_width = bar_width + " 00/00".len();
        let heading = format!(
            "{:name_width$}  {:slots_width$}  {:11}  {:>5} {:>5}  {}",
            "account", "slots", "state", "proxy", "/pick", "running for"
        );
        let mut table = self.paint(Color::Grey, &heading);
        table.push('\n');
        for account in &view.accounts {
            let used = account.in_flight.min(account.max_jobs);
            let (free, foreign) = (account.max_jobs - used, account.foreign_jobs.min(used));
            let picked = account.picked.min(used - foreign);
            let color = match account.state.as_str() {
                "available" => Color::Green,
                "full" => Color::Yellow,
                _ => Color::Red,
            };
            let carried = used - foreign - picked;
            let bar = [("█", carried), ("▓", picked), ("▒", foreign), ("░", free)];
            let bar: String = bar
                .iter()
                .map(|(cell, count)| cell.repeat(*count))
                .collect();
            let bar = self.paint(color, &bar);
            let indent = " ".repeat(bar_width - account.max_jobs);
            let count = format!("{}/{}", account.in_flight, account.max_jobs);
            let state = self.paint(color, &format!("{:11}", account.state));
            table += &format!(
                "{:name_width$}  {bar}{indent} {count:<5}  {state}  {:>5} {:>5}  {}\n",
                account.email,
                tally.done_on(&account.email, Way::Proxy),
                tally.done_on(&account.email, Way::Pick),
                running(account),
            );
        }
        let trouble = |name: &str, count: u64| match count {
            0 => format!("{name} 0"),
            count => self.paint(Color::Red, &format!("{name} {count}")),
        };
        table += &self.paint(Color::Grey, "█ proxy  ▓ /pick  ▒ another tool  ░ free");
        table += &format!(
            "\n\nproxy {}\n/pick {}\n",
            board.line(Way::Proxy),
            board.line(Way::Pick)
        );
        table += &self.paint(
            Color::Grey,
            "3 a: client 3 has a job on a   4 …2: client 4 has waited for 2 s",
        );
        table += &format!(
            "\nwaiting {:<4} done {}/{}   {}   {}\n",
            view.waiting,
            tally.done_count(),
            tally.total_count(),
            trouble("over-limit attempts", over_limit),
            trouble("failures", tally.failed_count().into()),
        );
        table
    }

    fn paint(&self, color: Color, text: &str) -> String {
        if self.is_colored {
            format!("\x1b[{}m{text}\x1b[0m", color as u8)
        } else {
            text.to_owned()
        }
    }
}

/// For how many seconds the account's slots have been held, and by how many other tools' jobs.
fn running(account: &Account) -> String {
    let ages = account.ages_s.iter().take(AGES_MAX);
    let mut running: Vec<_> = ages.map(|age| format!("{age}s")).collect();
    if account.ages_s.len() > AGES_MAX {
        running.push("…".to_owned());
    }
    if account.foreign_jobs > 0 {
        running.push(format!("+{} foreign", account.foreign_jobs));
    }
    running.join(" ")
}

/// The table in one line. The state is named only where the numbers do not tell it.
fn line(view: &View, tally: &Tally, over_limit: u64) -> String {
    let mut line = String::new();
    for account in &view.accounts {
        line += &format!(
            "{} {}/{}",
            account.email, account.in_flight, account.max_jobs
        );
        if account.foreign_jobs > 0 {
            line += &format!(" ({} foreign)", account.foreign_jobs);
        }
        if !matches!(account.state.as_str(), "available" | "full") {
            line += &format!(" {}", account.state);
        }
        line += "  ";
    }
    let (done, total) = (tally.done_count(), tally.total_count());
    let failures = tally.failed_count();
    line += &format!(
        "waiting {}  done {done}/{total}  over-limit {over_limit}  failures {failures}",
        view.waiting
    );
    line
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
