//! Which records changed since they were last written. Each part of the pool notes its own.

use std::{hash::Hash, mem, sync::Arc};

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::{LeaseId, Pool, TaskId};

/// The names of changed records, each once.
pub(super) type Names<T> = IndexSet<T, RandomState>;

/// What changed in one part of the pool. Without a journal nothing is noted.
#[derive(Debug)]
pub(super) struct Changes<T> {
    is_recording: bool,
    names: Names<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self {
            is_recording: false,
            names: Names::default(),
        }
    }
}

impl<T: Hash + Eq> Changes<T> {
    /// From now on changes are noted.
    pub(super) fn record(&mut self) {
        self.is_recording = true;
    }

    pub(super) fn are_recorded(&self) -> bool {
        self.is_recording
    }

    /// A record changed, or is gone.
    pub(super) fn note(&mut self, name: impl FnOnce() -> T) {
        if self.is_recording {
            self.names.insert(name());
        }
    }

    /// Whether a change of this record is to be written.
    pub(super) fn contains(&self, name: &T) -> bool {
        self.names.contains(name)
    }

    /// A record is gone that was never read for writing: there is nothing to write.
    pub(super) fn forget(&mut self, name: &T) {
        self.names.swap_remove(name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn take(&mut self) -> Names<T> {
        mem::take(&mut self.names)
    }
}

/// What changed in the pool, by the names of its records.
#[derive(Debug, Default)]
pub struct Changed {
    /// The account list in force.
    pub is_list: bool,
    accounts: Names<Arc<str>>,
    submissions: Names<LeaseId>,
    leases: Names<LeaseId>,
    foreign_jobs: Names<TaskId>,
    operations: Names<Arc<str>>,
}

/// The name of a record of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordName {
    /// What is known of an account beyond the list, by its e-mail.
    Account(Arc<str>),
    /// What became of a submission, by the id of its lease.
    Submission(LeaseId),
    /// A lease that is held.
    Lease(LeaseId),
    /// A job without a lease.
    ForeignJob(TaskId),
    /// What was learnt of an operation.
    Operation(Arc<str>),
}

impl Changed {
    /// The records that changed or are gone, besides the list.
    pub fn names(self) -> impl Iterator<Item = RecordName> {
        let accounts = self.accounts.into_iter().map(RecordName::Account);
        let mut submissions = self.submissions;
        let mut records = Vec::with_capacity(self.leases.len() + submissions.len());
        // A lease and its submission are next to each other.
        for id in self.leases {
            records.push(RecordName::Lease(id));
            if submissions.swap_remove(&id) {
                records.push(RecordName::Submission(id));
            }
        }
        records.extend(submissions.into_iter().map(RecordName::Submission));
        let foreign_jobs = self.foreign_jobs.into_iter().map(RecordName::ForeignJob);
        let operations = self.operations.into_iter().map(RecordName::Operation);
        accounts
            .chain(records)
            .chain(foreign_jobs)
            .chain(operations)
    }
}

impl Pool {
    /// From now on it is noted which records change.
    pub fn record_changes(&mut self) {
        self.list_changes.record();
        self.accounts.changes.record();
        self.resolutions.changes.record();
        self.resolutions.shown.changes.record();
        self.marks.records.record();
        self.forecast.changes.record();
        self.resolutions.seen_changes.record();
        self.leases.changes.record();
        self.foreign_jobs.changes.record();
    }

    /// Whether records changed since the last [`Self::take_changed`].
    pub fn has_changed(&self) -> bool {
        !self.list_changes.is_empty()
            || !self.accounts.changes.is_empty()
            || !self.resolutions.changes.is_empty()
            || !self.resolutions.shown.changes.is_empty()
            || !self.marks.records.is_empty()
            || !self.forecast.changes.is_empty()
            || !self.resolutions.seen_changes.is_empty()
            || !self.leases.changes.is_empty()
            || !self.foreign_jobs.changes.is_empty()
    }

    /// The records that changed since the last call.
    pub fn take_changed(&mut self) -> Changed {
        let mut accounts = self.accounts.changes.take();
        for key in self.resolutions.seen_changes.take() {
            let account = self.accounts.get(key);
            accounts.extend(account.map(|account| Arc::clone(&account.listed.email)));
        }
        let mut operations = self.resolutions.shown.changes.take();
        operations.extend(self.marks.records.take());
        operations.extend(self.forecast.changes.take());
        Changed {
            is_list: !self.list_changes.take().is_empty(),
            accounts,
            submissions: self.resolutions.changes.take(),
            leases: self.leases.changes.take(),
            foreign_jobs: self.foreign_jobs.changes.take(),
            operations,
        }
    }
}
