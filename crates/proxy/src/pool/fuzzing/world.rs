//! The book beside a simulated upstream, under events at random.

use std::collections::{BTreeMap, BTreeSet};

use super::{journal::Journal, *};

/// Two accounts on which nothing runs.
const ACCOUNTS: [(&str, u32); 2] = [("a@x", 3), ("b@x", 2)];

/// An event in the world around the book.
#[derive(Clone, Debug)]
pub(in crate::pool) enum Event {
    /// A submission begins. Later its answer comes or is lost, and it started a job or none.
    Submit,
    Answer {
        nth: usize,
        is_accepted: bool,
        is_lost: bool,
    },
    /// A client picks, and may submit by itself.
    Pick {
        submits: bool,
    },
    Bind(usize),
    Release(usize),
    /// Another tool starts a job.
    Foreign(bool),
    End(usize),
    /// Rounds do not show the id of a job any more, or show it again.
    Garble(usize),
    Round,
    Pass(u64),
    /// What changed is written, or begins to be, or cannot be written for a while.
    Commit,
    Take,
    Fail(bool),
    /// The process ends. Submissions under way started jobs or none, whatever became of the batch on its way.
    Crash {
        starts: bool,
        is_written: bool,
    },
}

/// The events that tests draw, as often as those.
impl<'a> Arbitrary<'a> for Event {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match below(bytes, 29)? {
            0..4 => Self::Submit,
            4..8 => Self::Answer {
                nth: nth(bytes)?,
                is_accepted: bytes.arbitrary()?,
                is_lost: bytes.ratio(3, 10)?,
            },
            8..10 => Self::Pick {
                submits: bytes.arbitrary()?,
            },
            10 => Self::Bind(nth(bytes)?),
            11 => Self::Release(nth(bytes)?),
            12 => Self::Foreign(bytes.arbitrary()?),
            13..16 => Self::End(nth(bytes)?),
            16 => Self::Garble(nth(bytes)?),
            17..21 => Self::Round,
            21..24 => Self::Pass(1 + below(bytes, 89)?),
            24 => Self::Commit,
            25 => Self::Take,
            26 => Self::Fail(bytes.arbitrary()?),
            _ => Self::Crash {
                starts: bytes.arbitrary()?,
                is_written: bytes.arbitrary()?,
            },
        })
    }
}

/// The true state of the upstream, and the book beside it.
pub(in crate::pool) struct World {
    bench: Bench,
    now: u64,
    next_task: u64,
    running: BTreeMap<u64, String>,
    garbled: BTreeSet<u64>,
    under_way: Vec<(LeaseId, String, Duration)>,
    picked: Vec<(LeaseId, Option<u64>)>,
    journal: Journal,
}

impl World {
    /// Two accounts on which nothing runs.
    pub(in crate::pool) fn new() -> Self {
        let mut bench = Bench::empty(RECONCILING, 7);
        bench.pool.record_changes();
        bench.learn(&ACCOUNTS, START);
        Self {
            bench,
            journal: Journal::default(),
            now: 1,
            next_task: 0,
            running: BTreeMap::new(),
            garbled: BTreeSet::new(),
            under_way: Vec::new(),
            picked: Vec::new(),
        }
    }

