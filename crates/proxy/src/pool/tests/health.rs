//! Accounts that the upstream refused jobs on.

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

const PUSHED_BACK: Blame = Blame::PushedBack { retry_after: None };
const MINUTE: u64 = 60;

impl Bench {
    /// Picks an account for a job start, which the upstream refuses at `seconds`.
    fn refused(&mut self, seconds: u64, blame: Blame) {
        let id = self.take(seconds, None);
        assert!(self.pool.refuse(id, blame, at(seconds)));
    }

    fn standing(&mut self, seconds: u64) -> (AccountState, Option<u64>) {
        self.pool.expire(at(seconds), &mut self.rng);
        let account = self.pool.account("a@x").unwrap();
        (account.state, account.until.map(|until| until.as_secs()))
    }

    fn refusal(&mut self, seconds: u64) -> Refusal {
        let ask = self.ask(None, &[]);
        self.pool
            .pick(&ask, at(seconds), &mut self.rng)
            .unwrap_err()
    }

    /// Picks an account for a job start, which the upstream accepts.
    fn accepted(&mut self, seconds: u64, id: u64) {
        let lease = self.take(seconds, None);
        self.pool.bind(lease, task(id), at(seconds)).unwrap();
    }
}

#[test]
fn an_account_that_pushed_back_cools_for_longer_each_time_until_it_takes_a_job() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let mut now = 1;
    for length in [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
        bench.refused(now, PUSHED_BACK);
        assert_eq!(
            bench.standing(now),
            (AccountState::Cooling, Some(now + length))
        );
        let ready_in = at(length);
        assert_eq!(bench.refusal(now), Refusal::CoolingDown { ready_in });
        now += length;
        assert_eq!(bench.standing(now), (AccountState::Available, None));
    }
    bench.accepted(now, 1);
    bench.refused(now, PUSHED_BACK);
    assert_eq!(bench.standing(now), (AccountState::Cooling, Some(now + 2)));
}

#[test]
fn the_upstreams_own_time_counts_up_to_a_cap_and_the_later_end_wins() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let ids = [(); 3].map(|()| bench.take(1, None));
    for (id, asked, until) in [(ids[0], 30, 31), (ids[1], 5, 31), (ids[2], 99_999, 601)] {
        let retry_after = Some(at(asked));
        bench
            .pool
            .refuse(id, Blame::PushedBack { retry_after }, at(1));
        assert_eq!(bench.standing(1), (AccountState::Cooling, Some(until)));
    }
}

#[test]
fn an_account_cools_for_a_second_at_least() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let id = bench.take(1, None);
    let retry_after = Some(Duration::ZERO);
    bench
        .pool
        .refuse(id, Blame::PushedBack { retry_after }, at(1));
    assert_eq!(bench.standing(1), (AccountState::Cooling, Some(2)));
}

#[test]
fn whoever_waits_is_served_when_the_cooling_ends() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    bench.refused(1, PUSHED_BACK);
    let ask = bench.ask(None, &[]);
    let admission = bench.pool.pick_or_wait(ask, at(1), &mut bench.rng);
    assert!(
        matches!(admission, Ok(Admission::Queued(_))),
        "{admission:?}"
    );
    assert_eq!(bench.pool.next_deadline(), Some(at(3)));
    bench.pool.expire(at(3), &mut bench.rng);
    assert!(bench.pool.next_handover().is_some());
}

#[test]
fn a_broken_session_is_tried_again_with_one_job() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let mut now = 1;
    for minutes in [10, 20, 40, 80, 120, 120] {
        bench.refused(now, Blame::SessionBroken);
        let until = now + minutes * MINUTE;
        assert_eq!(
            bench.standing(now),
            (AccountState::Quarantined, Some(until))
        );
        assert_eq!(bench.refusal(now), Refusal::NoUsableAccount);
        now = until;
        assert_eq!(bench.standing(now), (AccountState::Available, None));
        let probe = bench.take(now, None);
        assert_eq!(
            bench.standing(now),
            (AccountState::Full, None),
            "one job decides"
        );
        assert!(matches!(bench.refusal(now), Refusal::Saturated { .. }));
        // The job start was never sent, so another one decides.
        bench.pool.end(probe, Cause::Released, at(now));
    }
    bench.accepted(now, 1);
    assert_eq!(bench.standing(now), (AccountState::Available, None));
    bench.refused(now, Blame::SessionBroken);
    assert_eq!(
        bench.standing(now),
        (AccountState::Quarantined, Some(now + 10 * MINUTE))
    );
}

#[test]
fn a_quarantine_ends_with_a_changed_entry_or_by_hand() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    bench.refused(1, Blame::SessionBroken);
    bench.apply(&[("a@x", 9)], at(2));
    assert_eq!(
        bench.standing(2).0,
        AccountState::Quarantined,
        "the entry is the same"
    );
    bench.apply(&[("a@x", 8)], at(3));
    assert_eq!(bench.standing(3).0, AccountState::Available);
    bench.refused(4, Blame::SessionBroken);
    let resumed = bench.pool.set_draining("a@x", false, at(5)).unwrap();
    assert_eq!(resumed.state, AccountState::Available);
}

