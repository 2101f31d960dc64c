mod consistency;
mod contested;
mod determinism;
mod forecast;
mod incremental;
mod laws;
mod matching;
mod model;
mod names;
mod resolutions;
mod rounds;
mod slots;
mod standing;
mod uniformity;
mod world;

use std::time::Duration;

use accounts_fetcher::{Account, Snapshot};
use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use slots::Slots;

const LIMITS: Limits = Limits {
    waiters_max: 3,
    job_ttl: Duration::from_secs(3900),
    reconciles: false,
    settle: Duration::from_secs(120),
    ties_picks: true,
};
const TTL: Duration = Duration::from_secs(60);
const START: Duration = Duration::ZERO;

/// A pool with its randomness, and short words for what tests do with it.
struct Bench {
    pool: Pool,
    rng: SmallRng,
}

/// Accounts as tests name them.
impl Pool {
    fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        self.account_named(&Name::new(email))
    }

    fn set_draining(
        &mut self,
        email: &str,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        self.set_draining_named(&Name::new(email), is_draining, now)
    }
}

impl Bench {
    fn new(accounts: &[(&str, u32)]) -> Self {
        let mut bench = Self {
            pool: Pool::new(LIMITS),
            rng: SmallRng::seed_from_u64(7),
        };
        bench.apply(accounts, START);
        bench
    }

    fn apply(&mut self, accounts: &[(&str, u32)], now: Duration) {
        let accounts = accounts
            .iter()
            .map(|(email, max)| Account::new(email, *max))
            .collect();
        self.pool.apply(&Snapshot { accounts }, now, &mut self.rng);
    }

    fn ask(&mut self, only: Option<&str>, exclude: &[&str]) -> Ask {
        let exclude: Vec<_> = exclude.iter().map(|email| (*email).to_owned()).collect();
        let constraint = self.pool.constraint(only, &exclude).unwrap();
        Ask {
            lease_id: LeaseId::random(&mut self.rng),
            ttl: Some(TTL),
            constraint,
            operation: None,
            max_jobs: None,
        }
    }

    fn pick(&mut self) -> Result<LeaseView, Refusal> {
        self.pick_of(None, &[])
    }

    fn pick_of(&mut self, only: Option<&str>, exclude: &[&str]) -> Result<LeaseView, Refusal> {
        let ask = self.ask(only, exclude);
        self.pool.pick(&ask, START, &mut self.rng)
    }

    fn wait_for(&mut self, only: Option<&str>, exclude: &[&str]) -> WaiterId {
        let ask = self.ask(only, exclude);
        match self.pool.pick_or_wait(ask, START, &mut self.rng).unwrap() {
            Admission::Queued(id) => id,
            Admission::Granted(lease) => panic!("granted {lease:?} instead of queued"),
        }
    }

    fn fill(&mut self) -> Vec<LeaseView> {
        std::iter::from_fn(|| self.pick().ok()).collect()
    }

    fn release(&mut self, lease: &LeaseView) -> bool {
        self.pool.end(lease.id, Cause::Released, START)
    }

    fn handed_over(&mut self) -> Vec<(WaiterId, String)> {
        std::iter::from_fn(|| self.pool.next_handover())
            .map(|handover| (handover.waiter, handover.lease.email.to_string()))
            .collect()
    }

    fn held(&self, email: &str) -> u32 {
        self.pool.account(email).unwrap().held
    }
}

const SATURATED: Refusal = Refusal::Saturated {
    free_in: Some(TTL),
    position: 1,
};

#[test]
fn leases_exactly_the_slots_there_are() {
    let mut bench = Bench::new(&[("a@x", 2), ("b@x", 3), ("c@x", 5)]);
    let leases = bench.fill();
    let count = |email| leases.iter().filter(|lease| &*lease.email == email).count();
    assert_eq!((count("a@x"), count("b@x"), count("c@x")), (2, 3, 5));
    assert_eq!(bench.pick(), Err(SATURATED));

    for lease in &leases {
        assert!(bench.release(lease));
        assert_eq!(
            bench.pick().unwrap().email,
            lease.email,
            "only its account has a slot"
        );
        assert_eq!(bench.pick(), Err(SATURATED));
    }
}

#[test]
fn a_lease_ends_once() {
    let mut bench = Bench::new(&[("a@x", 2)]);
    let lease = bench.pick().unwrap();
    assert!(bench.release(&lease));
    assert!(!bench.release(&lease));
    assert_eq!(bench.held("a@x"), 0);
    assert_eq!(bench.pool.ended_counts()[Cause::Released as usize], 1);
}

