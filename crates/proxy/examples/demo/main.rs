//! `cargo demo`: the sidecar at work, without a token and without an account.
//!
//! Runs the simulator of the upstream and the sidecar in this process, sends jobs over real HTTP
//! as any client would, and shows how the slots fill up. Meanwhile another tool uses the same
//! accounts, and one of them breaks. Everything it prints is learned from the
//! outside: the sidecar's `/accounts` and `/metrics`, and the audit that the simulator keeps for
//! itself. Exit code 0 means that nothing failed and no account was over its cap.

mod board;
mod events;
mod jobs;
mod report;
mod rest;
mod screen;
mod stage;
mod view;

use std::{error::Error, future, io, net::SocketAddr, process::ExitCode, time::Duration};

use accounts_fetcher::Chain;
use clap::Parser;
use proxy::shutdown::Signals;
use tokio::time;

use crate::{
    board::Board,
    events::Events,
    jobs::{Crew, Event, EventKind, way_of},
    report::Tally,
    screen::Screen,
    stage::Stage,
    view::View,
};

/// Runs the sidecar against a simulated upstream and lets clients compete for the slots.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo demo")]
struct Args {
    /// Where the sidecar listens [default: 127.0.0.1:8080, or a free port if that one is taken]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How many jobs the clients send
    #[arg(long, value_name = "N", default_value_t = 40)]
    jobs: u32,
    /// Stop after so many seconds [default: serve until Ctrl-C]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut screen = Screen::new();
    match run(&args, &mut screen).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `demo | head` has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Plays the demo from the first line to the last; `false` if something went wrong in it.
async fn run(args: &Args, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    // Before anything else is started: an early Ctrl-C must end the demo cleanly too.
    let mut signals = Signals::listen()?;
    screen.say("kling-balancer demo: a sidecar and a simulated upstream start in this process")?;
    let mut stage = Stage::start(args.listen).await?;
    screen.say(&report::opening(&stage, args.jobs))?;
    let mut crew = Crew::start(stage.balancer(), stage.kling(), args.jobs);
    let mut show = Show {
        tally: Tally::new(args.jobs),
        board: Board::new(),
        events: Events::start(),
        adds_up: true,
        blind: None,
        stage: &mut stage,
        screen,
    };
    let ending = show.play(&mut crew, &mut signals, args.seconds).await?;
    let is_good = show.adds_up && show.tally.is_clean(&show.stage.audit());
    // First the clients: a drain waits for all running calls.
    drop(crew);
    stage.end().await;
    screen.freeze()?;
    screen.say(ending.trim_end())?;
    Ok(is_good)
}

/// The part between the curtain's rise and its fall.
struct Show<'a> {
    tally: Tally,
    board: Board,
    events: Events,
    /// Whether audit and clients agree on the jobs that there were.
    adds_up: bool,
    /// Why the last look at the sidecar failed, so that a lasting failure is told once.
    blind: Option<String>,
    stage: &'a mut Stage,
    screen: &'a mut Screen,
}

impl Show<'_> {
    /// Shows what happens until somebody stops it, and returns the last words.
    async fn play(
        &mut self,
        crew: &mut Crew,
        signals: &mut Signals,
        seconds: Option<u64>,
    ) -> Result<String, Box<dyn Error>> {
        let time_is_up = async {
            match seconds {
                Some(seconds) => time::sleep(Duration::from_secs(seconds)).await,
                None => future::pending().await,
            }
        };
        tokio::pin!(time_is_up);
        let mut tick = time::interval(self.screen.pace());
        let mut is_working = true;
        let cause = loop {
            tokio::select! {
                biased;
                signal = signals.next_ending() => break format!("Stopped by {}", signal.name),
                () = &mut time_is_up => break "Stopped, the time is up".to_owned(),
                () = self.stage.broke_down() => return Err("the sidecar ended by itself".into()),
                event = crew.event(), if is_working => match event {
                    Some(event) => self.note(event)?,
                    None => {
                        is_working = false;
                        self.look().await?;
                        let audit = self.stage.audit();
                        self.adds_up = report::adds_up(&self.tally, &audit, &self.events);
                        let finale = report::finale(&self.tally, &audit, &self.events);
                        self.screen.say(&finale)?;
                        self.screen.say(&report::invitation(self.stage, seconds.is_some()))?;
                    }
                },
                () = self.events.due(), if is_working => {
                    if let Some(news) = self.events.happen(self.stage) {
                        self.screen.say(&news)?;
                    }
                }
                _ = tick.tick() => self.look().await?,
            }
        };
        if is_working {
            let audit = self.stage.audit();
            return Ok(report::interlude(&cause, &self.tally, &audit, &self.events));
        }
        Ok(format!("{cause}."))
    }

    /// Takes down what a client did. What is news is shown at once and stays on the screen.
    fn note(&mut self, event: Event) -> io::Result<()> {
        if let Some(news) = self.board.note(&event) {
            self.screen.say(&news)?;
        }
        match event.kind {
            EventKind::Waits | EventKind::Refused { .. } => Ok(()),
            EventKind::Started { email, .. } => {
                self.tally.started(&email);
                Ok(())
            }
            EventKind::Done { email } => {
                self.tally.done(email, way_of(event.client_idx));
                Ok(())
            }
            EventKind::Failed(failure) => self.fail(&failure),
        }
    }

    fn fail(&mut self, failure: &str) -> io::Result<()> {
        self.tally.failed();
        self.screen.say(&format!("FAILED: {failure}"))
    }

    /// Asks the sidecar how things are and shows the answer.
    async fn look(&mut self) -> io::Result<()> {
        match View::fetch(self.stage.balancer()).await {
            Ok(view) => {
                self.blind = None;
                let over_limit = self.stage.audit().over_limit_ours();
                self.screen
                    .show(&view, &self.board, &self.tally, over_limit)
            }
            Err(failure) => {
                let failure = failure.to_string();
                if self.blind.as_ref() == Some(&failure) {
                    return Ok(());
                }
                self.blind = Some(failure.clone());
                self.fail(&failure)
            }
        }
    }
}

/// Tells the user why there is no demo, with every cause.
#[expect(clippy::print_stderr, reason = "the program talks to its user")]
fn complain(error: &(dyn Error + 'static)) {
    eprintln!("demo: {}", Chain(error));
}
