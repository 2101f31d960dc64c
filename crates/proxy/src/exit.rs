//! How the program ends on failure: an exit code for scripts, a sentence for people.

use std::{error::Error, fmt, io};

use accounts_fetcher::Chain;

use crate::{
    client::ClientError,
    config::{ConfigErrors, Purpose},
    shutdown::CutOff,
    sidecar::StartError,
    terminal::shown,
};

/// Settings or flags are wrong: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;
/// A sidecar does not let its client do that: `EX_NOPERM`.
const EXIT_NOT_ALLOWED: u8 = 77;
/// An answer cannot be written: `EX_IOERR`.
const EXIT_OUTPUT: u8 = 74;
/// A needed resource is unavailable, such as the port, or a sidecar to ask: `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;
/// A running sidecar answers, and the answer is a no.
const EXIT_NO: u8 = 1;

/// The codes of runs that no signal ended, as the README explains them.
#[cfg(test)]
pub(crate) const CODES: [u8; 6] = [
    0,
    EXIT_NO,
    EXIT_UNAVAILABLE,
    EXIT_OUTPUT,
    EXIT_NOT_ALLOWED,
    EXIT_CONFIG,
];

/// The result of a failed run.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    text: String,
}

impl Failure {
    /// The sidecar cannot run any more, or calls were cut off at its end.
    pub fn of_serving(error: &(dyn Error + 'static)) -> Self {
        let cut_off = error.downcast_ref::<CutOff>();
        let is_of_settings = matches!(error.downcast_ref(), Some(StartError::State(_)));
        let code = match cut_off {
            Some(cut_off) => cut_off.exit_code(),
            None if is_of_settings => EXIT_CONFIG,
            None => EXIT_UNAVAILABLE,
        };
        Self::of(code, error)
    }

    /// A command that asks a running sidecar was not answered as hoped for.
    pub fn of_asking(error: &ClientError, purpose: Purpose) -> Self {
        let code = match (purpose, error) {
            // Docker knows one code for what is not healthy.
            (Purpose::Probe, _) => EXIT_NO,
            (Purpose::Api, ClientError::NotAllowed { .. }) => EXIT_NOT_ALLOWED,
            (Purpose::Api, ClientError::Flag { .. }) => EXIT_CONFIG,
            (
                Purpose::Api,
                ClientError::Refused { .. }
                | ClientError::NoAccount { .. }
                | ClientError::NoneEligible,
            ) => EXIT_NO,
            (
                Purpose::Api,
                ClientError::Unreachable { .. }
                | ClientError::Unexpected { .. }
                | ClientError::TimedOut(_)
                | ClientError::Lost { .. }
                | ClientError::Silent { .. },
            ) => EXIT_UNAVAILABLE,
            (Purpose::Api, ClientError::Output(_)) => EXIT_OUTPUT,
            (Purpose::Api, ClientError::Ended(signal)) => signal.exit_code(),
        };
        Self::of(code, error)
    }

    /// The answer cannot be written.
    pub fn of_output(error: &io::Error) -> Self {
        Self::of(EXIT_OUTPUT, error)
    }

    /// No thread, no memory.
    pub fn of_system(error: &(dyn Error + 'static)) -> Self {
        Self::of(EXIT_UNAVAILABLE, error)
    }

    fn of(code: u8, error: &dyn Error) -> Self {
        // It may hold words of others, on several lines.
        let text = format!("kling-balancer: {}", Chain(error));
        let lines: Vec<_> = text.lines().map(shown).collect();
        let text = lines.join("\n");
        Self { code, text }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let (code, text) = (EXIT_CONFIG, errors.to_string());
        Self { code, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