    /// Lets all events happen. In the end all submissions are answered, all jobs end, and rounds continue.
    pub(in crate::pool) fn all(mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.happen(event);
        }
        for (id, ..) in std::mem::take(&mut self.under_way) {
            self.bench.pool.end(id, Cause::Refused, at(self.now));
        }
        self.running.clear();
        for _ in 0..8 {
            self.now += 60;
            self.round();
        }
        let leases = self.bench.pool.leases();
        assert!(leases.is_empty(), "{leases:?}");
        for account in self.bench.pool.accounts() {
            assert_eq!(account.in_flight(), 0);
        }
    }

    fn start_job(&mut self, email: &str) -> u64 {
        self.next_task += 1;
        self.running.insert(self.next_task, email.to_owned());
        self.next_task
    }

    fn take(&mut self, ttl: Option<Duration>) -> Option<(LeaseId, String)> {
        let ask = Ask {
            ttl,
            ..self.bench.ask(None, &[])
        };
        let lease = self
            .bench
            .pool
            .pick(&ask, at(self.now), &mut self.bench.rng)
            .ok()?;
        if !self.journal.commit(&mut self.bench.pool) {
            // The client is told that there is none.
            let pool = &mut self.bench.pool;
            pool.settle(lease.id, None, None, Settlement::Undelivered, at(self.now));
            return None;
        }
        Some((lease.id, lease.email.to_string()))
    }

    /// A round that tells the truth, and the reaction of the sidecar.
    fn round(&mut self) {
        self.now += 1;
        let running = self.running.iter();
        let (garbled, read): (Vec<_>, Vec<_>) =
            running.partition(|(id, _)| self.garbled.contains(id));
        let executing = read.into_iter().map(|(id, email)| RunningJob {
            task_id: task(*id),
            email: email.clone(),
        });
        let unreadable = garbled.into_iter().map(|(_, email)| Some(email.clone()));
        let round = Round {
            sent_at: at(self.now),
            executing: executing.collect(),
            unreadable: unreadable.collect(),
            ..Round::default()
        };
        let Bench { pool, rng } = &mut self.bench;
        let findings = pool.reconcile(&round, at(self.now), rng);
        for job in findings.unlisted {
            let id: u64 = job.task_id.as_str().parse().unwrap();
            if !self.running.contains_key(&id) {
                self.bench.pool.job_over(&job.task_id, at(self.now));
            }
        }
        for email in ["a@x", "b@x"] {
            let truth = self
                .running
                .values()
                .filter(|running| *running == email)
                .count();
            let account = self.bench.pool.account(email).unwrap();
            assert!(
                account.in_flight() as usize >= truth,
                "{truth} jobs run: {account:?}"
            );
        }
    }

    fn crash(&mut self, starts: bool, is_written: bool) {
        for (nth, (_, email, _)) in std::mem::take(&mut self.under_way).into_iter().enumerate() {
            // Some of them had arrived.
            if starts || nth % 2 == 1 {
                self.start_job(&email);
            }
        }
        let now = at(self.now);
        let pool = &self.bench.pool;
        self.bench.pool = self.journal.restored(pool, is_written, RECONCILING, now);
        let Bench { pool, rng } = &mut self.bench;
        let ask = Ask {
            lease_id: LeaseId::random(rng),
            ttl: Some(TTL),
            constraint: pool.constraint(None, &[]).unwrap(),
            operation: None,
            max_jobs: None,
            place: None,
            body: None,
        };
        assert_eq!(pool.pick(&ask, now, rng), Err(Refusal::Learning));
        self.bench.apply(&ACCOUNTS, now);
        self.round();
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Submit => {
                if let Some((id, email)) = self.take(None) {
                    self.under_way.push((id, email, now));
                }
            }
            Event::Answer {
                nth,
                is_accepted,
                is_lost,
            } => {
                let Some(nth) = nth.checked_rem(self.under_way.len()) else {
                    return;
                };
                let (id, email, sent_at) = self.under_way.remove(nth);
                let job = is_accepted.then(|| self.start_job(&email));
                match (job, is_lost) {
                    (Some(job), false) => self.bench.pool.bind(id, task(job), now).unwrap(),
                    (None, false) => assert!(self.bench.pool.end(id, Cause::Refused, now)),
                    (_, true) => self.bench.pool.mark_uncertain(id, sent_at, now),
                }
            }
            Event::Pick { submits } => {
                if let Some((id, email)) = self.take(Some(TTL)) {
                    let job = submits.then(|| self.start_job(&email));
                    self.picked.push((id, job));
                }
            }
            Event::Bind(nth) => {
                let Some(nth) = nth.checked_rem(self.picked.len()) else {
                    return;
                };
                if let (id, Some(job)) = self.picked[nth] {
                    // The lease may have ended, or another lease may have the job.
                    self.bench.pool.bind(id, task(job), now).ok();
                }
            }
            Event::Release(nth) => {
                let Some(nth) = nth.checked_rem(self.picked.len()) else {
                    return;
                };
                let (id, _) = self.picked.remove(nth);
                self.bench.pool.release(id, now);
            }
            Event::Foreign(is_first) => {
                self.start_job(if is_first { "a@x" } else { "b@x" });
            }
            Event::End(nth) => {
                let nth = nth.checked_rem(self.running.len());
                let id = nth.and_then(|nth| self.running.keys().nth(nth).copied());
                id.and_then(|id| self.running.remove(&id));
            }
            Event::Garble(nth) => {
                let nth = nth.checked_rem(self.running.len());
                if let Some(id) = nth.and_then(|nth| self.running.keys().nth(nth).copied())
                    && !self.garbled.insert(id)
                {
                    self.garbled.remove(&id);
                }
            }
            Event::Round => self.round(),
            Event::Commit => {
                self.journal.commit(&mut self.bench.pool);
            }
            Event::Take => self.journal.take(&mut self.bench.pool),
            Event::Fail(is_failing) => self.journal.set_failing(is_failing),
            Event::Crash { starts, is_written } => self.crash(starts, is_written),
            Event::Pass(seconds) => {
                self.now += seconds;
                self.bench.pool.expire(at(self.now), &mut self.bench.rng);
            }
        }
        self.now += 1;
    }
}

/// Lets the events happen that `data` tells.
///
/// # Panics
/// If the book counts less than runs, or does not forget a slot that is free.
pub fn run(data: &[u8]) {
    World::new().all(events(Unstructured::new(data)));
}
