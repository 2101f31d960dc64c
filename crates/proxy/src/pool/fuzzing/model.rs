//! Random sequences of operations against a naive model of the book.
//!
//! The model holds plain maps and looks everything up by walking them. Where the pool chooses at
//! random, the model checks that the choice was allowed; everything else it predicts. A failure
//! prints the shortest sequence found and its seed.

mod op;

use std::{collections::BTreeMap, num::NonZeroU32};

pub(in crate::pool) use self::op::Op;
use super::*;

pub(in crate::pool) const EMAILS: [&str; 4] = ["a@x", "b@x", "c@x", "d@x"];

#[derive(Clone, Debug, Default)]
struct Entry {
    cap: u32,
    is_listed: bool,
    is_broken: bool,
    is_draining: bool,
}

#[derive(Clone, Debug)]
struct Held {
    email: String,
    ends_at: Duration,
    task: Option<u8>,
}

#[derive(Clone, Debug)]
struct Wish {
    lease_id: LeaseId,
    only: Option<&'static str>,
    exclude: Vec<&'static str>,
    ttl: Duration,
    max_jobs: Option<u32>,
}

impl Wish {
    fn allows(&self, email: &str) -> bool {
        self.only
            .map_or(!self.exclude.contains(&email), |only| only == email)
    }
}

#[derive(Default)]
struct Model {
    has_list: bool,
    accounts: BTreeMap<&'static str, Entry>,
    leases: BTreeMap<LeaseId, Held>,
    queue: Vec<(WaiterId, Wish)>,
}

impl Model {
    /// Whether an account could be picked if all its slots were free.
    fn is_usable(&self, email: &str) -> bool {
        let entry = self.accounts.get(email).cloned().unwrap_or_default();
        entry.is_listed && !entry.is_broken && !entry.is_draining && entry.cap > 0
    }

    fn held(&self, email: &str) -> u32 {
        u32::try_from(
            self.leases
                .values()
                .filter(|held| held.email == email)
                .count(),
        )
        .unwrap()
    }

    fn is_eligible(&self, email: &str) -> bool {
        self.accounts.get(email).is_some_and(|entry| {
            entry.is_listed
                && !entry.is_broken
                && !entry.is_draining
                && self.held(email) < entry.cap
        })
    }

    fn can_be_served(&self, wish: &Wish) -> bool {
        EMAILS
            .iter()
            .any(|email| self.suits(wish, email) && self.is_eligible(email))
    }

    fn suits(&self, wish: &Wish, email: &str) -> bool {
        wish.allows(email) && wish.max_jobs.is_none_or(|max| self.held(email) < max)
    }

    fn grant(&mut self, lease: &LeaseView, ttl: Duration, now: Duration) {
        let email = lease.email.to_string();
        assert!(
            self.is_eligible(&email),
            "granted a slot of {email}, which has none to give"
        );
        self.leases.insert(
            lease.id,
            Held {
                email,
                ends_at: now + ttl,
                task: None,
            },
        );
    }

    fn expire(&mut self, now: Duration) {
        self.leases.retain(|_, held| held.ends_at > now);
    }

    fn nth_lease(&self, n: usize) -> Option<LeaseId> {
        self.leases
            .keys()
            .nth(n.checked_rem(self.leases.len())?)
            .copied()
    }

    /// Takes over the slots that the pool handed to waiters, and checks that it passed no waiter over.
    fn follow_handovers(&mut self, pool: &mut Pool, now: Duration) {
        while let Some(Handover { waiter: id, lease }) = pool.next_handover() {
            let place = self
                .queue
                .iter()
                .position(|(waiter, _)| *waiter == id)
                .unwrap();
            let passed_over = self.queue[..place]
                .iter()
                .find(|(_, earlier)| self.can_be_served(earlier));
            assert!(
                passed_over.is_none(),
                "{passed_over:?} waited longer than {id:?}"
            );
            let (_, wish) = self.queue.remove(place);
            assert!(self.suits(&wish, &lease.email));
            assert_eq!(wish.lease_id, lease.id);
            self.grant(&lease, wish.ttl, now);
        }
        let idle = self.queue.iter().find(|(_, wish)| self.can_be_served(wish));
        assert!(idle.is_none(), "{idle:?} waits beside a free slot");
    }

