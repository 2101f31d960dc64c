//! How leases are renewed, bound and ended.

use super::*;

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
