//! What happens to the accounts meanwhile: things that no client does, and the sidecar has to see.

use std::{future, time::Duration};

use kling_sim::Fault;
use tokio::time::{Instant, sleep_until};

use crate::stage::Stage;

/// Another program uses the same accounts, and takes so many slots of one.
const TOOL: (&str, usize) = ("c@example.com", 3);
/// Between two attempts of it, while the account is full.
const TOOL_PAUSE: Duration = Duration::from_millis(100);
/// An account breaks, and works again.
const BROKEN: &str = "b@example.com";

/// The plot: when, in seconds after the first job, and what.
const PLOT: [(u64, Turn); 4] = [
    (4, Turn::Tool),
    (9, Turn::Break),
    (17, Turn::Mend),
    (21, Turn::PushBack),
];
/// How many job starts the upstream refuses though there is a slot.
const PUSHED_BACK: u32 = 3;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Tool,
    Break,
    Mend,
    PushBack,
}

/// The rest of the plot.
#[derive(Debug)]
pub(crate) struct Events {
    started: Instant,
    next_idx: usize,
    /// How many slots the other tool still wants, and when it tries again.
    tool: Option<(usize, Instant)>,
    /// How many jobs the other tool has started.
    tool_count: u64,
}

impl Events {
    /// The plot begins now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            next_idx: 0,
            tool: None,
            tool_count: 0,
        }
    }

    /// How many jobs the other tool has started on `email`.
    pub(crate) fn tool_count(&self, email: &str) -> u64 {
        if email == TOOL.0 { self.tool_count } else { 0 }
    }

    /// Waits until something is due; for ever at the end of the plot. Cancel-safe.
    pub(crate) async fn due(&self) {
        let turn = PLOT.get(self.next_idx);
        let turn = turn.map(|(seconds, _)| self.started + Duration::from_secs(*seconds));
        let tool = self.tool.map(|(_, at)| at);
        match turn.into_iter().chain(tool).min() {
            Some(at) => sleep_until(at).await,
            None => future::pending().await,
        }
    }

    /// Lets happen what is due, and tells of it.
    pub(crate) fn happen(&mut self, stage: &Stage) -> Option<String> {
        let now = Instant::now();
        if let Some((wanted, at)) = self.tool
            && at <= now
        {
            let started = stage.sim().submit_directly(TOOL.0, 1).len();
            self.tool_count += started as u64;
            let left = wanted - started;
            self.tool = (left > 0).then_some((left, now + TOOL_PAUSE));
        }
        let (seconds, turn) = PLOT.get(self.next_idx)?;
        if self.started + Duration::from_secs(*seconds) > now {
            return None;
        }
        self.next_idx += 1;
        Some(match turn {
            Turn::Tool => {
                let (email, wanted) = TOOL;
                self.tool = Some((wanted, now));
                format!("* another tool begins to take {wanted} slots of {email} (▒ in the table)")
            }
            Turn::Break => {
                let error = Some("Failed to refresh session: 500");
                stage.sim().set_account_error(BROKEN, error);
                format!("* the session of {BROKEN} breaks: it takes no job any more")
            }
            Turn::Mend => {
                stage.sim().set_account_error(BROKEN, None);
                format!("* {BROKEN} works again")
            }
            Turn::PushBack => {
                let fault = Fault::status(429).on_job_starts().times(PUSHED_BACK);
                stage.sim().fault(fault);
                format!(
                    "* the upstream refuses the next {PUSHED_BACK} job starts (429): accounts cool down"
                )
            }
        })
    }
}
