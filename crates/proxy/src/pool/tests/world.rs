//! The book beside a simulated upstream, under events at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

/// An event in the world around the book.
#[derive(Clone, Debug)]
enum Event {
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
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Submit),
        4 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.3)).prop_map(
            |(nth, is_accepted, is_lost)| Event::Answer { nth, is_accepted, is_lost }
        ),
        2 => any::<bool>().prop_map(|submits| Event::Pick { submits }),
        1 => any::<usize>().prop_map(Event::Bind),
        1 => any::<usize>().prop_map(Event::Release),
        1 => any::<bool>().prop_map(Event::Foreign),
        3 => any::<usize>().prop_map(Event::End),
        1 => any::<usize>().prop_map(Event::Garble),
        4 => Just(Event::Round),
        2 => (1..90u64).prop_map(Event::Pass),
    ]
}

/// The true state of the upstream, and the book beside it.
struct World {
    bench: Bench,
    now: u64,
    next_task: u64,
    running: BTreeMap<u64, String>,
    garbled: BTreeSet<u64>,
    under_way: Vec<(LeaseId, String, Duration)>,
    picked: Vec<(LeaseId, Option<u64>)>,
}

impl World {
    fn start_job(&mut self, email: &str) -> u64 {
        self.next_task += 1;
        self.running.insert(self.next_task, email.to_owned());
        self.next_task
    }

    pub(super) fn take(&mut self, ttl: Option<Duration>) -> Option<(LeaseId, String)> {
        let ask = Ask {
            ttl,
            ..self.bench.ask(None, &[])
        };
        let lease = self
            .bench
            .pool
            .pick(&ask, at(self.now), &mut self.bench.rng)
            .ok()?;
        Some((lease.id, lease.email.to_string()))
    }

    /// A round that tells the truth, and the reaction of the sidecar.
    fn round(&mut self) {
        self.now += 1;
        let running = self.running.iter();
        let (garbled, read): (Vec<_>, Vec<_>) =
            running.partition(|(id, _)| self.garbled.contains(id));
        let jobs: Vec<_> = read
            .into_iter()
            .map(|(id, email)| (*id, email.as_str()))
            .collect();
        let unreadable: Vec<_> = garbled.iter().map(|(_, email)| email.as_str()).collect();
        let findings = self.bench.unreadable_round(self.now, &jobs, &unreadable);
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
            Event::Pass(seconds) => {
                self.now += seconds;
                self.bench.pool.expire(at(self.now), &mut self.bench.rng);
            }
        }
        self.now += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_book_never_counts_less_than_runs_and_forgets_no_slot(
        events in prop::collection::vec(any_event(), 1..100),
    ) {
        let mut world = World {
            bench: learned(RECONCILING, &[("a@x", 3), ("b@x", 2)]),
            now: 1,
            next_task: 0,
            running: BTreeMap::new(),
            garbled: BTreeSet::new(),
            under_way: Vec::new(),
            picked: Vec::new(),
        };
        for event in events {
            world.happen(event);
        }
        // In the end all submissions are answered, all jobs end, and rounds continue.
        for (id, ..) in std::mem::take(&mut world.under_way) {
            world.bench.pool.end(id, Cause::Refused, at(world.now));
        }
        world.running.clear();
        for _ in 0..8 {
            world.now += 60;
            world.round();
        }
        prop_assert!(world.bench.pool.leases().is_empty(), "{:?}", world.bench.pool.leases());
        for account in world.bench.pool.accounts() {
            prop_assert_eq!(account.in_flight(), 0);
        }
    }
}
