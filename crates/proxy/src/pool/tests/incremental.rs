//! Rounds tell only what changed. So after any events between two rounds, every job that the newest
//! round lists must be counted, or be known as one that the next round has to count.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    rounds::{RECONCILING, at, learned, round_of, task},
    *,
};

const EMAILS: [&str; 3] = ["a@x", "b@x", "c@x"];

#[derive(Clone, Debug)]
enum Event {
    Forward,
    Pick,
    /// A lease ends or is settled, in any way.
    Settle(usize, u8),
    Start(u64, usize),
    End(usize),
    /// The upstream lists a job on another account.
    Move(usize, usize),
    Untrack(usize),
    Over(usize),
    Round,
    /// A round that was sent before now.
    LateRound(u64),
    Pass(u64),
    List(u8),
}

fn any_event() -> impl Strategy<Value = Event> {
    let nth = any::<usize>();
    prop_oneof![
        3 => Just(Event::Forward),
        1 => Just(Event::Pick),
        4 => (nth, 0..6u8).prop_map(|(nth, how)| Event::Settle(nth, how)),
        3 => (0..6u64, 0..3usize).prop_map(|(id, account)| Event::Start(id, account)),
        3 => nth.prop_map(Event::End),
        1 => (nth, 0..3usize).prop_map(|(nth, account)| Event::Move(nth, account)),
        1 => nth.prop_map(Event::Untrack),
        1 => nth.prop_map(Event::Over),
        5 => Just(Event::Round),
        1 => (0..5u64).prop_map(Event::LateRound),
        2 => prop_oneof![3 => 1..100u64, 1 => 3000..9000u64].prop_map(Event::Pass),
        1 => any::<u8>().prop_map(Event::List),
    ]
}

struct World {
    bench: Bench,
    now: u64,
    running: BTreeMap<u64, &'static str>,
    leases: Vec<(LeaseId, u64)>,
    started: u64,
    /// How many steps of a round are taken at once.
    round_steps: usize,
}

impl World {
    fn nth(&self, nth: usize) -> Option<u64> {
        let nth = nth.checked_rem(self.running.len())?;
        self.running.keys().nth(nth).copied()
    }

    fn take(&mut self, ttl: Option<Duration>) {
        let ask = Ask {
            ttl,
            ..self.bench.ask(None, &[])
        };
        let taken = self
            .bench
            .pool
            .pick(&ask, at(self.now), &mut self.bench.rng);
        if let Ok(lease) = taken {
            self.started += 1;
            let job = 100 + self.started;
            self.leases.push((lease.id, job));
            if let Some(email) = EMAILS.iter().find(|email| **email == &*lease.email) {
                self.running.insert(job, email);
            }
        }
    }

    fn settle(&mut self, nth: usize, how: u8) {
        let Some(nth) = nth.checked_rem(self.leases.len()) else {
            return;
        };
        let (id, job) = self.leases.swap_remove(nth);
        let (pool, now) = (&mut self.bench.pool, at(self.now));
        match how {
            0 | 1 => drop(pool.bind(id, task(job), now)),
            2 => pool.mark_uncertain(id, now, now),
            3 => drop(pool.end(id, Cause::Refused, now)),
            // The answer names another job.
            4 => drop(pool.bind(id, task(job / 2), now)),
            _ => drop(pool.release(id, now)),
        }
    }

    fn round(&mut self, ago: u64) {
        let jobs: Vec<_> = self
            .running
            .iter()
            .map(|(id, email)| (*id, *email))
            .collect();
        let round = round_of(self.now.saturating_sub(ago), &jobs);
        let Bench { pool, rng } = &mut self.bench;
        // An earlier one may not be whole yet.
        let change = RoundChange::between(pool.running(), round);
        assert!(pool.begin_round(change, at(self.now), rng));
        self.follow_round();
    }

    fn follow_round(&mut self) {
        let Bench { pool, rng } = &mut self.bench;
        pool.follow_round(self.round_steps, at(self.now), rng);
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Forward => self.take(None),
            Event::Pick => self.take(Some(TTL)),
            Event::Settle(nth, how) => self.settle(nth, how),
            Event::Start(id, account) => {
                self.running.entry(id).or_insert(EMAILS[account]);
            }
            Event::End(nth) => {
                self.nth(nth).and_then(|id| self.running.remove(&id));
            }
            Event::Move(nth, account) => {
                if let Some(id) = self.nth(nth) {
                    self.running.insert(id, EMAILS[account]);
                }
            }
            Event::Untrack(nth) => {
                if let Some(id) = self.nth(nth) {
                    self.bench.pool.job_untracked(&task(id), now);
                }
            }
            Event::Over(nth) => {
                if let Some(id) = self.nth(nth) {
                    self.bench.pool.job_over(&task(id), now);
                }
            }
            Event::Round => self.round(0),
            Event::LateRound(ago) => self.round(ago),
            Event::Pass(seconds) => {
                self.now += seconds;
                self.bench.pool.expire(at(self.now), &mut self.bench.rng);
            }
            Event::List(bits) => {
                let listed = EMAILS.iter().enumerate();
                let listed = listed.filter(|(idx, _)| bits & (1 << idx) != 0);
                let listed: Vec<_> = listed.map(|(_, email)| (*email, 3)).collect();
                self.bench.apply(&listed, now);
            }
        }
        self.now += 1;
    }

    fn check(&self) {
        let pool = &self.bench.pool;
        for task_id in pool.shown_jobs().into_keys() {
            let is_counted = pool.leases.of_task(&task_id).is_some()
                || pool.leases.stand_in(&task_id).is_some()
                || pool.foreign_jobs.contains(&task_id)
                || pool.foreign_jobs.is_uncounted(&task_id);
            assert!(is_counted, "{task_id:?} is listed, and nobody counts it");
        }
    }

    /// After a round that was sent now, each account of the list has as many slots in use as jobs run.
    fn check_truth(&mut self) {
        self.now += 1;
        self.round(0);
        self.check();
        for email in EMAILS {
            let truth = self.running.values().filter(|on| **on == email).count();
            if let Ok(account) = self.bench.pool.account(email) {
                assert!(
                    account.in_flight() as usize >= truth,
                    "{truth}: {account:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_listed_job_is_counted_whatever_happens_between_rounds(
        events in prop::collection::vec(any_event(), 1..80),
        round_steps in any_round_steps(),
    ) {
        let mut world = World {
            bench: learned(RECONCILING, &[("a@x", 3), ("b@x", 3)]),
            now: 1,
            running: BTreeMap::new(),
            leases: Vec::new(),
            started: 0,
            round_steps,
        };
        for event in events {
            world.happen(event);
            world.check();
            world.follow_round();
            world.check();
        }
        world.round_steps = usize::MAX;
        world.check_truth();
        // After everything has ended, no slot is in use.
        world.running.clear();
        for (id, _) in std::mem::take(&mut world.leases) {
            world.bench.pool.end(id, Cause::Refused, at(world.now));
        }
        world.bench.apply(&EMAILS.map(|email| (email, 3)), at(world.now));
        for _ in 0..8 {
            world.now += 2000;
            world.bench.pool.expire(at(world.now), &mut world.bench.rng);
            world.round(0);
        }
        for account in world.bench.pool.accounts() {
            prop_assert_eq!(account.in_flight(), 0, "{:?}", account);
        }
    }
}
