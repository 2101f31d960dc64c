//! How the program ends when it ends badly: an exit code for scripts, a sentence for people.

use std::{error::Error, fmt};

use accounts_fetcher::Chain;

use crate::config::ConfigErrors;

/// Settings are wrong: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;
/// Something that is needed is not to be had: `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;
/// A running sidecar refused, or could not be asked.
const EXIT_REFUSED: u8 = 1;

/// What a run that failed ends with.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    text: String,
}

impl Failure {
    /// The sidecar cannot run, or no longer.
    pub fn unavailable(error: &dyn Error) -> Self {
        Self::of(EXIT_UNAVAILABLE, error)
    }

    /// A running sidecar did not do what was asked.
    pub fn refused(error: &dyn Error) -> Self {
        Self::of(EXIT_REFUSED, error)
    }

    fn of(code: u8, error: &dyn Error) -> Self {
        let text = format!("kling-balancer: {}", Chain(error));
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
