//! Signals: which of them end the process, which reload, and which change nothing.
//!
//! No signal that a terminal, a log rotation or a limit sends ends the process in the middle of a
//! submission. Only SIGKILL, and the signals of a crash, do.

use std::{
    error::Error,
    io::{self, IsTerminal, stdin},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time,
};

/// Signals that begin the drain, and end it if they come again.
const ENDING: [(&str, SignalKind); 4] = [
    ("SIGINT", SignalKind::interrupt()),
    ("SIGQUIT", SignalKind::quit()),
    ("SIGTERM", SignalKind::terminate()),
    // The limit on CPU time: the system kills the process a little later.
    ("SIGXCPU", SignalKind::from_raw(24)),
];
const HANGUP: (&str, SignalKind) = ("SIGHUP", SignalKind::hangup());
/// Signals that would end the process unless it handles them, and that ask nothing of it.
const IGNORED: [(&str, SignalKind); 7] = [
    ("SIGUSR1", SignalKind::user_defined1()),
    ("SIGUSR2", SignalKind::user_defined2()),
    ("SIGALRM", SignalKind::alarm()),
    ("SIGIO", SignalKind::io()),
    // The limit on the size of a file: the write fails, and that is all.
    ("SIGXFSZ", SignalKind::from_raw(25)),
    ("SIGVTALRM", SignalKind::from_raw(26)),
    ("SIGPROF", SignalKind::from_raw(27)),
];

/// The most signals that wait to be handled. More of them say nothing new.
const WAITING_MAX: usize = 16;

/// A signal that asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The process ends.
    End(Ending),
    /// Files are read again.
    Reload,
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its name.
    pub name: &'static str,
    kind: SignalKind,
}

impl Ending {
    /// The exit code of a process that it ended, as shells give it.
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.kind.as_raw_value()).unwrap_or(u8::MAX)
    }
}

/// Calls were cut off before they were answered.
#[derive(Clone, Copy, Debug, Error)]
#[error("calls were cut off before they were answered; {hint}")]
pub struct CutOff {
    hint: &'static str,
    signal: Ending,
}

impl CutOff {
    /// The exit code of a process that a signal ended.
    pub fn exit_code(&self) -> u8 {
        self.signal.exit_code()
    }
}

/// The signals of the process.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Starts listening for them.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        for (name, kind) in ENDING {
            handle(name, kind, Some(Signal::End(Ending { name, kind })), &tell)?;
        }
        let (name, kind) = HANGUP;
        // It is asked now: a terminal that hung up is none any more.
        let hangup = if stdin().is_terminal() {
            Signal::End(Ending { name, kind })
        } else {
            Signal::Reload
        };
        handle(name, kind, Some(hangup), &tell)?;
        for (name, kind) in IGNORED {
            handle(name, kind, None, &tell)?;
        }
        Ok(Self(told))
    }

    /// Waits for the next one. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            // The handlers live as long as the runtime.
            None => std::future::pending().await,
        }
    }

    /// Waits for the next one that ends the process. Cancel-safe.
    pub async fn next_ending(&mut self) -> Ending {
        loop {
            if let Signal::End(ending) = self.next().await {
                return ending;
            }
        }
    }

    /// Waits for the end of `running` after `first`, at most for `grace` and until the next signal that ends
    /// the process.
    ///
    /// # Errors
    /// The error that `running` ended with, or [`CutOff`].
    pub async fn drained<E: Error + 'static>(
        &mut self,
        first: Ending,
        running: JoinHandle<Result<(), E>>,
        grace: Duration,
    ) -> Result<(), Box<dyn Error>> {
        let (signal, hint) = tokio::select! {
            ended = time::timeout(grace, running) => match ended {
                Ok(ended) => return Ok(ended??),
                Err(_) => (first, "shutdown.grace is over. A longer one lets them finish"),
            },
            second = self.next_ending() => (second, "a second signal came"),
        };
        Err(CutOff { hint, signal }.into())
    }
}

/// Handles a signal as long as the runtime lives. `None`: it has no meaning.
fn handle(
    name: &'static str,
    kind: SignalKind,
    meaning: Option<Signal>,
    tell: &mpsc::Sender<Signal>,
) -> io::Result<()> {
    let mut signals = signal(kind)?;
    let tell = tell.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            match meaning {
                // A full queue says it already.
                Some(meaning) => drop(tell.try_send(meaning)),
                None => tracing::warn!(signal = name, "signal ignored: it has no meaning here"),
            }
        }
    });
    Ok(())
}
