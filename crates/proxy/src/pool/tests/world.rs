//! The book beside a simulated upstream, under events at random.

use proptest::prelude::*;

use super::any_round_steps;
use crate::pool::fuzzing::world::{Event, World};

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(|has_key| Event::Submit { has_key }),
        2 => any::<usize>().prop_map(Event::Begin),
        1 => prop::bool::weighted(0.8).prop_map(Event::KeepMarks),
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
        1 => Just(Event::Commit),
        1 => Just(Event::Take),
        1 => any::<bool>().prop_map(Event::Fail),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(starts, is_written)| Event::Crash { starts, is_written }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_book_never_counts_less_than_runs_and_forgets_no_slot(
        events in prop::collection::vec(any_event(), 1..100),
        round_steps in any_round_steps(),
    ) {
        World::new(round_steps).all(events);
    }
}