    fn check(&self, pool: &Pool) {
        let leases = pool.leases();
        assert_eq!(leases.len(), self.leases.len());
        for lease in leases {
            let held = &self.leases[&lease.id];
            assert_eq!(*lease.email, *held.email);
            let task = held.task.map(|task| task.to_string());
            assert_eq!(lease.task_id.as_ref().map(TaskId::as_str), task.as_deref());
        }
        for email in EMAILS {
            let held = pool.account(email).map_or(0, |account| account.held);
            assert_eq!(held, self.held(email), "slots in use of {email}");
        }
        assert_eq!(pool.waiters_count(), self.queue.len());
        assert_eq!(
            pool.next_deadline(),
            self.leases.values().map(|held| held.ends_at).min()
        );
    }
}

pub(in crate::pool) struct Run {
    pool: Pool,
    model: Model,
    rng: SmallRng,
    now: Duration,
}

impl Run {
    /// A pool that knows nothing yet.
    pub(in crate::pool) fn new(seed: u64) -> Self {
        let Bench { pool, rng } = Bench::empty(LIMITS, seed);
        Self {
            pool,
            model: Model::default(),
            rng,
            now: START,
        }
    }

    /// Lets all operations happen. In the end every slot comes back.
    pub(in crate::pool) fn all(mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.step(op);
        }
        let leases: Vec<_> = self.model.leases.keys().copied().collect();
        for (waiter, _) in self.model.queue.drain(..) {
            self.pool.leave(waiter);
        }
        for id in leases {
            self.pool.end(id, Cause::Released, self.now);
        }
        let held: u32 = self.pool.accounts().map(|account| account.held).sum();
        assert_eq!(held, 0, "every slot is back");
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Pick {
                only,
                exclude,
                ttl,
                waits,
                max_jobs,
            } => self.pick(only, &exclude, Duration::from_secs(ttl), waits, max_jobs),
            Op::Release(n) => {
                if let Some(id) = self.model.nth_lease(n) {
                    self.model.leases.remove(&id);
                    assert!(self.pool.end(id, Cause::Released, self.now));
                    assert!(!self.pool.end(id, Cause::Released, self.now));
                }
            }
            Op::Leave(n) => {
                if let Some(place) = n.checked_rem(self.model.queue.len()) {
                    let (waiter, _) = self.model.queue.remove(place);
                    assert!(self.pool.leave(waiter));
                    assert!(!self.pool.leave(waiter));
                }
            }
            Op::Bind(n, task) => self.bind(n, task),
            Op::Renew(n, ttl) => self.renew(n, Duration::from_secs(ttl)),
            Op::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.model.expire(self.now);
                self.pool.expire(self.now, &mut self.rng);
            }
            Op::Apply(entries) => self.apply(&entries),
            Op::Drain(account, is_draining) => {
                let known = self
                    .pool
                    .set_draining(EMAILS[account], is_draining, self.now);
                if known.is_ok() {
                    self.model
                        .accounts
                        .entry(EMAILS[account])
                        .or_default()
                        .is_draining = is_draining;
                }
            }
        }
        self.model.follow_handovers(&mut self.pool, self.now);
        self.model.check(&self.pool);
    }

    fn pick(
        &mut self,
        only: Option<usize>,
        exclude: &[usize],
        ttl: Duration,
        waits: bool,
        max_jobs: Option<u32>,
    ) {
        let only = only.map(|account| EMAILS[account]);
        let exclude: Vec<_> = match only {
            Some(_) => Vec::new(),
            None => exclude.iter().map(|account| EMAILS[*account]).collect(),
        };
        let owned: Vec<_> = exclude.iter().map(|email| (*email).to_owned()).collect();
        let is_listed = |email: &str| {
            self.model
                .accounts
                .get(email)
                .is_some_and(|entry| entry.is_listed)
        };
        let Ok(constraint) = self.pool.constraint(only, &owned) else {
            assert!(!is_listed(only.unwrap()));
            return;
        };
        let lease_id = LeaseId::random(&mut self.rng);
        let ask = Ask {
            lease_id,
            ttl: Some(ttl),
            constraint,
            caller: Caller::default(),
            operation: None,
            max_jobs: max_jobs.and_then(NonZeroU32::new),
            place: None,
            wait: Duration::ZERO,
            body: None,
            mark: None,
        };
        let wish = Wish {
            lease_id,
            only,
            exclude,
            ttl,
            max_jobs,
        };
        let can_be_served = self.model.can_be_served(&wish);
        let answer = if waits {
            self.pool.pick_or_wait(ask, self.now, &mut self.rng)
        } else {
            self.pool
                .pick(&ask, self.now, &mut self.rng)
                .map(Admission::Granted)
        };
        match answer {
            Ok(Admission::Granted(lease)) => {
                assert!(self.model.suits(&wish, &lease.email));
                self.model.grant(&lease, ttl, self.now);
            }
            Ok(Admission::Queued(id)) => {
                assert!(!can_be_served, "queued beside a free slot");
                self.model.queue.push((id, wish));
            }
            Err(refusal) => {
                assert!(!can_be_served, "{refusal:?} beside a free slot");
                let is_outage = match refusal {
                    Refusal::Learning => !self.model.has_list,
                    Refusal::NoAccounts => !EMAILS.iter().any(|email| is_listed(email)),
                    Refusal::NoUsableAccount => !EMAILS
                        .iter()
                        .any(|email| wish.allows(email) && self.model.is_usable(email)),
                    Refusal::Saturated { .. } => !waits,
                    // Picks are never in doubt, and the upstream does not refuse them.
                    Refusal::Unverified { .. } | Refusal::CoolingDown { .. } => false,
                    Refusal::QueueFull { .. } => self.model.queue.len() == LIMITS.waiters_max,
                };
                assert!(is_outage, "{refusal:?}");
            }
        }
    }

    fn bind(&mut self, n: usize, task: u8) {
        let Some(id) = self.model.nth_lease(n) else {
            return;
        };
        let update = Update {
            task_id: Some(task.to_string().parse().unwrap()),
            ttl: None,
        };
        let holder = self
            .model
            .leases
            .iter()
            .find(|(_, held)| held.task == Some(task))
            .map(|(id, _)| *id);
        let answer = self.pool.update(id, update, self.now);
        if holder.is_some_and(|holder| holder != id) {
            assert_eq!(answer, Err(LeaseError::TaskTaken));
            return;
        }
        answer.unwrap();
        let held = self.model.leases.get_mut(&id).unwrap();
        if held.task.replace(task) != Some(task) {
            held.ends_at = self.now + LIMITS.job_ttl;
        }
    }

    fn renew(&mut self, n: usize, ttl: Duration) {
        let Some(id) = self.model.nth_lease(n) else {
            return;
        };
        self.pool
            .update(
                id,
                Update {
                    ttl: Some(ttl),
                    task_id: None,
                },
                self.now,
            )
            .unwrap();
        let held = self.model.leases.get_mut(&id).unwrap();
        if held.task.is_none() {
            held.ends_at = self.now + ttl;
        }
    }

    fn apply(&mut self, entries: &[Option<(u32, bool)>]) {
        self.model.has_list = true;
        let mut accounts = Vec::new();
        for (email, entry) in EMAILS.into_iter().zip(entries) {
            let known = self.model.accounts.entry(email).or_default();
            known.is_listed = entry.is_some();
            if let Some((cap, is_broken)) = *entry {
                (known.cap, known.is_broken) = (cap, is_broken);
                let error = is_broken.then(|| "broken".into());
                accounts.push(Account::new(email, cap).with_details(error, None));
            }
        }
        let list = Snapshot::from_iter(accounts);
        self.pool.apply(&list, self.now, &mut self.rng);
    }
}

/// Lets the operations happen that `data` tells.
///
/// # Panics
/// If the pool does not agree with the model.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok(seed) = bytes.arbitrary::<u8>() else {
        return;
    };
    Run::new(seed.into()).all(events(bytes));
}
