//! What is noted of a lease, and no index depends on.

use std::mem;

use super::{
    super::{AccountKey, JobResult, LeaseId, lease::Phase},
    Leases,
};

impl Leases {
    /// Another call was told of a lease. It outlives the call that it was made for.
    pub(in crate::pool) fn note_told(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.is_told = true;
        }
    }

    /// The submission of a lease is sent with its mark, or without.
    pub(in crate::pool) fn set_marked(&mut self, id: LeaseId, is_marked: bool) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.is_marked = is_marked;
        }
    }

    /// What became of the submission of a lease is counted. Returns its account, unless it was counted before.
    pub(in crate::pool) fn note_counted(&mut self, id: LeaseId) -> Option<AccountKey> {
        let lease = self.by_id.get_mut(&id)?;
        let was_counted = mem::replace(&mut lease.is_counted, true);
        (!was_counted).then_some(lease.account)
    }

    /// The job of a lease is counted as started, or no longer.
    pub(in crate::pool) fn set_started(&mut self, id: LeaseId, is_started: bool) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.is_started = is_started;
        }
    }

    /// Learns how the job of a lease ended.
    pub(in crate::pool) fn note_result(&mut self, id: LeaseId, result: JobResult) {
        if let Some(lease) = self.by_id.get_mut(&id)
            && let Phase::Bound(binding) = &mut lease.phase
        {
            binding.result.get_or_insert(result);
        }
    }
}
