//! After each of many random events, every index agrees with its entries.

use proptest::prelude::*;

use super::{
    rounds::{RECONCILING, at, task},
    *,
};
use crate::pool::fuzzing::events::{Call, EMAILS, Email, Event, World};

fn any_email() -> impl Strategy<Value = Email> + Clone {
    prop::sample::select(EMAILS)
}

fn any_call() -> impl Strategy<Value = Event> {
    let call = (
        prop::option::weighted(0.3, any_email()),
        prop::collection::vec(any_email(), 0..3),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.3, 1..3u32),
        prop::option::weighted(0.6, 0..6u8),
        prop::bool::weighted(0.8),
    );
    call.prop_map(
        |(
            only,
            exclude,
            is_forward,
            waits,
            comes_back,
            max_jobs,
            idempotency_key,
            has_operation,
        )| {
            Event::Call(Call {
                only,
                exclude,
                is_forward,
                waits,
                comes_back,
                max_jobs,
                idempotency_key,
                has_operation,
            })
        },
    )
}

fn any_settlement() -> impl Strategy<Value = Settlement> {
    prop_oneof![
        4 => (0..8u64).prop_map(|id| Settlement::Accepted {
            task_id: task(id),
            task_type: Some("t".into()),
        }),
        1 => (0..8u64).prop_map(|seconds| Settlement::Refused(Blame::PushedBack {
            retry_after: Some(at(seconds)),
        })),
        1 => Just(Settlement::Refused(Blame::SessionBroken)),
        1 => Just(Settlement::Refused(Blame::NoCredit)),
        1 => Just(Settlement::Refused(Blame::Request)),
        1 => Just(Settlement::Refused(Blame::Token)),
        1 => Just(Settlement::NotSent),
        1 => Just(Settlement::Undelivered),
        2 => (0..8u64).prop_map(|seconds| Settlement::Uncertain { sent_ago: at(seconds) }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let nth = any::<usize>();
    let id = 0..8u64;
    let list = prop::collection::vec((any_email(), 0..4u32), 0..7);
    let jobs = prop::collection::vec((id.clone(), any_email()), 0..6);
    let cap = prop::option::weighted(0.6, 1..3u32);
    let garbled = prop::collection::vec(id.clone(), 0..3);
    let excess = prop::option::of((any_email(), 1..3u32));
    let change = (id.clone(), prop::option::weighted(0.7, any_email()));
    let tasks = prop::collection::vec(id.clone(), 0..5);
    let faults = [
        MarkFault::Refused,
        MarkFault::AcceptedWithout,
        MarkFault::ServerError,
    ];
    let fault = prop::sample::select(faults.to_vec());
    let seconds = prop_oneof![4 => 1..150u64, 1 => 3000..9000u64, 1 => 80_000..200_000u64];
    prop_oneof![
        8 => any_call(),
        1 => nth.prop_map(Event::Leave),
        3 => nth.prop_map(Event::Submit),
        1 => (nth, fault).prop_map(|(nth, fault)| Event::Fault(nth, fault)),
        4 => (id.clone(), prop::option::weighted(0.8, nth)).prop_map(|(id, nth)| Event::Mark(id, nth)),
        3 => (nth, id.clone()).prop_map(|(nth, id)| Event::Bind(nth, id)),
        1 => (nth, 1..100u64).prop_map(|(nth, ttl)| Event::Renew(nth, ttl)),
        2 => nth.prop_map(Event::Release),
        8 => (nth, any_settlement(), any::<bool>()).prop_map(
            |(nth, settlement, is_told_twice)| Event::Settle { nth, settlement, is_told_twice }
        ),
        1 => id.clone().prop_map(Event::Over),
        1 => id.clone().prop_map(Event::Untrack),
        1 => (id, any_email()).prop_map(|(id, email)| Event::Started(id, email)),
        1 => list.prop_map(Event::List),
        2 => (jobs, cap).prop_map(|(jobs, cap)| Event::Round { jobs, cap }),
        5 => prop::collection::vec(change, 0..3).prop_map(Event::Change),
        1 => (garbled, excess).prop_map(|(ids, excess)| Event::Garble { ids, excess }),
        1 => (any_email(), any::<bool>()).prop_map(|(email, is_on)| Event::Drain(email, is_on)),
        1 => (tasks, any::<bool>()).prop_map(|(tasks, is_whole)| Event::History { tasks, is_whole }),
        3 => seconds.prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_index_agrees_with_the_entries(
        events in prop::collection::vec(any_event(), 1..60),
        reconciles in prop::bool::weighted(0.9),
        ties_picks in any::<bool>(),
        round_steps in any_round_steps(),
    ) {
        let limits = Limits {
            waiters_max: 6,
            reconciles,
            ties_picks,
            ..RECONCILING
        };
        let mut world = World::new(limits, round_steps);
        for event in events {
            world.happen(event);
        }
    }
}

/// Which account a call draws, and which waiter gets a slot, depends on the order in which slots come back, and so does
/// whether an account that left the list is forgotten. Nothing else does.
fn without_draws(event: Event) -> Event {
    if let Event::Call(call) = event {
        return Event::Call(Call {
            only: call.only.or(Some("Ann@x")),
            waits: false,
            ..call
        });
    }
    let is_list = matches!(event, Event::List(_));
    if is_list { Event::Pass(1) } else { event }
}

proptest! {
    #[test]
    fn a_round_in_steps_is_what_it_is_at_once(
        events in prop::collection::vec(any_event().prop_map(without_draws), 1..60),
        ties_picks in any::<bool>(),
        round_steps in 1..16_usize,
    ) {
        let limits = Limits {
            ties_picks,
            ..RECONCILING
        };
        let mut at_once = World::new(limits, usize::MAX);
        let mut in_steps = World::new(limits, round_steps);
        for event in events {
            at_once.happen(event.clone());
            in_steps.happen(event);
            in_steps.finish_round();
            prop_assert_eq!(in_steps.shown(), at_once.shown());
        }
    }
}
