//! Why a fetch failed.
//!
//! Invariant: no text here holds a byte of a body or of the token.

use std::{error::Error, fmt, io, time::Duration};

use http::StatusCode;

use crate::{FetchResult, certificate_problem};

/// Why a fetch returned no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the account list was refused with status {status}")]
    Refused {
        status: StatusCode,
        /// Whether it seems to be the API's own answer.
        is_json: bool,
        retry_after: Option<Duration>,
    },
    #[error("the account list has another content type than JSON")]
    ContentType,
    #[error("the account list has an unknown content encoding")]
    UnknownEncoding,
    #[error("the account list is not valid gzip")]
    BrokenEncoding(#[source] io::Error),
    #[error("the account list is not JSON at line {line} column {column}")]
    Parse { line: usize, column: usize },
    #[error("the account list is not an object with at least one account")]
    Schema,
    #[error("the account list exceeds {limit} {unit}")]
    TooLarge { limit: usize, unit: &'static str },
    #[error("the account list did not come in time: {0}")]
    Timeout(&'static str),
    #[error("no connection to the upstream")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("the connection to the upstream broke")]
    Exchange(#[source] hyper_util::client::legacy::Error),
    #[error("the account list ended early")]
    Body(#[source] hyper::Error),
    #[error("accounts.file cannot be read")]
    File(#[source] io::Error),
}

impl FetchError {
    pub(crate) fn of_client(error: hyper_util::client::legacy::Error) -> FetchError {
        match error.is_connect() {
            true => FetchError::Connect(error),
            false => FetchError::Exchange(error),
        }
    }

    pub(crate) fn result(&self) -> FetchResult {
        match self {
            FetchError::Refused {
                status, is_json, ..
            } => match status.as_u16() {
                401 => FetchResult::Unauthorized,
                // A gateway's page is about the request, not about the token.
                403 if *is_json => FetchResult::Unauthorized,
                300..=399 => FetchResult::Redirect,
                _ => FetchResult::Status,
            },
            FetchError::ContentType => FetchResult::ContentType,
            FetchError::UnknownEncoding | FetchError::BrokenEncoding(_) => FetchResult::Encoding,
            FetchError::Parse { .. } => FetchResult::Parse,
            FetchError::Schema => FetchResult::Schema,
            FetchError::TooLarge { .. } => FetchResult::TooLarge,
            FetchError::Timeout(_) => FetchResult::Timeout,
            FetchError::Connect(error) if certificate_problem(error).is_some() => {
                FetchResult::Certificate
            }
            FetchError::Connect(_) => FetchResult::Connect,
            FetchError::Exchange(_) | FetchError::Body(_) => FetchResult::Transport,
            FetchError::File(_) => FetchResult::File,
        }
    }

    /// What failed, why at the bottom of it, and what to do, in one line.
    pub(crate) fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        while let Some(deeper) = cause.and_then(Error::source) {
            cause = Some(deeper);
        }
        if let Some(cause) = cause {
            words += &format!(": {cause}");
        }
        if let Some(advice) = self.result().advice() {
            words += &format!("; {advice}");
        }
        words
    }

    /// The pause that the upstream asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let FetchError::Refused { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }
}

/// Shows an error with all its causes, in one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
