//! Clients that give up at random moments, and send the same start again without a key.

use std::time::Duration;

use harness::PATIENCE;
use rand::RngExt;
use tokio::time::sleep;

use crate::{
    clients::{Client, Told, told},
    exchange::{answer_within, job_start},
};

/// How often a client asks again for an earlier start of its own of which it is told that it is not known.
const DOUBTS_MAX: usize = 20;

impl Client {
    /// Sends a job start, gives up, and sends it again until there is an answer.
    pub(crate) async fn insist(&mut self, name: &str) -> Told {
        let (media, body) = self.body(name, None);
        let mut doubts = 0;
        for attempt in 0.. {
            let id = format!("{name}-{attempt}");
            let request = job_start(&id, &media, &body);
            let sent = answer_within(self.patience(), self.running.addr, &request);
            let Some(answer) = sent.await else {
                if self.rng.random_ratio(1, 4) {
                    // The pause draws the moment of the next start; it waits for no event.
                    sleep(Duration::from_millis(self.rng.random_range(0..100))).await;
                }
                continue;
            };
            match told(&answer) {
                None => tokio::task::yield_now().await,
                // It may be told so of an earlier start, which it gave up: that one it may ask for again.
                Some(Told::Unknown) if doubts < DOUBTS_MAX && !self.is_recorded(&id).await => {
                    doubts += 1;
                }
                Some(told) => {
                    if let Told::Job(id) = told {
                        self.use_job(id).await;
                    }
                    return told;
                }
            }
        }
        unreachable!("it goes on until it is told")
    }

    /// How long it waits: it leaves before the grant, while the submission is under way, behind its deadline, or
    /// not at all.
    fn patience(&mut self) -> Duration {
        let longest = match self.rng.random_range(0..8) {
            0..2 => 2,
            2..5 => 40,
            5..7 => 400,
            _ => return PATIENCE,
        };
        Duration::from_micros(self.rng.random_range(0..longest * 1000))
    }

    /// Whether this start is a call of its own, and has not got the answer of an earlier one.
    async fn is_recorded(&self, id: &str) -> bool {
        let path = format!("/jobs?requestId={id}");
        let listed = self.running.get(&path).await.json();
        !listed["jobs"].as_array().unwrap().is_empty()
    }
}
