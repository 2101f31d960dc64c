//! Checks every index of the leases against the leases themselves.

use super::*;

impl Leases {
    /// Panics if an index does not agree with the leases.
    pub(in crate::pool) fn check(&self) {
        let mut rounds = RoundIndexes::default();
        let mut unmatched: BTreeMap<AccountKey, BTreeSet<LeaseId>> = BTreeMap::new();
        let mut deadlines = Deadlines::default();
        let mut by_age = BTreeSet::new();
        let mut bound_count = 0;
        let mut counts = LeaseCounts::default();
        for (id, lease) in &self.by_id {
            *counts.of(lease.kind(), lease.state()) += 1;
            if self.limits.reconciles {
                rounds.add(*id, lease, self.limits.settle);
                if lease.binding().is_none() {
                    unmatched.entry(lease.account).or_default().insert(*id);
                }
            }
            if let Some(binding) = lease.binding() {
                bound_count += 1;
                assert_eq!(self.by_task.get(&binding.task_id), Some(id));
            }
            by_age.insert((nanos(lease.created_at()), *id));
            deadlines.move_to(id, NEVER, lease.deadline);
            let due = lease.next_deadline(&self.limits, self.round_sent_at);
            assert_eq!(due == NEVER, lease.deadline == NEVER, "{lease:?}");
            assert!(lease.deadline <= due, "{lease:?} is looked at too late");
        }
        if self.limits.reconciles {
            self.unseen.check(self.by_id.iter());
        }
        assert_eq!(self.by_task.len(), bound_count);
        assert_eq!(self.counts, counts);
        assert!(self.by_age.iter().eq(&by_age), "{:?}", self.by_age);
        assert_eq!(self.deadlines, deadlines);
        assert_eq!(self.rounds.stand_ins, rounds.stand_ins);
        assert_eq!(self.rounds.overdue, rounds.overdue);
        assert_eq!(self.rounds.settling, rounds.settling);
        assert_eq!(self.rounds.unlisted, rounds.unlisted);
        assert_eq!(self.rounds.releasing, rounds.releasing);
        let held = |tied: &SecondaryMap<AccountKey, BTreeSet<LeaseId>>| {
            let held = tied.iter().filter(|(_, ids)| !ids.is_empty());
            held.map(|(key, ids)| (key, ids.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(held(&self.rounds.tied), held(&rounds.tied));
        let mut kept = BTreeMap::new();
        for (key, ids) in self
            .rounds
            .unmatched
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
        {
            let each: BTreeSet<_> = ids.iter().copied().collect();
            assert_eq!(each.len(), ids.len(), "{ids:?} name a lease twice");
            kept.insert(key, each);
        }
        assert_eq!(kept, unmatched);
    }
}
