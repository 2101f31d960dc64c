//! Why a command did not do what was asked.

use std::{error::Error as StdError, io, time::Duration};

use thiserror::Error;

use super::call::DEADLINE;
use crate::shutdown::Ending;

/// Why the sidecar's answer cannot be shown, is none, or is not what was hoped for.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("nothing answers at {place} (is kling-balancer running there? see --url)")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Something listens there, but does not answer as a sidecar.
    #[error("{place} does not answer as kling-balancer does; see --url")]
    Unexpected {
        /// Where.
        place: String,
        /// What is unexpected.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It did not answer.
    #[error("{0} did not answer within {DEADLINE:?}")]
    TimedOut(String),
    /// It has ended a connection that was to last.
    #[error("the connection to {place} was lost")]
    Lost {
        /// Where.
        place: String,
        /// What was seen of it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It has not sent anything for so long that the connection must be gone.
    #[error("{place} has sent nothing for {silence:?}")]
    Silent {
        /// Where.
        place: String,
        /// For how long.
        silence: Duration,
    },
    /// It refused, and says why.
    #[error("{said}")]
    Refused {
        /// What it says.
        said: String,
        /// Whether it says when to come back.
        comes_back: bool,
    },
    /// It does not let this client do that.
    #[error("{said}")]
    NotAllowed {
        /// What it says.
        said: String,
    },
    /// There is no account to show.
    #[error("no account is known yet: {why}")]
    NoAccount {
        /// Why not.
        why: String,
    },
    /// A pick would be refused now.
    #[error("no account can be picked now")]
    NoneEligible,
    /// What is asked for cannot be asked.
    #[error("{flag}: {problem}")]
    Flag {
        /// Where it was said.
        flag: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The answer cannot be written.
    #[error("the answer cannot be written")]
    Output(#[from] io::Error),
    /// A signal ended the command.
    #[error("ended by {}", .0.name)]
    Ended(Ending),
}

impl ClientError {
    /// Whether the reader of the answer is gone, such as `head`: it has read enough.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the sidecar may be back in a moment: nothing is wrong with what was asked.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unexpected { .. }
            | Self::TimedOut(_)
            | Self::Lost { .. }
            | Self::Silent { .. } => true,
            Self::Refused { comes_back, .. } => *comes_back,
            Self::NotAllowed { .. }
            | Self::NoAccount { .. }
            | Self::NoneEligible
            | Self::Flag { .. }
            | Self::Output(_)
            | Self::Ended(_) => false,
        }
    }
}
