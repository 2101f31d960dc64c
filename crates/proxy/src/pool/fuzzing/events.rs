//! After each of many random events, every index agrees with its entries.
//!
//! Each part builds its own indexes again from its raw entries. This file compares what concerns several
//! parts: the slots in use, the waiters, and the jobs of the newest round. Every e-mail means one account
//! at most.

mod check;
mod event;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    num::NonZeroU32,
};

use self::check::check_truth;
pub(super) use self::check::{check_parts, check_running};
pub(in crate::pool) use self::event::{Call, Event};
use super::*;
use crate::keyed_hash::HashKey;

/// The second and the third are one account in two spellings.
pub(in crate::pool) const EMAILS: &[&str] = &["Ann@x", "b@x", "b@X", "c@x"];
/// The number of different bodies, and of different prompts.
const BODIES: u64 = 3;
/// Events concern this many of the newest leases.
const RECENT: usize = 8;

/// What submissions start, if that is known.
const OPERATION: &str = "/v";

pub(in crate::pool) type Email = &'static str;

/// How many jobs the upstream counts on an account beyond those that it lists.
type Excess = Option<(Email, u32)>;

fn prompt(body: u64) -> Digest {
    Digest::of(&(body % BODIES).to_string())
}

/// The book, and the state of the world around it.
pub(in crate::pool) struct World {
    bench: Bench,
    now: u64,
    /// Every lease that was granted, the newest last.
    leases: Vec<LeaseView>,
    /// Forwarded submissions that are not settled yet, each with its body's number.
    under_way: BTreeMap<LeaseId, u64>,
    waiting: Vec<(WaiterId, LeaseId)>,
    /// The place of the next caller that comes back.
    place: WaiterId,
    running: BTreeMap<u64, Email>,
    /// The jobs whose ids rounds do not show.
    garbled: BTreeSet<u64>,
    hash_key: HashKey,
    /// The marks that rounds list jobs with.
    marks: BTreeMap<u64, Mark>,
    excess: Excess,
    /// What the round shows that is being followed.
    followed: Option<(BTreeMap<u64, Email>, Excess)>,
    /// How many steps of it are taken at once.
    round_steps: usize,
}

impl World {
    /// The list is known, and a first round lists nothing. Between `round_steps` steps of a round other events happen.
    pub(in crate::pool) fn new(limits: Limits, round_steps: usize) -> Self {
        let mut bench = Bench::empty(limits, 3);
        let mut world = Self {
            place: bench.pool.take_place(START),
            hash_key: HashKey::random(&mut bench.rng),
            marks: BTreeMap::new(),
            bench,
            now: 1,
            leases: Vec::new(),
            under_way: BTreeMap::new(),
            waiting: Vec::new(),
            running: BTreeMap::new(),
            garbled: BTreeSet::new(),
            excess: None,
            followed: None,
            round_steps,
        };
        world.list(&[("Ann@x", 2), ("b@x", 1), ("c@x", 2)]);
        world.follow_list(usize::MAX);
        world.round(None);
        world.finish_round();
        world
    }

    fn recent(&self, nth: usize) -> Option<LeaseView> {
        let nth = nth.checked_rem(self.leases.len().min(RECENT))?;
        self.leases.iter().rev().nth(nth).cloned()
    }

    fn note_granted(&mut self, lease: LeaseView) {
        if lease.kind == Kind::Forward {
            let body = self.leases.len() as u64 % BODIES;
            self.under_way.insert(lease.id, body);
        }
        self.leases.push(lease);
    }

