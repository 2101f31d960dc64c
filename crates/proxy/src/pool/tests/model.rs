//! Random sequences of operations against a naive model of the book. A failure prints the shortest sequence found
//! and its seed.

use proptest::prelude::*;

use crate::pool::fuzzing::model::{EMAILS, Op, Run};

fn any_op() -> impl Strategy<Value = Op> {
    let account = 0..EMAILS.len();
    let pick = (
        prop::option::weighted(0.3, account.clone()),
        prop::collection::vec(account.clone(), 0..3),
        1..100u64,
        any::<bool>(),
        prop::option::weighted(0.3, 1..4u32),
    );
    let entry = prop::option::weighted(0.8, (0..4u32, prop::bool::weighted(0.1)));
    prop_oneof![
        8 => pick.prop_map(|(only, exclude, ttl, waits, max_jobs)| {
            Op::Pick { only, exclude, ttl, waits, max_jobs }
        }),
        4 => any::<usize>().prop_map(Op::Release),
        1 => any::<usize>().prop_map(Op::Leave),
        1 => (any::<usize>(), 0..5u8).prop_map(|(lease, task)| Op::Bind(lease, task)),
        1 => (any::<usize>(), 1..100u64).prop_map(|(lease, ttl)| Op::Renew(lease, ttl)),
        1 => (0..80u64).prop_map(Op::Pass),
        1 => prop::collection::vec(entry, EMAILS.len()).prop_map(Op::Apply),
        1 => (account, any::<bool>()).prop_map(|(account, on)| Op::Drain(account, on)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_pool_agrees_with_a_naive_model(
        seed in any::<u64>(),
        ops in prop::collection::vec(any_op(), 1..120),
    ) {
        Run::new(seed).all(ops);
    }
}
