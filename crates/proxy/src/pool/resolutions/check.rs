//! Checks every index of the submissions against the submissions themselves.

use std::collections::BTreeMap;

use super::*;

impl Resolutions {
    /// Panics if an index does not agree with the submissions, or if a submission would stay for
    /// ever. `is_live` tells whether a submission has a lease, waits for one, or is under way.
    pub(in crate::pool) fn check(&self, is_live: impl Fn(LeaseId) -> bool) {
        let mut lost: BTreeMap<AccountKey, BTreeSet<LeaseId>> = BTreeMap::new();
        let mut unkeyed = BTreeSet::new();
        let mut expiry = Deadlines::default();
        let (mut keyed_count, mut marked_count) = (0, 0);
        for (id, submission) in &self.submissions {
            if let Some(claim) = &submission.claim {
                keyed_count += 1;
                assert_eq!(self.by_key.get(&claim.key), Some(id));
            }
            expiry.change(id, None, submission.expires_at);
            if let Some(mark) = submission.mark {
                marked_count += 1;
                assert_eq!(self.marked.get(&mark), Some(id));
                let is_open = matches!(
                    submission.resolution,
                    Resolution::Lost(_) | Resolution::Given(..)
                );
                assert!(is_open, "{submission:?}");
            }
            if let Resolution::Lost(about) = &submission.resolution {
                if let Some((key, _)) = about.on {
                    lost.entry(key).or_default().insert(*id);
                    let is_open = submission.claim.is_some() && about.ended_at.is_some();
                    assert!(!is_open || self.undecided.contains(&key), "{submission:?}");
                }
                if submission.claim.is_none() {
                    unkeyed.insert((about.lost_at, *id));
                }
            }
            let is_bounded = submission.expires_at.is_some() || is_live(*id);
            assert!(is_bounded, "{submission:?} is never forgotten");
        }
        assert_eq!(self.by_key.len(), keyed_count);
        assert_eq!(self.marked.len(), marked_count);
        assert_eq!(self.expiry, expiry);
        assert_eq!(self.unkeyed, unkeyed);
        let kept = self.lost.iter().filter(|(_, ids)| !ids.is_empty());
        let kept: BTreeMap<_, _> = kept.map(|(key, ids)| (key, ids.clone())).collect();
        assert_eq!(kept, lost);
    }
}