    fn call(&mut self, call: Call) {
        let exclude: Vec<_> = call.exclude.iter().map(|email| (*email).into()).collect();
        let (Bench { pool, rng }, now) = (&mut self.bench, at(self.now));
        let Ok(constraint) = pool.constraint(call.only, &exclude) else {
            return;
        };
        let lease_id = LeaseId::random(rng);
        let ask = Ask {
            lease_id,
            ttl: (!call.is_forward).then_some(TTL),
            constraint,
            caller: Caller::default(),
            operation: call.has_operation.then(|| OPERATION.into()),
            max_jobs: call.max_jobs.and_then(NonZeroU32::new),
            place: call.comes_back.then_some(self.place),
            wait: Duration::ZERO,
            body: None,
            mark: Some(Mark::of(&self.hash_key, lease_id)),
        };
        if call.comes_back {
            self.place = pool.take_place(START);
        }
        if let Some((claim, kind)) = call.claim()
            && pool.claim(&claim, lease_id, kind).is_err()
        {
            return;
        }
        let admitted = if call.waits {
            pool.pick_or_wait(ask, now, rng)
        } else {
            pool.pick(&ask, now, rng).map(Admission::Granted)
        };
        match admitted {
            Ok(Admission::Granted(lease)) => self.note_granted(lease),
            Ok(Admission::Queued(waiter)) => self.waiting.push((waiter, lease_id)),
            Err(_) => pool.unclaim(lease_id),
        }
    }

    fn leave(&mut self, nth: usize) {
        if let Some(nth) = nth.checked_rem(self.waiting.len()) {
            let (waiter, _) = self.waiting.remove(nth);
            assert!(self.bench.pool.leave(waiter), "{waiter:?} did not wait");
            assert!(!self.bench.pool.leave(waiter), "{waiter:?} left twice");
        }
    }

    fn update(&mut self, nth: usize, update: Update) {
        let Some(LeaseView { id, .. }) = self.recent(nth) else {
            return;
        };
        let is_held = self.bench.pool.lease(id).is_some();
        // Another lease may have the job already.
        let updated = self.bench.pool.update(id, update, at(self.now));
        let is_unknown = updated == Err(LeaseError::Unknown);
        assert_eq!(is_unknown, !is_held, "the book says {updated:?}");
    }

    fn release(&mut self, nth: usize) {
        let Some(LeaseView { id, .. }) = self.recent(nth) else {
            return;
        };
        let is_held = self.bench.pool.lease(id).is_some();
        assert_eq!(self.bench.pool.release(id, at(self.now)), is_held);
        assert!(
            !self.bench.pool.release(id, at(self.now)),
            "{id:?} came back twice"
        );
    }

    /// A submission settles in any way. A pick settles only because its client did not learn of it.
    fn settle(&mut self, nth: usize, settlement: Settlement, is_told_twice: bool) {
        let Some(lease) = self.recent(nth) else {
            return;
        };
        let (body, settlement) = match (lease.kind, self.under_way.remove(&lease.id)) {
            (Kind::Forward, None) => return,
            (Kind::Forward, Some(body)) => (Some(body), settlement),
            (Kind::Pick, _) => (None, Settlement::Undelivered),
        };
        let body = body.map(|body| Body {
            operation: OPERATION.into(),
            fingerprint: Fingerprint::of([body.to_le_bytes()]),
            prompt: Some(prompt(body)),
        });
        let (email, now) = (Name::new(&lease.email), at(self.now));
        for _ in 0..1 + u8::from(is_told_twice) {
            self.bench.pool.settle(
                lease.id,
                Some(&email),
                body.clone(),
                settlement.clone(),
                now,
            );
        }
    }

    /// Begins a list, of which each further event takes over one entry. It names each account once, as the first of
    /// its entries says.
    fn list(&mut self, entries: &[(Email, u32)]) {
        let mut identities = HashSet::new();
        let accounts = entries.iter().map(|(email, max)| Account::new(email, *max));
        let accounts = accounts.filter(|account| identities.insert(account.identity()));
        let list: Snapshot = accounts.collect();
        let Bench { pool, rng } = &mut self.bench;
        let mut begin = || {
            let change = ListChange::between(pool.list(), &list);
            pool.begin_list(change, at(self.now), rng)
        };
        // An earlier one may not be whole yet.
        assert!(begin() || begin());
    }

    fn follow_list(&mut self, steps_max: usize) {
        let Bench { pool, rng } = &mut self.bench;
        pool.follow_list(steps_max, at(self.now), rng);
    }