#[test]
fn refuses_in_words_that_tell_why() {
    let mut pool = Pool::new(LIMITS);
    let mut rng = SmallRng::seed_from_u64(1);
    let ask = Ask {
        lease_id: LeaseId::random(&mut rng),
        ttl: Some(TTL),
        constraint: Constraint::AnyBut(Excluded::default()),
        operation: None,
        max_jobs: None,
    };
    assert_eq!(pool.pick(&ask, START, &mut rng), Err(Refusal::Learning));
    pool.apply(
        &Snapshot {
            accounts: Vec::new(),
        },
        START,
        &mut rng,
    );
    assert_eq!(pool.pick(&ask, START, &mut rng), Err(Refusal::NoAccounts));

    let mut broken = Account::new("a@x", 1);
    broken.error = Some("Failed to refresh session".into());
    pool.apply(
        &Snapshot {
            accounts: vec![broken],
        },
        START,
        &mut rng,
    );
    assert_eq!(
        pool.pick(&ask, START, &mut rng),
        Err(Refusal::NoUsableAccount)
    );

    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 0)]);
    assert_eq!(
        bench.pick_of(Some("b@x"), &[]),
        Err(Refusal::NoUsableAccount),
        "no wait brings a slot of an account that has none"
    );
    assert_eq!(
        bench.pick_of(None, &["a@x", "b@x", "a@x"]),
        Err(Refusal::NoUsableAccount)
    );
    bench.pool.set_draining("a@x", true, START).unwrap();
    assert_eq!(bench.pick_of(None, &["b@x"]), Err(Refusal::NoUsableAccount));
    assert_eq!(
        bench.pool.constraint(Some("nobody@x"), &[]),
        Err(UnknownAccount)
    );
}

#[test]
fn finds_accounts_exactly_then_ignoring_case_if_one_matches() {
    let bench = Bench::new(&[("Ann@x", 1), ("ann@x", 1), ("Bob@X", 1)]);
    let email = |name| {
        bench
            .pool
            .account(name)
            .map(|account| account.email.to_string())
    };
    assert_eq!(email("ann@x"), Ok("ann@x".to_owned()));
    assert_eq!(email("Ann@x"), Ok("Ann@x".to_owned()));
    assert_eq!(email("ANN@x"), Err(UnknownAccount), "two accounts match");
    assert_eq!(email("bob@x"), Ok("Bob@X".to_owned()));
}

#[test]
fn another_spelling_of_an_account_brings_no_new_slots() {
    let mut bench = Bench::new(&[("Ann@X.com", 2)]);
    bench.fill();
    bench.apply(&[("Ann@x.com", 2)], START);
    let account = bench.pool.account("Ann@x.com").unwrap();
    assert_eq!((account.state, account.held), (AccountState::Full, 2));
    assert_eq!(bench.pick(), Err(SATURATED));
    assert_eq!(bench.pool.accounts().count(), 1);
    assert!(bench.pool.account("ann@X.COM").is_ok());
}

#[test]
fn excluded_accounts_are_never_drawn() {
    let mut bench = Bench::new(&[("a@x", 50), ("b@x", 1), ("c@x", 50)]);
    let lease = bench.pick_of(None, &["A@x", "c@x", "stranger@x"]).unwrap();
    assert_eq!(&*lease.email, "b@x");
    assert_eq!(bench.pick_of(None, &["a@x", "c@x"]), Err(SATURATED));
    let mut bench = Bench::new(&[("Ann@x", 1), ("ann@x", 1)]);
    assert_eq!(
        bench.pick_of(None, &["ANN@x"]),
        Err(Refusal::NoUsableAccount),
        "a name that may mean two excludes both"
    );
}

