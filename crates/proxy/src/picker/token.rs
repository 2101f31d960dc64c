//! Whether the upstream takes jobs of the token.
//!
//! Invariant: one job refused with 401 or 402 stops all picks. After a 401 they go on once a fetch of the list shows
//! that the token is valid. After a 402 no fetch shows anything, since the list is answered all the while: now and then
//! one job start is let through, and any other answer to it ends the stop.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{
    error::TokenFault,
    events::{Events, Fact},
};

/// How long nothing is picked after the token was rejected, where no fetch can show that it is valid.
const REJECTED_PAUSE: Duration = Duration::from_secs(60);
/// The time from a 402 to the next job start that probes: a person has to pay first.
const PROBE_PAUSE: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub(super) struct Token {
    stop: watch::Sender<Option<Stop>>,
    /// Whether the list comes from a file: then no fetch shows whether the token is valid again.
    has_own_list: bool,
    events: Events,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    fault: TokenFault,
    since: Instant,
    /// How many fetches were answered by then.
    answered_count: u64,
    /// When the next job start may probe.
    probe_at: Instant,
}

/// The right to send the job start that probes. Dropped unless [`sent`](Self::sent), the next one has it.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    token: &'a Token,
    is_sent: bool,
}

impl Token {
    pub(super) fn new(has_own_list: bool, events: Events) -> Self {
        Self {
            stop: watch::Sender::new(None),
            has_own_list,
            events,
        }
    }

    /// The upstream refused a job. `answered_count`: how many fetches were answered so far; `words`: what it said.
    pub(super) fn reject(&self, fault: TokenFault, words: &str, answered_count: u64) {
        let now = Instant::now();
        let stop = Stop {
            fault,
            since: now,
            answered_count,
            probe_at: now + PROBE_PAUSE,
        };
        self.stop.send_modify(|current| {
            let before = current.replace(stop);
            if before.is_none_or(|before| before.fault != fault) {
                let status = match fault {
                    TokenFault::Unknown => 401,
                    TokenFault::Unpaid => 402,
                };
                let text = words.to_owned();
                // Told while nothing else can change it: what is told last is what holds.
                self.events.publish(&Fact::TokenRejected { status, text });
            }
        });
    }

    /// A job start that was sent at `sent_at` got an answer other than 401 and 402.
    pub(super) fn note_answer(&self, sent_at: Instant) {
        self.end_if(|stop| stop.fault == TokenFault::Unpaid && stop.since < sent_at);
    }

    /// Why nothing is picked. `answered_count`: how many fetches were answered so far.
    pub(super) fn fault(&self, answered_count: impl FnOnce() -> u64) -> Option<TokenFault> {
        // Every pick asks.
        if self.stop.borrow().is_none() {
            return None;
        }
        self.end_if(|stop| match stop.fault {
            TokenFault::Unknown if self.has_own_list => stop.since.elapsed() >= REJECTED_PAUSE,
            TokenFault::Unknown => stop.answered_count < answered_count(),
            TokenFault::Unpaid => false,
        });
        let stop = self.stop.borrow();
        stop.as_ref().map(|stop| stop.fault)
    }

    /// Waits until jobs of the token are refused. Cancel-safe.
    pub(super) async fn rejected(&self) -> TokenFault {
        let mut stop = self.stop.subscribe();
        let stop = stop.wait_for(Option::is_some).await;
        let stop = stop.expect("the sender lives as long as this token");
        stop.as_ref().map_or(TokenFault::Unknown, |stop| stop.fault)
    }

    /// Whether a job start may probe now.
    pub(super) fn is_probe_due(&self) -> bool {
        let stop = self.stop.borrow();
        stop.as_ref().is_some_and(Stop::is_probe_due)
    }

    /// The right to probe, if a job start may probe now.
    pub(super) fn probe(&self) -> Option<Probe<'_>> {
        let mut is_granted = false;
        self.set_probe(|stop| {
            is_granted = stop.is_probe_due();
            if is_granted {
                stop.probe_at = Instant::now() + PROBE_PAUSE;
            }
        });
        is_granted.then_some(Probe {
            token: self,
            is_sent: false,
        })
    }

    /// Changes when a job start may probe. No call waits for that.
    fn set_probe(&self, change: impl FnOnce(&mut Stop)) {
        self.stop.send_if_modified(|stop| {
            if let Some(stop) = stop {
                change(stop);
            }
            false
        });
    }

    fn end_if(&self, is_over: impl FnOnce(&mut Stop) -> bool) {
        if self.stop.borrow().is_none() {
            return;
        }
        self.stop.send_if_modified(|stop| {
            let is_ended = stop.take_if(is_over).is_some();
            if is_ended {
                self.events.publish(&Fact::TokenAccepted);
            }
            is_ended
        });
    }
}

impl Stop {
    fn is_probe_due(&self) -> bool {
        self.fault == TokenFault::Unpaid && self.probe_at <= Instant::now()
    }
}

impl Probe<'_> {
    /// A job start probes: the next one may only later.
    pub(super) fn sent(mut self) {
        self.is_sent = true;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            self.token.set_probe(|stop| stop.probe_at = Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const UNKNOWN: Option<TokenFault> = Some(TokenFault::Unknown);
    const UNPAID: Option<TokenFault> = Some(TokenFault::Unpaid);
    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_401_is_over_with_the_next_answered_fetch_and_nothing_else() {
        let token = Token::new(false, Events::default());
        assert_eq!(token.fault(|| 3), None);
        token.reject(TokenFault::Unknown, "", 3);
        advance(100 * PROBE_PAUSE).await;
        token.note_answer(Instant::now());
        assert!(token.probe().is_none());
        assert_eq!(token.fault(|| 3), UNKNOWN);
        assert_eq!(token.fault(|| 4), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_401_is_over_after_a_while_where_no_fetch_shows_it() {
        let token = Token::new(true, Events::default());
        token.reject(TokenFault::Unknown, "", 0);
        advance(REJECTED_PAUSE - MOMENT).await;
        assert_eq!(token.fault(|| 9), UNKNOWN);
        advance(MOMENT).await;
        assert_eq!(token.fault(|| 9), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_402_is_over_with_another_answer_to_a_job_that_was_sent_later() {
        for has_own_list in [false, true] {
            let token = Token::new(has_own_list, Events::default());
            let earlier = Instant::now();
            token.reject(TokenFault::Unpaid, "", 0);
            token.note_answer(earlier);
            advance(100 * PROBE_PAUSE).await;
            assert_eq!(token.fault(|| 9), UNPAID);
            token.note_answer(Instant::now());
            assert_eq!(token.fault(|| 9), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_job_start_probes_at_a_time() {
        let token = Token::new(false, Events::default());
        assert!(token.probe().is_none(), "there is nothing to find out");
        token.reject(TokenFault::Unpaid, "", 0);
        advance(PROBE_PAUSE - MOMENT).await;
        assert!(!token.is_probe_due() && token.probe().is_none());
        advance(MOMENT).await;
        assert!(token.is_probe_due());
        let probe = token.probe().unwrap();
        assert!(!token.is_probe_due() && token.probe().is_none());
        drop(probe);
        token.probe().expect("the other one was not sent").sent();
        assert!(token.probe().is_none());
        advance(PROBE_PAUSE / 2).await;
        token.reject(TokenFault::Unpaid, "", 0);
        advance(PROBE_PAUSE - MOMENT).await;
        assert!(token.probe().is_none(), "it counts from the last 402");
        advance(MOMENT).await;
        assert!(token.probe().is_some());
    }
}
