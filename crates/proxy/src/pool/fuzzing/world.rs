//! The book beside a simulated upstream, under events at random.

use std::collections::{BTreeMap, BTreeSet};

use super::{journal::Journal, *};
use crate::keyed_hash::HashKey;

/// Two accounts on which nothing runs.
const ACCOUNTS: [(&str, u32); 2] = [("a@x", 3), ("b@x", 2)];

/// An event in the world around the book.
#[derive(Clone, Debug)]
pub(in crate::pool) enum Event {
    /// A submission begins. Later its answer comes or is lost, and it started a job or none.
    Submit {
        has_key: bool,
    },
    /// Its job starts before its answer comes.
    Begin(usize),
    /// From now on the upstream keeps marks, or drops them.
    KeepMarks(bool),
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
        Ok(match below(bytes, 32)? {
            0..4 => Self::Submit {
                has_key: bytes.arbitrary()?,
            },
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
            21..23 => Self::Begin(nth(bytes)?),
            23 => Self::KeepMarks(bytes.ratio(8, 10)?),
            24..27 => Self::Pass(1 + below(bytes, 89)?),
            27 => Self::Commit,
            28 => Self::Take,
            29 => Self::Fail(bytes.arbitrary()?),
            _ => Self::Crash {
                starts: bytes.arbitrary()?,
                is_written: bytes.arbitrary()?,
            },
        })
    }
}

/// What runs, as far as rounds show it.
#[derive(Clone, Default)]
struct Shown {
    running: BTreeMap<u64, String>,
    /// The jobs whose ids they do not show.
    garbled: BTreeSet<u64>,
    /// The marks that the upstream keeps, with the leases that they are of.
    marks: BTreeMap<u64, (Mark, LeaseId)>,
}

/// The true state of the upstream, and the book beside it.
pub(in crate::pool) struct World {
    bench: Bench,
    now: u64,
    next_task: u64,
    upstream: Shown,
    /// What the round shows that is being followed.
    followed: Option<Shown>,
    /// How many steps of it are taken at once.
    round_steps: usize,
    under_way: Vec<UnderWay>,
    picked: Vec<(LeaseId, Option<u64>)>,
    journal: Journal,
    key: HashKey,
    keeps_marks: bool,
    keyed: BTreeSet<LeaseId>,
    /// Which jobs rounds have listed with their marks.
    shown: BTreeMap<LeaseId, u64>,
}

#[derive(Debug)]
struct UnderWay {
    lease: LeaseId,
    email: String,
    sent_at: Duration,
    mark: Option<Mark>,
    job: Option<u64>,
}

/// What all submissions start.
const OPERATION: &str = "/v";

fn claim_of(lease: LeaseId) -> Claim {
    Claim {
        key: Key::new(&lease.to_string()),
        fingerprint: Fingerprint::of(["1"]),
    }
}

impl World {
    /// Two accounts on which nothing runs. Between `round_steps` steps of a round other events happen.
    pub(in crate::pool) fn new(round_steps: usize) -> Self {
        let mut bench = Bench::empty(RECONCILING, 7);
        bench.pool.record_changes();
        bench.learn(&ACCOUNTS, START);
        Self {
            key: HashKey::random(&mut bench.rng),
            keeps_marks: true,
            upstream: Shown::default(),
            followed: None,
            round_steps,
            keyed: BTreeSet::new(),
            shown: BTreeMap::new(),
            journal: Journal::default(),
            bench,
            now: 1,
            next_task: 0,
            under_way: Vec::new(),
            picked: Vec::new(),
        }
    }