#[test]
fn an_unbound_lease_expires_once_and_a_bound_one_lasts_as_long_as_a_job_may() {
    let mut bench = Bench::new(&[("a@x", 2)]);
    let unbound = bench.pick().unwrap();
    let bound = bench.pick().unwrap();
    let update = Update {
        task_id: Some("9007199254740993".parse().unwrap()),
        ttl: None,
    };
    let bound = bench.pool.update(bound.id, update, START).unwrap();
    assert_eq!(bound.expires_at, Some(LIMITS.job_ttl));
    assert_eq!(
        unbound.expires_at,
        Some(TTL - Duration::from_secs(5)),
        "told a little early"
    );

    bench
        .pool
        .expire(TTL - Duration::from_nanos(1), &mut bench.rng);
    assert_eq!(bench.held("a@x"), 2);
    bench.pool.expire(TTL, &mut bench.rng);
    assert_eq!(bench.held("a@x"), 1);
    assert_eq!(
        bench.pool.update(
            unbound.id,
            Update {
                ttl: Some(TTL),
                task_id: None
            },
            TTL
        ),
        Err(LeaseError::Unknown)
    );
    bench.pool.expire(LIMITS.job_ttl, &mut bench.rng);
    assert_eq!(bench.held("a@x"), 0);
    assert_eq!(bench.pool.ended_counts(), [0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(bench.pool.next_deadline(), None);
}

#[test]
fn renewing_moves_the_end_and_binding_wins_over_it() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    let lease = bench.pick().unwrap();
    let now = Duration::from_secs(30);
    let ttl = Duration::from_secs(10);
    let renewed = bench.pool.update(
        lease.id,
        Update {
            ttl: Some(ttl),
            task_id: None,
        },
        now,
    );
    assert_eq!(
        renewed.unwrap().expires_at,
        Some(Duration::from_secs(39)),
        "a tenth early at most"
    );
    assert_eq!(bench.pool.next_deadline(), Some(Duration::from_secs(40)));

    let both = Update {
        ttl: Some(ttl),
        task_id: Some("-5".parse().unwrap()),
    };
    assert_eq!(
        bench.pool.update(lease.id, both, now).unwrap().expires_at,
        Some(now + LIMITS.job_ttl)
    );
    let shorter = Update {
        ttl: Some(ttl),
        task_id: None,
    };
    assert_eq!(
        bench
            .pool
            .update(lease.id, shorter, now)
            .unwrap()
            .expires_at,
        Some(now + LIMITS.job_ttl),
        "a bound lease keeps its end"
    );
}

#[test]
fn a_job_takes_one_slot() {
    let mut bench = Bench::new(&[("a@x", 2)]);
    let (first, second) = (bench.pick().unwrap(), bench.pick().unwrap());
    let to = |digits: &str| Update {
        task_id: Some(digits.parse().unwrap()),
        ttl: None,
    };
    bench.pool.update(first.id, to("1"), START).unwrap();
    assert_eq!(
        bench.pool.update(second.id, to("1"), START),
        Err(LeaseError::TaskTaken)
    );
    bench.pool.update(first.id, to("2"), START).unwrap();
    bench.pool.update(second.id, to("1"), START).unwrap();
    bench.release(&first);
    bench.pool.update(second.id, to("2"), START).unwrap();
}

#[test]
fn a_removed_account_drains_and_keeps_its_count_if_it_returns() {
    let mut bench = Bench::new(&[("a@x", 2), ("b@x", 1)]);
    let lease = bench.pick_of(Some("a@x"), &[]).unwrap();
    bench.apply(&[("b@x", 1)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.state, account.held, account.available()),
        (AccountState::Removed, 1, 0)
    );
    assert_eq!(bench.pool.constraint(Some("a@x"), &[]), Err(UnknownAccount));
    assert!(bench.pool.lease(lease.id).is_some(), "its lease lives on");

    bench.apply(&[("b@x", 1), ("a@x", 2)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.state, account.held, account.available()),
        (AccountState::Available, 1, 1)
    );
    let order: Vec<_> = bench
        .pool
        .accounts()
        .map(|account| account.email.to_string())
        .collect();
    assert_eq!(order, ["b@x", "a@x"], "the list's order");

    bench.apply(&[("b@x", 1)], START);
    bench.release(&lease);
    assert!(
        bench.pool.account("a@x").is_err(),
        "forgotten with its last slot"
    );
}

#[test]
fn a_drained_account_stays_drained_while_it_is_off_the_list() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    bench.pool.set_draining("a@x", true, START).unwrap();
    bench.apply(&[("b@x", 1)], START);
    bench.apply(&[("a@x", 1), ("b@x", 1)], START);
    assert_eq!(
        bench.pool.account("a@x").unwrap().state,
        AccountState::Draining
    );
    bench.pool.set_draining("a@x", false, START).unwrap();
    assert_eq!(
        bench.pool.account("a@x").unwrap().state,
        AccountState::Available
    );
}

