//! Signals: SIGTERM and SIGINT begin a drain, a second signal ends it.

use std::{error::Error, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time,
};

/// The signals that end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts listening for them.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and names it. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
    /// Waits for the end of `running`, at most for `grace` and until the next signal.
    ///
    /// # Errors
    /// The error that `running` ended with.
    pub async fn drained<E: Error + 'static>(
        &mut self,
        running: JoinHandle<Result<(), E>>,
        grace: Duration,
    ) -> Result<(), Box<dyn Error>> {
        tokio::select! {
            ended = time::timeout(grace, running) => match ended {
                Ok(ended) => { ended??; tracing::info!("drained") }
                Err(_) => tracing::warn!("shutdown.grace is over: calls were cut off. A longer one lets them finish"),
            },
            signal = self.next() => tracing::warn!(signal, "a second signal came: calls were cut off"),
        }
        Ok(())
    }
}
