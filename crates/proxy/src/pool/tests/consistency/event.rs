//! Random events in the book and around it.

use proptest::prelude::*;

use super::*;

/// A call for a slot.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) only: Option<Email>,
    pub(super) exclude: Vec<Email>,
    pub(super) is_forward: bool,
    pub(super) waits: bool,
    /// It has a place from an earlier time.
    pub(super) comes_back: bool,
    pub(super) max_jobs: Option<u32>,
    idempotency_key: Option<u8>,
}

impl Call {
    /// The key that it claims. Calls of different kinds have different keys.
    pub(super) fn claim(&self) -> Option<(Claim, Kind)> {
        let kind = if self.is_forward {
            Kind::Forward
        } else {
            Kind::Pick
        };
        let claim = |key| Claim {
            key: Key::new(&format!("{kind:?} {key}")),
            fingerprint: 1,
        };
        self.idempotency_key.map(|key| (claim(key), kind))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Call(Call),
    /// A waiter leaves.
    Leave(usize),
    /// A holder names the job of its lease.
    Bind(usize, u64),
    Renew(usize, u64),
    /// A client releases a lease.
    Release(usize),
    /// The sidecar learns what became of a slot, once or twice.
    Settle {
        nth: usize,
        settlement: Settlement,
        is_told_twice: bool,
    },
    /// A job is over.
    Over(u64),
    /// The upstream stops tracking a job that it lists.
    Untrack(u64),
    /// The sidecar learns of a job that has no lease.
    Started(u64, Email),
    List(Vec<(Email, u32)>),
    /// Other jobs run now, and a round lists them. The round may tell caps.
    Round {
        jobs: Vec<(u64, Email)>,
        cap: Option<u32>,
    },
    /// Some jobs start and some end, and a round lists what runs.
    Change(Vec<(u64, Option<Email>)>),
    /// The ids of these jobs cannot be read in rounds from now on, and the upstream counts so many more jobs than
    /// it lists on an account.
    Garble {
        ids: Vec<u64>,
        excess: Option<(Email, u32)>,
    },
    Drain(Email, bool),
    /// The history of every account is read.
    History {
        tasks: Vec<u64>,
        is_whole: bool,
    },
    Pass(u64),
}

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
    );
    call.prop_map(
        |(only, exclude, is_forward, waits, comes_back, max_jobs, idempotency_key)| {
            Event::Call(Call {
                only,
                exclude,
                is_forward,
                waits,
                comes_back,
                max_jobs,
                idempotency_key,
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

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let nth = any::<usize>();
    let id = 0..8u64;
    let list = prop::collection::vec((any_email(), 0..4u32), 0..7);
    let jobs = prop::collection::vec((id.clone(), any_email()), 0..6);
    let cap = prop::option::weighted(0.6, 1..3u32);
    let garbled = prop::collection::vec(id.clone(), 0..3);
    let excess = prop::option::of((any_email(), 1..3u32));
    let change = (id.clone(), prop::option::weighted(0.7, any_email()));
    let tasks = prop::collection::vec(id.clone(), 0..5);
    let seconds = prop_oneof![4 => 1..150u64, 1 => 3000..9000u64, 1 => 80_000..200_000u64];
    prop_oneof![
        8 => any_call(),
        1 => nth.prop_map(Event::Leave),
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