#[test]
fn a_lowered_cap_preempts_nobody() {
    let mut bench = Bench::new(&[("a@x", 3)]);
    let leases = bench.fill();
    bench.apply(&[("a@x", 1)], START);
    let account = bench.pool.account("a@x").unwrap();
    assert_eq!(
        (account.held, account.overcommitted(), account.available()),
        (3, 2, 0)
    );
    bench.release(&leases[0]);
    bench.release(&leases[1]);
    assert_eq!(bench.pick(), Err(SATURATED), "one is still in use");
    bench.release(&leases[2]);
    bench.pick().unwrap();
}

#[test]
fn a_raised_cap_serves_waiters_in_order() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let waiters = [(); 3].map(|()| bench.wait_for(None, &[]));
    bench.apply(&[("a@x", 3)], START);
    let served: Vec<_> = bench
        .handed_over()
        .into_iter()
        .map(|(waiter, _)| waiter)
        .collect();
    assert_eq!(served, waiters[..2]);
    assert_eq!(bench.pool.waiters_count(), 1);
}

#[test]
fn a_freed_slot_goes_to_the_longest_waiting_that_may_take_it() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    let of = |email: &str| {
        leases
            .iter()
            .find(|lease| &*lease.email == email)
            .unwrap()
            .clone()
    };
    let only_b = bench.wait_for(Some("b@x"), &[]);
    let not_a = bench.wait_for(None, &["a@x"]);
    let any = bench.wait_for(None, &[]);
    bench.release(&of("a@x"));
    assert_eq!(bench.handed_over(), [(any, "a@x".to_owned())]);
    bench.release(&of("b@x"));
    assert_eq!(bench.handed_over(), [(only_b, "b@x".to_owned())]);
    assert!(bench.pool.leave(not_a));
    assert!(!bench.pool.leave(only_b), "it was served");
}

#[test]
fn a_newcomer_is_served_only_with_a_slot_no_waiter_may_take() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    bench.wait_for(Some("b@x"), &[]);
    let of_a = leases
        .iter()
        .find(|lease| &*lease.email == "a@x")
        .unwrap()
        .clone();
    bench.release(&of_a);
    assert_eq!(bench.handed_over(), [], "no waiter takes a slot of a@x");
    assert_eq!(&*bench.pick().unwrap().email, "a@x");
}

#[test]
fn the_queue_is_bounded_and_a_place_left_is_free_again() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let waiters = [(); 3].map(|()| bench.wait_for(None, &[]));
    let ask = bench.ask(None, &[]);
    let refused = bench.pool.pick_or_wait(ask, START, &mut bench.rng);
    assert_eq!(refused, Err(Refusal::QueueFull));
    assert!(bench.pool.leave(waiters[0]));
    bench.wait_for(None, &[]);
}

#[test]
fn a_waiter_outlives_the_absence_of_its_account() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    let waiter = bench.wait_for(Some("a@x"), &[]);
    bench.apply(&[("b@x", 1)], START);
    for lease in &leases {
        bench.release(lease);
    }
    assert_eq!(bench.handed_over(), []);
    bench.apply(&[("b@x", 1), ("a@x", 1)], START);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn an_account_that_joins_stays_excluded() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let not_b = bench.wait_for(None, &["b@x"]);
    bench.apply(&[("a@x", 1), ("b@x", 1)], START);
    assert_eq!(bench.handed_over(), []);
    bench.apply(&[("a@x", 1), ("b@x", 1), ("c@x", 1)], START);
    assert_eq!(bench.handed_over(), [(not_b, "c@x".to_owned())]);
}

#[test]
fn a_resumed_account_serves_waiters() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    bench.pool.set_draining("a@x", true, START).unwrap();
    bench.fill();
    let waiter = bench.wait_for(None, &[]);
    bench.pool.set_draining("a@x", false, START).unwrap();
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn ids_are_read_strictly() {
    assert!(
        "b74021584c6bde9e7ae21fc14f3babf5"
            .parse::<LeaseId>()
            .is_ok()
    );
    for text in [
        "",
        "b740",
        "+74021584c6bde9e7ae21fc14f3babf5",
        "g74021584c6bde9e7ae21fc14f3babf5",
    ] {
        assert_eq!(text.parse::<LeaseId>(), Err(LeaseIdError), "{text:?}");
    }
    for text in ["0", "-12", "123456789012345678901234567890"] {
        assert_eq!(text.parse::<TaskId>().unwrap().as_str(), text);
    }
    for text in [
        "",
        "-",
        "1.5",
        "1e3",
        "+1",
        " 1",
        "123456789012345678901234567890123",
    ] {
        assert_eq!(text.parse::<TaskId>(), Err(TaskIdError), "{text:?}");
    }
}