    fn change(&mut self, changes: Vec<(u64, Option<Email>)>) {
        for (id, started_on) in changes {
            if let Some(email) = started_on {
                self.running.entry(id).or_insert(email);
            } else {
                self.running.remove(&id);
            }
        }
    }

    /// A round that is sent and answered now, with the truth.
    fn round(&mut self, cap: Option<u32>) {
        if !self.bench.pool.limits.reconciles {
            return;
        }
        self.finish_round();
        let running = self.running.iter();
        let (garbled, read): (Vec<_>, Vec<_>) =
            running.partition(|(id, _)| self.garbled.contains(id));
        let executing = read.into_iter().map(|(id, email)| RunningJob {
            task_id: task(*id),
            email: (*email).into(),
            mark: self.marks.get(id).copied(),
        });
        let unreadable = garbled.iter().map(|(_, email)| Some((**email).into()));
        let counts = self.excess.map(|(email, excess)| {
            let rows = self.running.values();
            let rows = rows.filter(|on| on.eq_ignore_ascii_case(email)).count();
            AccountCount {
                email: email.into(),
                executing: u32::try_from(rows).unwrap() + excess,
            }
        });
        let caps = cap.map(|max_jobs| [("Ann@x", max_jobs), ("b@x", 2)]);
        let caps = caps
            .into_iter()
            .flatten()
            .map(|(email, max_jobs)| AccountCap {
                email: email.into(),
                max_jobs,
            });
        let round = Round {
            sent_at: at(self.now),
            executing: executing.collect(),
            ages: Vec::new(),
            unreadable: unreadable.collect(),
            caps: caps.collect(),
            counts: counts.into_iter().collect(),
        };
        let Bench { pool, rng } = &mut self.bench;
        let change = RoundChange::between(pool.running(), round);
        assert!(pool.begin_round(change, at(self.now), rng));
        self.followed = Some((self.running.clone(), self.excess));
        self.follow_round();
    }

    /// Takes steps of the round that has begun.
    fn follow_round(&mut self) {
        let Bench { pool, rng } = &mut self.bench;
        let progress = pool.follow_round(self.round_steps, at(self.now), rng);
        if let Some(RoundProgress::Whole(_)) = progress {
            let (running, excess) = self.followed.take().unwrap();
            check_truth(pool, &running, excess);
        }
    }

    /// Takes all steps of the round that has begun.
    pub(in crate::pool) fn finish_round(&mut self) {
        while self.followed.is_some() {
            self.follow_round();
        }
    }

    /// The accounts and leases, in words. Since when accounts are as they are, and by how much they differed from a round,
    /// is left out: that tells of times before other accounts were counted, too.
    #[cfg(test)]
    pub(in crate::pool) fn shown(&self) -> String {
        let pool = &self.bench.pool;
        let accounts = pool.accounts().map(|account| AccountView {
            since: START,
            drift: 0,
            ..account
        });
        format!("{:?} {:?}", accounts.collect::<Vec<_>>(), pool.leases())
    }

    fn read_histories(&mut self, tasks: &[u64], is_whole: bool) {
        let rows = tasks.iter().map(|id| HistoryRow {
            task_id: task(*id),
            task_type: Some("t".into()),
            prompt: Some(prompt(*id)),
            created_ms: None,
            result: None,
        });
        let history = History {
            rows: rows.collect(),
            is_whole,
            has_unreadable: false,
        };
        let now = at(self.now);
        for email in ["Ann@x", "b@x", "c@x"] {
            let name = Name::new(email);
            self.bench.pool.decide_by_history(&name, &history, now, now);
        }
    }

    fn drain(&mut self, email: Email, is_draining: bool) {
        let is_known = self.bench.pool.account(email).is_ok();
        let drained = self
            .bench
            .pool
            .set_draining(email, is_draining, at(self.now));
        assert_eq!(drained.is_ok(), is_known, "the book says {drained:?}");
    }

