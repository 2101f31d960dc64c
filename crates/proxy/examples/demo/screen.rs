//! The terminal: a table that is redrawn in place, or plain lines if the output is no terminal.
//!
//! Text that stays goes above the table. No line is wider than 80 columns where names are as short
//! as the demo's: a wrapped line would spoil the way back up.

use std::{
    io::{self, Write},
    time::Duration,
};

use proxy::terminal::{Color, Line, Output, bar, table, written};
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
    output: Output,
    started: Instant,
    /// The table as it stands at the bottom, or the last plain line without its time.
    drawn: String,
}

impl Screen {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Self {
            output: Output::new(),
            started: Instant::now(),
            drawn: String::new(),
        }
    }

    /// How often a new picture is worth asking for.
    pub(crate) fn pace(&self) -> Duration {
        if self.output.is_live {
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
        if self.output.is_live {
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
        let drawn = if self.output.is_live {
            written(
                &picture(view, board, tally, over_limit),
                self.output.is_colored,
            ) + "\n"
        } else {
            line(view, tally, over_limit)
        };
        if drawn == self.drawn {
            return Ok(());
        }
        let text = if self.output.is_live {
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
        if self.output.is_live {
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
}

/// The accounts, the clients, and how far they are.
fn picture(view: &View, board: &Board, tally: &Tally, over_limit: u64) -> Vec<Line> {
    let grey = |text: &str| Line::colored(Color::Grey, text);
    let slots = view.accounts.iter().map(|account| account.max_jobs);
    let bar_width = slots.max().unwrap_or(0);
    let head = ["account", "slots", "state", "proxy", "/pick", "running for"];
    let mut rows = vec![head.map(grey).into()];
    for account in &view.accounts {
        let used = account.in_flight.min(account.max_jobs);
        let (free, foreign) = (account.max_jobs - used, account.foreign_jobs.min(used));
        let picked = account.picked.min(used - foreign);
        let carried = used - foreign - picked;
        let kinds = [("█", carried), ("▓", picked), ("▒", foreign), ("░", free)];
        let color = Color::of_state(&account.state);
        let indent = " ".repeat(bar_width - account.max_jobs);
        let count = format!("{indent} {}/{}", account.in_flight, account.max_jobs);
        let done = |way| Line::from(tally.done_on(&account.email, way).to_string());
        rows.push(vec![
            Line::from(&*account.email),
            Line::colored(color, &bar(&kinds, bar_width)).and(&count),
            // Wide enough for every state, so that nothing moves when one changes.
            Line::colored(color, &format!("{:11}", account.state)),
            done(Way::Proxy),
            done(Way::Pick),
            Line::from(running(account)),
        ]);
    }
    let mut lines = table(rows);
    let trouble = |name: &str, count: u64| match count {
        0 => Line::from(format!("{name} 0")),
        count => Line::colored(Color::Red, &format!("{name} {count}")),
    };
    let done = format!("done {}/{}", tally.done_count(), tally.total_count());
    lines.extend([
        grey("█ proxy  ▓ /pick  ▒ another tool  ░ free"),
        Line::new(),
        Line::from(format!("proxy {}", board.line(Way::Proxy))),
        Line::from(format!("/pick {}", board.line(Way::Pick))),
        grey("3 a: client 3 has a job on a   4 …2: client 4 has waited for 2 s"),
        Line::from(format!("waiting {:<4} {done}   ", view.waiting))
            .and_line(trouble("over-limit attempts", over_limit))
            .and("   ")
            .and_line(trouble("failures", tally.failed_count().into())),
    ]);
    lines
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
