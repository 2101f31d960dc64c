//! Checks what is kept of marks against the leases that have them.

use super::*;

impl Marks {
    /// Panics if a lease is not found by its mark, or something is kept of a lease that has ended.
    pub(in crate::pool) fn check<'a>(
        &self,
        leases: impl Iterator<Item = (LeaseId, &'a Lease)>,
        is_held: impl Fn(LeaseId) -> bool,
    ) {
        let mut count = 0;
        for (id, lease) in leases {
            if let Some(mark) = lease.mark() {
                count += 1;
                assert_eq!(self.lease_of(mark), Some(id), "{lease:?}");
            }
            assert!(!lease.is_marked || lease.mark().is_some(), "{lease:?}");
        }
        assert_eq!(self.leases.len(), count, "marks of leases that have ended");
        assert!(self.unjudged.iter().all(|id| is_held(*id)));
        for marked in self.operations.values() {
            assert!(marked.canary.is_none_or(&is_held), "{marked:?}");
            assert!(
                marked.learnt.is_none() || marked.canary.is_none(),
                "{marked:?}"
            );
        }
    }
}