    pub(in crate::pool) fn happen(&mut self, event: Event) {
        self.pass(1);
        self.follow_list(1);
        self.follow_round();
        self.follow();
        self.act(event);
        self.follow();
    }

    fn act(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Call(call) => self.call(call),
            Event::Leave(nth) => self.leave(nth),
            Event::Bind(nth, id) => {
                let task_id = Some(task(id));
                self.update(nth, Update { ttl: None, task_id });
            }
            Event::Renew(nth, ttl) => {
                let ttl = Some(at(ttl));
                self.update(nth, Update { ttl, task_id: None });
            }
            Event::Release(nth) => self.release(nth),
            Event::Settle {
                nth,
                settlement,
                is_told_twice,
            } => self.settle(nth, settlement, is_told_twice),
            Event::Over(id) => drop(self.bench.pool.job_over(&task(id), now)),
            Event::Untrack(id) => self.bench.pool.job_untracked(&task(id), now),
            Event::Started(id, email) => {
                let name = Name::new(email);
                self.bench.pool.job_started(task(id), &name, now);
            }
            Event::List(entries) => self.list(&entries),
            Event::Round { jobs, cap } => {
                self.running = jobs.into_iter().collect();
                self.round(cap);
            }
            Event::Change(changes) => {
                self.change(changes);
                self.round(None);
            }
            Event::Garble { ids, excess } => {
                self.garbled = ids.into_iter().collect();
                self.excess = excess;
            }
            Event::Submit(nth) => {
                if let Some(lease) = self.recent(nth) {
                    let mark = self.bench.pool.mark_submission(lease.id);
                    assert_eq!(self.bench.pool.mark_submission(lease.id), mark);
                }
            }
            Event::Fault(nth, fault) => {
                if let Some(lease) = self.recent(nth) {
                    self.bench.pool.note_mark_fault(lease.id, fault);
                }
            }
            Event::Mark(id, nth) => {
                let of = |nth| self.recent(nth).map(|lease| lease.id);
                // Without a lease it is a stranger's.
                let of = nth.map(|nth| {
                    of(nth).unwrap_or(LeaseId::random(&mut SmallRng::seed_from_u64(id)))
                });
                match of {
                    Some(lease) => drop(self.marks.insert(id, Mark::of(&self.hash_key, lease))),
                    None => drop(self.marks.remove(&id)),
                }
            }
            Event::Drain(email, is_draining) => self.drain(email, is_draining),
            Event::History { tasks, is_whole } => self.read_histories(&tasks, is_whole),
            Event::Pass(seconds) => self.pass(seconds),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.bench.pool.expire(at(self.now), &mut self.bench.rng);
    }

    /// Takes what waiters were granted, and checks the book.
    fn follow(&mut self) {
        while let Some(Handover { waiter, lease }) = self.bench.pool.next_handover() {
            let place = self.waiting.iter().position(|(id, _)| *id == waiter);
            let (_, lease_id) = self
                .waiting
                .remove(place.expect("only who waits is served"));
            assert_eq!(lease.id, lease_id, "{waiter:?} got another lease");
            self.note_granted(lease);
        }
        self.check();
    }

    fn check(&self) {
        let pool = &self.bench.pool;
        check_parts(pool, |id| {
            self.waiting.iter().any(|(_, lease_id)| *lease_id == id)
                || self.under_way.contains_key(&id)
        });
        assert_eq!(pool.waiters_count(), self.waiting.len());
        check_running(pool);
    }
}

/// Lets the events happen that `data` tells.
///
/// # Panics
/// If an index does not agree with its entries.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let (Ok(is_alone), Ok(ties_picks), Ok(round_steps)) = (
        bytes.ratio(1, 10),
        bytes.arbitrary(),
        round_steps(&mut bytes),
    ) else {
        return;
    };
    let limits = Limits {
        waiters_max: 6,
        reconciles: !is_alone,
        ties_picks,
        ..RECONCILING
    };
    let mut world = World::new(limits, round_steps);
    for event in events(bytes) {
        world.happen(event);
    }
}
