//! A journal of the pool that fails, repeats, and is cut off.

use std::collections::HashMap;

use super::*;
use crate::{
    keyed_hash::HashKey,
    pool::{PoolRecord, RecordName, Saved},
};

/// What is durable of a pool, and the batch that is on its way.
#[derive(Debug, Default)]
pub(in crate::pool) struct Journal {
    records: HashMap<RecordName, String>,
    list: Option<Snapshot>,
    /// Records that were taken for writing. The second half of them is read only when it is written.
    batch: Vec<(RecordName, Option<Option<String>>)>,
    is_failing: bool,
    /// How long the process is away.
    away: Duration,
}

impl Journal {
    #[cfg(test)]
    pub(in crate::pool) fn set_away(&mut self, away: Duration) {
        self.away = away;
    }

    pub(in crate::pool) fn set_failing(&mut self, is_failing: bool) {
        self.is_failing = is_failing;
    }

    /// Takes what changed for writing, unless a batch is on its way.
    pub(in crate::pool) fn take(&mut self, pool: &mut Pool) {
        if !self.batch.is_empty() {
            return;
        }
        let changed = pool.take_changed();
        if changed.is_list {
            let accounts = pool.list().unwrap();
            self.list = Some(accounts.accounts().cloned().collect());
        }
        let names: Vec<_> = changed.names().collect();
        let half = names.len() / 2;
        let read = |(idx, name): (usize, RecordName)| {
            let value = (idx < half).then(|| read(pool, &name));
            (name, value)
        };
        self.batch = names.into_iter().enumerate().map(read).collect();
    }

    /// Writes the batch that is on its way. Written twice it is the same.
    pub(in crate::pool) fn write(&mut self, pool: &mut Pool) {
        let batch = std::mem::take(&mut self.batch);
        let batch = batch.into_iter().map(|(name, value)| {
            let value = value.unwrap_or_else(|| read(pool, &name));
            (name, value)
        });
        let batch: Vec<_> = batch.collect();
        for _ in 0..2 {
            for (name, value) in batch.clone() {
                match value {
                    Some(value) => self.records.insert(name, value),
                    None => self.records.remove(&name),
                };
            }
        }
    }

    /// Writes everything. False if that fails: a grant is not told then.
    pub(in crate::pool) fn commit(&mut self, pool: &mut Pool) -> bool {
        if self.is_failing {
            self.take(pool);
            return false;
        }
        self.write(pool);
        self.take(pool);
        self.write(pool);
        true
    }

    /// The pool after a crash. `is_written`: the batch that was on its way.
    pub(in crate::pool) fn restored(
        &mut self,
        old: &mut Pool,
        is_written: bool,
        limits: Limits,
        key: &HashKey,
        now: Duration,
    ) -> Pool {
        if is_written {
            self.write(old);
        }
        self.batch.clear();
        self.is_failing = false;
        let mut saved = Saved {
            list: self.list.clone(),
            away: self.away,
            ..Saved::default()
        };
        for (name, value) in &self.records {
            match name {
                RecordName::Account(email) => {
                    saved.accounts.push((Arc::clone(email), parsed(value)));
                }
                RecordName::Submission(id) => saved.submissions.push((*id, parsed(value))),
                RecordName::Lease(id) => saved.leases.push((*id, parsed(value))),
                RecordName::ForeignJob(task_id) => {
                    saved.foreign_jobs.push((task_id.clone(), parsed(value)));
                }
                RecordName::Operation(operation) => {
                    saved
                        .operations
                        .push((Arc::clone(operation), parsed(value)));
                }
            }
        }
        Pool::restored(limits, saved, Some(key), now)
    }
}

fn read(pool: &mut Pool, name: &RecordName) -> Option<String> {
    let record: Option<PoolRecord> = pool.record(name);
    record.map(|record| serde_json::to_string(&record).unwrap())
}

fn parsed<T: serde::de::DeserializeOwned>(value: &str) -> T {
    serde_json::from_str(value).unwrap()
}
