//! A list that takes the place of another one, entry by entry.

use proptest::prelude::*;

use super::*;

/// Two of them differ in case only, and are two accounts.
const EMAILS: [&str; 6] = ["Ann@x", "ann@x", "b@x", "c@x", "d@x", "e@x"];

type Entry = (&'static str, u32, bool);

fn any_list() -> impl Strategy<Value = Vec<Entry>> {
    let entries = prop::sample::subsequence(EMAILS.to_vec(), 0..=EMAILS.len()).prop_shuffle();
    let details = prop::collection::vec((0..4u32, prop::bool::weighted(0.2)), EMAILS.len());
    (entries, details).prop_map(|(emails, details)| {
        let entries = emails.into_iter().zip(details);
        entries
            .map(|(email, (max_jobs, has_error))| (email, max_jobs, has_error))
            .collect()
    })
}

fn snapshot(list: &[Entry]) -> Snapshot {
    let accounts = list.iter().map(|(email, max_jobs, has_error)| {
        let error = has_error.then(|| "no".into());
        Account::new(email, *max_jobs).with_details(error, None)
    });
    accounts.collect()
}

/// Whether a list allows what was granted.
fn allows(list: &[Entry], lease: &LeaseView) -> bool {
    list.iter().any(|(email, max_jobs, has_error)| {
        *email == &*lease.email && !has_error && lease.in_flight <= *max_jobs
    })
}

/// What happens between two entries.
#[derive(Clone, Debug)]
enum Between {
    Pick(Option<&'static str>),
    Wait,
    Release(usize),
}

fn any_between() -> impl Strategy<Value = Vec<Between>> {
    let only = prop::option::weighted(0.7, prop::sample::select(&EMAILS[..]));
    let between = prop_oneof![
        4 => only.prop_map(Between::Pick),
        1 => Just(Between::Wait),
        2 => any::<usize>().prop_map(Between::Release),
    ];
    prop::collection::vec(between, 0..5)
}

/// A pool between two lists, and what it granted.
struct Swap {
    bench: Bench,
    granted: Vec<LeaseView>,
    released_count: usize,
}

impl Swap {
    /// Half of the slots of the old list are held.
    fn begin(old: &[Entry], new: &[Entry]) -> Self {
        let mut bench = Bench::new(&[]);
        bench.pool.limits.waiters_max = 100;
        bench.pool.apply(&snapshot(old), START, &mut bench.rng);
        let mut granted = bench.fill();
        let half = granted.len() / 2;
        for lease in granted.drain(half..) {
            bench.release(&lease);
        }
        let change = ListChange::between(bench.pool.list(), &snapshot(new));
        assert!(bench.pool.begin_list(change, START, &mut bench.rng));
        Self {
            bench,
            released_count: 0,
            granted,
        }
    }

    fn follow(&mut self) -> bool {
        let Bench { pool, rng } = &mut self.bench;
        let has_more = pool.follow_list(1, START, rng);
        self.take_handovers();
        has_more
    }

    fn take_handovers(&mut self) {
        let handovers = std::iter::from_fn(|| self.bench.pool.next_handover());
        self.granted.extend(handovers.map(|it| it.lease));
    }

    fn act(&mut self, between: &Between) {
        match between {
            Between::Pick(only) => {
                if self.bench.pool.constraint(*only, &[]).is_ok() {
                    let ask = self.bench.ask(*only, &[]);
                    let picked = self.bench.pool.pick(&ask, START, &mut self.bench.rng);
                    self.granted.extend(picked);
                }
            }
            Between::Wait => {
                let ask = self.bench.ask(None, &[]);
                let admitted = self
                    .bench
                    .pool
                    .pick_or_wait(ask, START, &mut self.bench.rng);
                if let Ok(Admission::Granted(lease)) = admitted {
                    self.granted.push(lease);
                }
            }
            Between::Release(nth) => {
                if let Some(nth) = nth.checked_rem(self.granted.len()) {
                    let lease = self.granted[nth].clone();
                    self.released_count += usize::from(self.bench.release(&lease));
                }
            }
        }
        self.take_handovers();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn after_a_grant_of_the_new_list_alone_none_is_of_the_old_one_alone(
        old in any_list(),
        new in any_list(),
        between in prop::collection::vec(any_between(), 0..20),
    ) {
        let mut swap = Swap::begin(&old, &new);
        let before = swap.granted.len();
        let mut between = between.iter();
        loop {
            for action in between.next().into_iter().flatten() {
                swap.act(action);
            }
            swap.bench.pool.accounts.check();
            if !swap.follow() {
                break;
            }
        }
        let mut is_new = false;
        for lease in &swap.granted[before..] {
            let (by_old, by_new) = (allows(&old, lease), allows(&new, lease));
            prop_assert!(by_old || by_new, "no list allows {lease:?}");
            prop_assert!(by_new || !is_new, "the old list alone allows {lease:?}");
            is_new |= !by_old;
        }
        // The new list is in force, and only that.
        for lease in swap.bench.fill() {
            prop_assert!(allows(&new, &lease), "{lease:?}");
        }
        let shown = swap.bench.pool.accounts();
        let listed = shown.filter(|account| account.state != AccountState::Removed);
        let listed: Vec<_> = listed.map(|account| account.email.to_string()).collect();
        let wanted: Vec<_> = new.iter().map(|(email, ..)| (*email).to_owned()).collect();
        prop_assert_eq!(listed, wanted);
    }

    #[test]
    fn nobody_is_refused_for_entries_that_are_still_to_come(
        old in any_list(),
        new in any_list(),
        steps in 0..12usize,
    ) {
        let mut swap = Swap::begin(&old, &new);
        for _ in 0..steps {
            swap.follow();
        }
        let Bench { pool, rng } = &mut swap.bench;
        let pick = |pool: &mut Pool, rng: &mut SmallRng| {
            let ask = Ask {
                lease_id: LeaseId::random(rng),
                ttl: Some(TTL),
                constraint: pool.constraint(None, &[]).unwrap(),
                caller: Caller::default(),
                operation: None,
                max_jobs: None,
                place: None,
                wait: Duration::ZERO,
                body: None,
                mark: None,
            };
            pool.pick(&ask, START, rng)
        };
        let picked = pool.ask_whole_list(START, rng, pick);
        let is_refused = picked.is_err();
        pool.follow_list(usize::MAX, START, rng);
        if is_refused {
            prop_assert!(pick(pool, rng).is_err(), "the new list has a free slot");
        }
    }

    #[test]
    fn an_account_of_the_new_list_is_found_while_it_is_still_to_come(
        old in any_list(),
        new in any_list(),
        steps in 0..12usize,
    ) {
        for (email, ..) in &new {
            let mut swap = Swap::begin(&old, &new);
            for _ in 0..steps {
                swap.follow();
            }
            let Bench { pool, rng } = &mut swap.bench;
            let found = pool.ask_whole_list(START, rng, |pool, _| pool.account(email));
            prop_assert!(found.is_ok(), "{email} is not found");
        }
    }
}

#[test]
fn a_list_that_has_begun_is_in_force_before_the_next_one_begins() {
    let account = |email: &&str| Account::new(email, 1);
    let list = |emails: &[&str]| emails.iter().map(account).collect::<Snapshot>();
    let mut bench = Bench::new(&[("a@x", 1)]);
    let Bench { pool, rng } = &mut bench;
    let one = ListChange::between(pool.list(), &list(&["b@x", "c@x"]));
    let other = ListChange::between(pool.list(), &list(&["d@x"]));
    assert!(pool.begin_list(one, START, rng));
    assert!(pool.follow_list(1, START, rng));
    assert!(
        !pool.begin_list(other, START, rng),
        "it was made against another list"
    );
    let emails: Vec<_> = pool.accounts().map(|it| it.email.to_string()).collect();
    assert_eq!(emails, ["b@x", "c@x"]);
}

#[test]
fn the_first_list_is_learnt_as_a_whole() {
    let mut bench = Bench {
        pool: Pool::new(LIMITS),
        rng: SmallRng::seed_from_u64(7),
    };
    let Bench { pool, rng } = &mut bench;
    let change = ListChange::between(None, &snapshot(&[("b@x", 1, false), ("c@x", 1, false)]));
    assert!(pool.begin_list(change, START, rng));
    assert!(pool.follow_list(1, START, rng));
    assert!(pool.is_learning());
    let asked = pool.ask_whole_list(START, rng, |pool, _| {
        pool.unavailable_reason().map_or(Ok(()), Err)
    });
    assert_eq!(asked, Err(Refusal::Learning), "nor is it waited for");
    assert!(!pool.follow_list(1, START, rng));
    assert!(!pool.is_learning());
}
