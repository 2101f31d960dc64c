//! Answers of a sidecar as commands read them. What a sidecar does not tell, as an older one may, is empty.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::times::span;

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
    /// When it is expected to have a free slot: see [`Status::told_at`].
    #[serde(skip)]
    pub(crate) free_at: Time,
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
    operation: Option<String>,
    task_id: Option<String>,
    duration_ms: Option<u64>,
    client: Option<String>,
    request_id: Option<String>,
    added: Vec<Listed>,
    added_count: u64,
    removed: Vec<Listed>,
    removed_count: u64,
    changed: Vec<Listed>,
    changed_count: u64,
}

/// An account that a change of the list names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Listed {
    email: String,
    max_jobs: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
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

impl Status {
    /// The status with forecasts as times: they were made when it was answered.
    pub(crate) fn told_at(mut self, now: Timestamp) -> Self {
        for account in &mut self.accounts {
            let ahead = account.next_free_in_ms.map(Duration::from_millis);
            account.free_at = Time(ahead.and_then(|ahead| now.checked_add(ahead).ok()));
        }
        self
    }

    /// When the next slot is expected to be free, where there is none now.
    pub(crate) fn next_free_at(&self) -> Time {
        if self.accounts.iter().any(|it| it.state == "available") {
            return Time(None);
        }
        Time(self.accounts.iter().filter_map(|it| it.free_at().0).min())
    }
}

impl Event {
    /// Its sentence, and what tells it from others of its type.
    pub(crate) fn told(&self) -> String {
        let with = |before: &str, text: &Option<String>| {
            text.as_deref().map(|text| format!("{before}{text}"))
        };
        let took = self.duration_ms.map(Duration::from_millis);
        let parts = [
            Some(self.message.clone()),
            listed("added", &self.added, self.added_count),
            listed("removed", &self.removed, self.removed_count),
            listed("changed", &self.changed, self.changed_count),
            // First, since a narrow terminal cuts the line.
            with("request ", &self.request_id),
            self.operation.clone(),
            with("task ", &self.task_id),
            took.map(|took| format!("took {}", span(took))),
            with("client ", &self.client),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

/// Accounts with their slots; of `count`, the first ones are named.
fn listed(word: &str, accounts: &[Listed], count: u64) -> Option<String> {
    let names = accounts
        .iter()
        .map(|it| match (it.max_jobs, it.from, it.to) {
            (Some(max), ..) => format!("{} ({max})", it.email),
            (None, Some(from), Some(to)) => format!("{} ({from} → {to})", it.email),
            (None, ..) => it.email.clone(),
        });
    let names = names.collect::<Vec<_>>().join(", ");
    let more = match count.saturating_sub(accounts.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!accounts.is_empty()).then(|| format!("{word}: {names}{more}"))
}

impl Account {
    /// When a full one is expected to have a free slot.
    pub(crate) fn free_at(&self) -> Time {
        Time(self.free_at.0.filter(|_| self.state == "full"))
    }

    /// When its state ends: as the sidecar says, or as it expects.
    pub(crate) fn ends_at(&self) -> Time {
        Time(self.until.0.or(self.free_at().0))
    }

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_tells_which_call_and_which_accounts_it_is_of() {
        let told = |event| serde_json::from_value::<Event>(event).unwrap().told();
        let ended = json!({"message": "job failed on a@x", "operation": "/videos/text2video", "taskId": "7",
                           "durationMs": 65_000, "client": "studio", "requestId": "r-1"});
        let expected = "job failed on a@x · request r-1 · /videos/text2video · task 7 · took 1m 5s · client studio";
        assert_eq!(told(ended), expected);
        let changed = json!({"message": "account list changed", "addedCount": 3, "changedCount": 1,
                             "added": [{"email": "a@x", "maxJobs": 2}, {"email": "b@x", "maxJobs": 1}],
                             "removed": [], "changed": [{"email": "c@x", "from": 5, "to": 2}]});
        let expected =
            "account list changed · added: a@x (2), b@x (1) and 1 more · changed: c@x (5 → 2)";
        assert_eq!(told(changed), expected);
        // These two members have another meaning here.
        let state =
            json!({"message": "a@x is available again", "from": "cooling", "to": "available"});
        assert_eq!(told(state), "a@x is available again");
    }
}
