//! Answers of a sidecar as commands read them. What a sidecar does not tell, as an older one may, is empty.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// What `/status` answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) up_since: Time,
    pub(crate) ready: bool,
    pub(crate) reasons: Vec<String>,
    pub(crate) role: String,
    pub(crate) slots: Slots,
    pub(crate) waiting: Waiting,
    pub(crate) list: Asked,
    pub(crate) round: Asked,
    pub(crate) upstream: Upstream,
    pub(crate) accounts: Vec<Account>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) events: Vec<Event>,
    pub(crate) median_job_ms: BTreeMap<String, u64>,
    pub(crate) restart: Restart,
}

/// Slots of all accounts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Slots {
    pub(crate) in_flight: u64,
    pub(crate) max: u64,
}

/// Calls that wait for a slot.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Waiting {
    pub(crate) count: u64,
    pub(crate) oldest_since: Time,
}

/// When the upstream last answered a question of the sidecar, and why it did not since.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Asked {
    /// When the list was fetched, or the round sent.
    #[serde(alias = "fetchedAt", alias = "sentAt")]
    pub(crate) at: Time,
    pub(crate) error: Option<String>,
}

/// What is known of the upstream.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Upstream {
    pub(crate) is_reachable: bool,
}

/// Whether a restart now costs anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Restart {
    pub(crate) is_safe: bool,
    pub(crate) because: Vec<String>,
}

/// An account, also as `/accounts` shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) alias: String,
    pub(crate) max_jobs: u64,
    pub(crate) in_flight: u64,
    pub(crate) held: u64,
    pub(crate) uncertain: u64,
    pub(crate) foreign_jobs: u64,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) since: Time,
    pub(crate) until: Time,
    pub(crate) last_refusal: Option<Refusal>,
    pub(crate) jobs: Jobs,
    pub(crate) next_free_in_ms: Option<u64>,
}

/// What the upstream last said against a job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Refusal {
    pub(crate) at: Time,
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// What became of the jobs of an account since the start.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Jobs {
    pub(crate) started: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) moved: u64,
}

/// A held slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Lease {
    pub(crate) lease_id: String,
    pub(crate) email: String,
    pub(crate) state: String,
    pub(crate) kind: String,
    pub(crate) operation: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) created_at: Time,
    pub(crate) expires_at: Time,
}

/// A call that waits for a slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Waiter {
    pub(crate) position: u64,
    pub(crate) operation: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) since: Time,
    pub(crate) deadline: Time,
    pub(crate) client: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) at: Time,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// What became of a job start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Job {
    pub(crate) at: Time,
    pub(crate) request_id: String,
    pub(crate) client: Option<String>,
    pub(crate) operation: String,
    pub(crate) email: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) outcome: String,
    pub(crate) is_delivered: bool,
    pub(crate) result: Option<String>,
}

/// A time of an answer, if there is one that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Option<Timestamp>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(text.and_then(|text| text.parse().ok())))
    }
}

impl Default for Upstream {
    /// It is news if it is not.
    fn default() -> Self {
        Self { is_reachable: true }
    }
}

impl Account {
    /// How much an operator has to look at it: the most comes first.
    pub(crate) fn trouble(&self) -> u8 {
        match self.state.as_str() {
            "available" => 7,
            "full" => 6,
            "draining" => 5,
            "cooling" => 4,
            "removed" => 3,
            "parked" => 2,
            "quarantined" => 1,
            // In error, or a state of a newer sidecar.
            _ => 0,
        }
    }

    /// Whether it takes jobs, now or once a job of its own is over.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self.state.as_str(), "available" | "full")
    }

    /// Why it is in its state, with the upstream's words where it refused a job in it.
    pub(crate) fn why(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let refusal = self.last_refusal.as_ref();
        match refusal.filter(|_| !self.is_well() && self.state != "draining") {
            Some(Refusal { status, text, .. }) => format!("{reason} ({status}: {text})"),
            None => reason.to_owned(),
        }
    }
}