#[test]
fn an_account_without_credit_is_parked() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let together = [(); 2].map(|()| bench.take(1, None));
    for id in together {
        bench.pool.refuse(id, Blame::NoCredit, at(1));
        let until = 1 + 10 * MINUTE;
        assert_eq!(
            bench.standing(1),
            (AccountState::Parked, Some(until)),
            "once, not twice"
        );
    }
    bench.apply(&[("a@x", 8)], at(2));
    assert_eq!(
        bench.standing(2).0,
        AccountState::Parked,
        "an entry tells no credit"
    );
    let now = 1 + 10 * MINUTE;
    assert_eq!(bench.standing(now), (AccountState::Available, None));
    bench.refused(now, Blame::NoCredit);
    assert_eq!(
        bench.standing(now),
        (AccountState::Parked, Some(now + 20 * MINUTE))
    );
    bench.standing(now + 20 * MINUTE);
    bench.refused(now + 20 * MINUTE, Blame::Request);
    bench.refused(now + 20 * MINUTE, Blame::NoCredit);
    let until = now + 30 * MINUTE;
    assert_eq!(
        bench.standing(now + 20 * MINUTE),
        (AccountState::Parked, Some(until))
    );
}

#[test]
fn a_probe_that_a_round_finds_running_ends_the_quarantine() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    bench.refused(1, Blame::SessionBroken);
    let now = 1 + 10 * MINUTE;
    bench.standing(now);
    // A client that picks and calls the upstream itself need not report the outcome.
    bench.take(now, Some(at(60)));
    assert_eq!(bench.standing(now), (AccountState::Full, None));
    bench.round(now + 1, &[(7, "a@x")]);
    assert_eq!(bench.standing(now + 1), (AccountState::Available, None));
}

#[test]
fn a_burst_of_refusals_is_one_and_older_jobs_prove_nothing() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let ids = [(); 5].map(|()| bench.take(1, None));
    for id in &ids[..3] {
        bench.pool.refuse(*id, PUSHED_BACK, at(2));
        assert_eq!(bench.standing(2), (AccountState::Cooling, Some(4)));
    }
    bench.pool.bind(ids[3], task(1), at(3)).unwrap();
    bench.pool.refuse(ids[4], Blame::Request, at(3));
    assert_eq!(
        bench.standing(3).0,
        AccountState::Cooling,
        "they were leased before"
    );
    bench.standing(4);
    bench.accepted(4, 2);
    bench.refused(5, PUSHED_BACK);
    assert_eq!(
        bench.standing(5),
        (AccountState::Cooling, Some(7)),
        "it was well meanwhile"
    );
    bench.standing(7);
    bench.refused(7, Blame::Token);
    assert_eq!(bench.standing(7).0, AccountState::Available);
}

#[test]
fn each_turn_is_told_once() {
    let mut bench = Bench::new(&[("a@x", 2)]);
    let told = |bench: &mut Bench| {
        let state_changes = bench.pool.take_state_changes().into_iter();
        let words = state_changes
            .map(|change| format!("{} > {}", change.from.as_str(), change.to.as_str()));
        words.collect::<Vec<_>>().join(", ")
    };
    let refuse = |bench: &mut Bench, blame, now| {
        let lease = bench.pick().unwrap();
        let other = bench.pick();
        assert!(bench.pool.refuse(lease.id, blame, now));
        if let Ok(other) = other {
            assert!(bench.pool.refuse(other.id, blame, now));
        }
    };
    let full = bench.fill();
    assert_eq!(told(&mut bench), "", "full slots are no turn");
    for lease in &full {
        assert!(bench.release(lease));
    }
    let retry_after = Some(Duration::from_secs(5));
    refuse(&mut bench, Blame::PushedBack { retry_after }, START);
    assert_eq!(told(&mut bench), "available > cooling", "two refusals");
    bench.pool.expire(Duration::from_secs(5), &mut bench.rng);
    assert_eq!(told(&mut bench), "cooling > available");
    refuse(&mut bench, Blame::NoCredit, START);
    assert_eq!(told(&mut bench), "available > parked");
    bench.pool.set_draining("a@x", true, START).unwrap();
    assert_eq!(told(&mut bench), "parked > draining");
    bench.pool.set_draining("a@x", false, START).unwrap();
    assert_eq!(told(&mut bench), "draining > available");
    refuse(&mut bench, Blame::SessionBroken, START);
    assert_eq!(told(&mut bench), "available > quarantined");
    bench
        .pool
        .expire(Duration::from_secs(3 * 3600), &mut bench.rng);
    assert_eq!(told(&mut bench), "quarantined > available", "on probation");
    let account = Account::new("a@x", 2).with_details(Some("broken".into()), None);
    let list = Snapshot::from_iter([account]);
    bench.pool.apply(&list, START, &mut bench.rng);
    assert_eq!(told(&mut bench), "available > error");
}