    /// Lets all events happen. In the end all submissions are answered, all jobs end, and rounds continue.
    pub(in crate::pool) fn all(mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.happen(event);
            self.follow_round();
        }
        self.round_steps = usize::MAX;
        for submission in std::mem::take(&mut self.under_way) {
            let sent_ago = Duration::ZERO;
            let settlement = match submission.job {
                Some(_) => Settlement::Uncertain { sent_ago },
                None => Settlement::Refused(Blame::Request),
            };
            self.settle(&submission, settlement);
        }
        self.upstream.running.clear();
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
        self.upstream
            .running
            .insert(self.next_task, email.to_owned());
        self.next_task
    }

    fn start_submitted(&mut self, submission: &UnderWay) -> u64 {
        let job = self.start_job(&submission.email);
        if let Some(mark) = submission.mark.filter(|_| self.keeps_marks) {
            self.upstream.marks.insert(job, (mark, submission.lease));
        }
        job
    }

    fn take(&mut self, ttl: Option<Duration>, has_key: bool) -> Option<(LeaseId, String)> {
        let ask = self.bench.ask(None, &[]);
        let ask = Ask {
            ttl,
            operation: Some(OPERATION.into()),
            mark: Some(Mark::of(&self.key, ask.lease_id)),
            ..ask
        };
        let (id, now) = (ask.lease_id, at(self.now));
        let Bench { pool, rng } = &mut self.bench;
        if has_key {
            pool.claim(&claim_of(id), id, Kind::Forward).unwrap();
        }
        let Ok(lease) = pool.pick(&ask, now, rng) else {
            pool.unclaim(id);
            return None;
        };
        if !self.journal.commit(pool) {
            // The client is told that there is none.
            pool.settle(id, None, None, Settlement::Undelivered, now);
            return None;
        }
        if has_key {
            self.keyed.insert(id);
        }
        Some((id, lease.email.to_string()))
    }

    /// A round that tells the truth.
    fn round(&mut self) {
        self.now += 1;
        let shown = self.upstream.clone();
        let running = shown.running.iter();
        let (garbled, read): (Vec<_>, Vec<_>) =
            running.partition(|(id, _)| shown.garbled.contains(id));
        let executing = read.into_iter().map(|(id, email)| RunningJob {
            task_id: task(*id),
            email: email.clone(),
            mark: shown.marks.get(id).map(|(mark, _)| *mark),
        });
        let unreadable = garbled.into_iter().map(|(_, email)| Some(email.clone()));
        let round = Round {
            sent_at: at(self.now),
            executing: executing.collect(),
            unreadable: unreadable.collect(),
            ..Round::default()
        };
        self.finish_round();
        let Bench { pool, rng } = &mut self.bench;
        let change = RoundChange::between(pool.running(), round);
        assert!(pool.begin_round(change, at(self.now), rng));
        self.followed = Some(shown);
        self.follow_round();
    }

    /// Takes all steps of the round that has begun.
    fn finish_round(&mut self) {
        while self.followed.is_some() {
            self.follow_round();
        }
    }

    /// Takes steps of the round that has begun. Once it is whole, the sidecar reacts.
    fn follow_round(&mut self) {
        let (Bench { pool, rng }, now) = (&mut self.bench, at(self.now));
        let Some(RoundProgress::Whole(findings)) = pool.follow_round(self.round_steps, now, rng)
        else {
            return;
        };
        for job in findings.unlisted {
            let id: u64 = job.task_id.as_str().parse().unwrap();
            if !self.upstream.running.contains_key(&id) {
                pool.job_over(&job.task_id, now);
            }
        }
        let shown = self.followed.take().unwrap();
        self.check_marks(&shown);
        for email in ["a@x", "b@x"] {
            let running = shown.running.values();
            let truth = running.filter(|running| *running == email).count();
            let account = self.bench.pool.account(email).unwrap();
            assert!(
                account.in_flight() as usize >= truth,
                "{truth} jobs run: {account:?}"
            );
        }
    }

    fn crash(&mut self, starts: bool, is_written: bool) {
        for (nth, submission) in std::mem::take(&mut self.under_way).into_iter().enumerate() {
            // Some of them had arrived.
            if submission.job.is_none() && (starts || nth % 2 == 1) {
                self.start_submitted(&submission);
            }
        }
        // What a round showed may not have been written.
        self.shown.clear();
        self.followed = None;
        let now = at(self.now);
        let (pool, key) = (&mut self.bench.pool, &self.key);
        let restored = self
            .journal
            .restored(pool, is_written, RECONCILING, key, now);
        self.bench.pool = restored;
        let ask = self.bench.ask(None, &[]);
        let Bench { pool, rng } = &mut self.bench;
        assert_eq!(pool.pick(&ask, now, rng), Err(Refusal::Learning));
        self.bench.apply(&ACCOUNTS, now);
        self.round();
    }

    /// A job that the round lists with its mark is that submission's, and its key knows that for good.
    fn check_marks(&mut self, shown: &Shown) {
        let pool = &self.bench.pool;
        let listed = shown.marks.iter();
        let listed = listed
            .filter(|(job, _)| shown.running.contains_key(job) && !shown.garbled.contains(job));
        for (job, (mark, lease)) in listed {
            let holder = pool.leases.of_task(&task(*job));
            assert!(
                holder.is_none_or(|holder| holder == *lease),
                "{mark} is not of {holder:?}"
            );
            if pool.lease(*lease).is_some() {
                assert_eq!(holder, Some(*lease), "{job} has its mark");
            }
            self.shown.insert(*lease, *job);
        }
        let shown = self.shown.iter();
        for (lease, job) in shown.filter(|(lease, _)| self.keyed.contains(*lease)) {
            let known = pool.recall(&claim_of(*lease));
            let is_known =
                matches!(&known, Some(Known::Job { task_id, .. }) if *task_id == task(*job));
            assert!(is_known, "{lease} became {job}, and its key says {known:?}");
        }
        pool.resolutions.check(|id| {
            pool.leases.get(id).is_some() || self.under_way.iter().any(|it| it.lease == id)
        });
        pool.leases.check();
        let is_held = |id| pool.leases.get(id).is_some();
        pool.marks.check(pool.leases.after(None), is_held);
    }

    fn settle(&mut self, submission: &UnderWay, settlement: Settlement) {
        let body = Body {
            operation: OPERATION.into(),
            fingerprint: Fingerprint::of([(self.next_task % 3).to_le_bytes()]),
            prompt: None,
        };
        let (email, now) = (Name::new(&submission.email), at(self.now));
        let pool = &mut self.bench.pool;
        pool.settle(submission.lease, Some(&email), Some(body), settlement, now);
    }

    fn submit(&mut self, has_key: bool) {
        let now = at(self.now);
        if let Some((lease, email)) = self.take(None, has_key) {
            let pool = &mut self.bench.pool;
            self.under_way.push(UnderWay {
                lease,
                email,
                sent_at: now,
                mark: pool.mark_submission(lease),
                job: None,
            });
        }
    }

    fn answer(&mut self, nth: usize, is_accepted: bool, is_lost: bool) {
        let now = at(self.now);
        let Some(nth) = nth.checked_rem(self.under_way.len()) else {
            return;
        };
        let submission = self.under_way.remove(nth);
        let job = match submission.job {
            None if is_accepted => Some(self.start_submitted(&submission)),
            begun => begun,
        };
        let settlement = match (job, is_lost) {
            (Some(job), false) => Settlement::Accepted {
                task_id: task(job),
                task_type: None,
            },
            (None, false) => Settlement::Refused(Blame::Request),
            (_, true) => Settlement::Uncertain {
                sent_ago: now.saturating_sub(submission.sent_at),
            },
        };
        self.settle(&submission, settlement);
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Submit { has_key } => self.submit(has_key),
            Event::Begin(nth) => {
                let Some(nth) = nth.checked_rem(self.under_way.len()) else {
                    return;
                };
                let mut submission = self.under_way.swap_remove(nth);
                if submission.job.is_none() {
                    submission.job = Some(self.start_submitted(&submission));
                }
                self.under_way.push(submission);
            }
            Event::KeepMarks(keeps_marks) => self.keeps_marks = keeps_marks,
            Event::Answer {
                nth,
                is_accepted,
                is_lost,
            } => self.answer(nth, is_accepted, is_lost),
            Event::Pick { submits } => {
                if let Some((id, email)) = self.take(Some(TTL), false) {
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
                let nth = nth.checked_rem(self.upstream.running.len());
                let id = nth.and_then(|nth| self.upstream.running.keys().nth(nth).copied());
                id.and_then(|id| self.upstream.running.remove(&id));
            }
            Event::Garble(nth) => {
                let nth = nth.checked_rem(self.upstream.running.len());
                if let Some(id) = nth.and_then(|nth| self.upstream.running.keys().nth(nth).copied())
                    && !self.upstream.garbled.insert(id)
                {
                    self.upstream.garbled.remove(&id);
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
    let mut bytes = Unstructured::new(data);
    if let Ok(round_steps) = round_steps(&mut bytes) {
        World::new(round_steps).all(events(bytes));
    }
}
