//! What each client does: it waits for a slot, or its job runs on an account.

use std::time::Duration;

use tokio::time::Instant;

use crate::jobs::{CARRIED_CLIENTS, Event, EventKind, PICKING_CLIENTS, Way, way_of};

/// The clients, as they last told of themselves.
#[derive(Debug)]
pub(crate) struct Board {
    clients: Vec<Doing>,
}

/// What a client does.
#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    Waits { since: Instant },
    Runs { account: String },
}

impl Board {
    /// Before the first client acts.
    pub(crate) fn new() -> Self {
        let count = CARRIED_CLIENTS + PICKING_CLIENTS;
        Self {
            clients: vec![Doing::Nothing; count as usize],
        }
    }

    /// Takes down what a client told, and returns it as a line if it is news.
    pub(crate) fn note(&mut self, event: &Event) -> Option<String> {
        let (doing, news) = match &event.kind {
            EventKind::Waits => (
                Doing::Waits {
                    since: Instant::now(),
                },
                None,
            ),
            EventKind::Started { email, attempts } => {
                let account = short(email).to_owned();
                (
                    Doing::Runs { account },
                    moved(event.client_idx, email, *attempts),
                )
            }
            EventKind::Refused { email, status } => {
                let news = format!(
                    "* client {}: {email} refused its job ({}); it picks again",
                    event.client_idx + 1,
                    status.as_u16()
                );
                (Doing::Nothing, Some(news))
            }
            EventKind::Done { .. } | EventKind::Failed(_) => (Doing::Nothing, None),
        };
        if let Some(client) = self.clients.get_mut(event.client_idx as usize) {
            *client = doing;
        }
        news
    }

    /// The clients that use the sidecar in this way, in a line.
    pub(crate) fn line(&self, way: Way) -> String {
        let clients = self.clients.iter().zip(0u32..);
        let clients = clients.filter(|(_, idx)| way_of(*idx) == way);
        let cells = clients.map(|(doing, idx)| format!("{:>2} {:<4}", idx + 1, doing.in_short()));
        cells.collect::<String>().trim_end().to_owned()
    }
}

impl Doing {
    fn in_short(&self) -> String {
        match self {
            Self::Nothing => "-".to_owned(),
            Self::Waits { since } if since.elapsed() < Duration::from_secs(1) => "…".to_owned(),
            Self::Waits { since } => format!("…{}", since.elapsed().as_secs()),
            Self::Runs { account } => account.clone(),
        }
    }
}

fn moved(client_idx: u32, email: &str, attempts: u32) -> Option<String> {
    let refused = match attempts {
        0 | 1 => return None,
        2 => "an account".to_owned(),
        count => format!("{} accounts", count - 1),
    };
    let client = client_idx + 1;
    Some(format!(
        "* client {client}: {refused} refused its job; the sidecar moved it to {email}"
    ))
}

/// An account's name in front of its `@`.
fn short(email: &str) -> &str {
    email.split('@').next().unwrap_or(email)
}
