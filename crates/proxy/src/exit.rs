//! How the program ends on failure: an exit code for scripts, a sentence for people.

use std::{error::Error, fmt};

use accounts_fetcher::Chain;

use crate::{config::ConfigErrors, shutdown::CutOff, sidecar::StartError};

/// Settings are wrong: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;
/// A needed resource is unavailable: `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;
/// A running sidecar refused, or could not be asked.
const EXIT_REFUSED: u8 = 1;

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
