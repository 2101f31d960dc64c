//! Checks that several parts of the book agree.

use super::*;

/// Every index agrees with its entries. `is_live` tells whether a submission without a lease waits for one, or is
/// under way.
pub(in crate::pool::fuzzing) fn check_parts(pool: &Pool, is_live: impl Fn(LeaseId) -> bool) {
    pool.accounts.check();
    pool.leases.check();
    pool.waiters.check();
    pool.resolutions
        .check(|id| pool.leases.get(id).is_some() || is_live(id));
    let is_held = |id| pool.leases.get(id).is_some();
    pool.marks.check(pool.leases.after(None), is_held);
    check_slots(pool);
    check_waiters(pool);
}

/// The accounts count the slots that leases and foreign jobs take, and no others.
fn check_slots(pool: &Pool) {
    let counted = pool.accounts.all().map(|(key, account)| {
        (
            key,
            [
                account.held,
                account.uncertain,
                account.foreign - account.unnamed_foreign(),
            ],
        )
    });
    let counted: BTreeMap<_, _> = counted.collect();
    let none = pool.accounts.all().map(|(key, _)| (key, [0; 3]));
    let mut taken: BTreeMap<AccountKey, [u32; 3]> = none.collect();
    for (_, lease) in pool.leases.after(None) {
        let [held, uncertain, _] = taken.entry(lease.account).or_default();
        if lease.state() == LeaseState::Uncertain {
            *uncertain += 1;
        } else {
            *held += 1;
        }
    }
    for (key, count) in pool.foreign_jobs.check() {
        taken.entry(key).or_default()[2] = count;
    }
    assert_eq!(counted, taken, "accounts count other slots than are taken");
    for (key, account) in pool.accounts.all() {
        let unseen = pool.leases.unseen_count(key);
        let foreign = account.unnamed().saturating_sub(unseen);
        assert_eq!(
            account.unnamed_foreign(),
            foreign,
            "{unseen} unseen: {account:?}"
        );
        let name = Name::new(&account.listed.email);
        let shown = pool.shown(name.folded()).map_or(0, |running| {
            let unnamed = running.unnamed(name.folded());
            let here = unnamed.filter(|(name, _)| pool.accounts.find(name) == Some(key));
            here.map(|(_, count)| count).sum()
        });
        assert_eq!(account.unnamed(), shown, "{account:?}");
    }
}

/// No waiter waits for a slot that is free.
fn check_waiters(pool: &Pool) {
    for (key, account) in pool.accounts.all() {
        if pool.accounts.is_free(key) {
            let waiter = pool.waiters.first_for(key, account.in_flight());
            assert_eq!(waiter, None, "it waits beside a free slot of {account:?}");
        }
    }
}

/// The book and the newest round agree about what is listed. On each account that is the one which is followed there.
pub(in crate::pool::fuzzing) fn check_running(pool: &Pool) {
    let running = pool.shown_jobs();
    for (task_id, name) in &running {
        check_listed_job(pool, task_id, name);
    }
    check_marks(pool, &running);
}

/// A job that the newest round lists is counted, where it runs, by one that knows that it is listed.
fn check_listed_job(pool: &Pool, task_id: &TaskId, name: &Name) {
    if pool.foreign_jobs.is_uncounted(task_id) {
        return;
    }
    let (holder, place) = (
        pool.leases.of_task(task_id),
        pool.foreign_jobs.place(task_id),
    );
    let is_counted = holder.is_some() || place.is_some() || pool.leases.stand_in(task_id).is_some();
    assert!(is_counted, "{task_id:?} is listed, and nobody counts it");
    if let Some(id) = holder {
        let lease = pool.leases.get(id).expect("an index names leases only");
        let binding = lease
            .binding()
            .expect("it is indexed by the job of its binding");
        assert!(binding.is_listed, "a round lists the job of {binding:?}");
    }
    if let Some((account, is_listed)) = place {
        assert!(is_listed, "a round lists the foreign job {task_id:?}");
        let runs_on = pool.accounts.find(name);
        assert!(
            runs_on.is_none() || account == runs_on,
            "{task_id:?} runs on {name:?}, and counts on {account:?}"
        );
    }
}

/// The newest round lists every job that is marked as listed.
fn check_marks(pool: &Pool, running: &BTreeMap<TaskId, Name>) {
    for (_, lease) in pool.leases.after(None) {
        let bound_to = lease.binding().filter(|binding| binding.is_listed);
        let bound_to = bound_to.map(|binding| &binding.task_id);
        let stands_for = lease.stands_for().filter(|job| job.is_listed);
        let stands_for = stands_for.map(|job| &job.task_id);
        for task_id in bound_to.into_iter().chain(stands_for) {
            assert!(running.contains_key(task_id), "no round lists {lease:?}");
        }
    }
    for task_id in pool.foreign_jobs.said_listed() {
        assert!(
            running.contains_key(task_id),
            "no round lists the foreign job {task_id:?}"
        );
    }
}

/// After a round that was sent now, no account has fewer slots in use than jobs run on it.
pub(super) fn check_truth(pool: &Pool, running: &BTreeMap<u64, Email>, excess: Excess) {
    let mut truth: BTreeMap<AccountKey, u32> = BTreeMap::new();
    let excess = excess.map(|(email, excess)| (pool.accounts.find(&Name::new(email)), excess));
    if let Some((Some(key), excess)) = excess {
        truth.insert(key, excess);
    }
    for (id, email) in running {
        if !pool.foreign_jobs.is_uncounted(&task(*id))
            && let Some(key) = pool.accounts.find(&Name::new(email))
        {
            *truth.entry(key).or_default() += 1;
        }
    }
    for (key, count) in truth {
        let account = &pool.accounts[key];
        assert!(
            account.in_flight() >= count,
            "{count} jobs run: {account:?}"
        );
    }
}
