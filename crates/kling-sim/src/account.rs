//! One configured account, and the caps that the upstream accepts for it.

use std::ops::RangeInclusive;

/// What the upstream accepts as `maxJobs` of an account or a call.
pub const MAX_JOBS: RangeInclusive<u32> = 1..=50;

/// One configured account.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) user_id: u64,
    pub(crate) max_jobs: u32,
    pub(crate) error: Option<String>,
    pub(crate) has_credit: bool,
    /// Whether no call that names it is answered.
    pub(crate) is_hung: bool,
    /// Whether its history has a row in which no task id can be read.
    pub(crate) has_unreadable_history: bool,
    pub(crate) scheduler_rows: SchedulerRows,
}

/// How the scheduler's answers list the running jobs of an account. They count in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchedulerRows {
    /// As documented.
    #[default]
    Whole,
    /// Without their ids.
    WithoutIds,
    /// Without their e-mails.
    WithoutEmails,
    /// Not at all.
    Missing,
}
