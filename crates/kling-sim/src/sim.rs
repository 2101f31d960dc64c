//! The simulator as a value: a test builds it, queries it, scripts it, and ends it by dropping it.

mod builder;

use std::{net::SocketAddr, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use builder::{DEFAULT_TOKEN, SimBuilder, StartError};

use crate::{
    account::SchedulerRows,
    api::BASE_PATH,
    audit::{Audit, RequestSeen},
    fault::{ChaosPlan, Fault},
    list::{ListAnswer, ListFault, ListRequests},
    reply_refs::ReplyRefs,
    shared::Shared,
    task_id::TaskId,
    world::{HistoryStyle, World},
};

/// A running simulator. Dropping it ends the listener and all connections.
#[derive(Debug)]
pub struct Sim {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sim {
    /// The address it listens on, with the actual port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of the API, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE_PATH}", self.addr)
    }

    /// The token every call must carry.
    #[must_use]
    pub fn token(&self) -> &str {
        self.shared.token()
    }

    /// Adds an account at the end of the list, or changes the cap of an existing one in its place.
    pub fn set_account(&self, email: impl Into<String>, max_jobs: u32) {
        self.shared
            .visit(|world| world.set_account(email.into(), max_jobs));
    }

    /// Removes an account from the list; `false` if it was not there. Its jobs go on.
    pub fn remove_account(&self, email: &str) -> bool {
        self.shared.visit(|world| world.remove_account(email))
    }

    /// Puts an account into its error state, or out of it with `None`; `false` if it is not
    /// configured. An account in error shows no session and answers job starts with 596.
    pub fn set_account_error(&self, email: &str, error: Option<&str>) -> bool {
        self.shared
            .visit(|world| world.set_account_error(email, error.map(str::to_owned)))
    }

    /// Removes the credit of an account, or restores it; `false` if the account is not configured.
    /// An account without credit answers job starts with 412.
    pub fn set_account_credit(&self, email: &str, has_credit: bool) -> bool {
        self.shared
            .visit(|world| world.set_account_credit(email, has_credit))
    }

    /// Hangs an account, or mends it; `false` if the account is not configured. While it is hung no
    /// call that names it is answered, whatever the call is, and none of these calls happens, not
    /// even later. It is in the list as before, and its jobs go on.
    pub fn set_account_hung(&self, email: &str, is_hung: bool) -> bool {
        self.shared
            .visit(|world| world.set_account_hung(email, is_hung))
    }

    /// Ends a job now, whatever its duration; `false` if no such job is running. Its slot returns
    /// after its release lag.
    pub fn finish(&self, task_id: impl Into<TaskId>) -> bool {
        self.shared.visit(|world| world.finish(task_id.into()))
    }

    /// Ends all jobs that run now, as [`Sim::finish`] does, and says how many.
    pub fn finish_all(&self) -> usize {
        self.shared.visit(World::finish_all)
    }

    /// Starts `count` jobs as a second tool does, without requests, and returns those that the
    /// account takes. The others count as over the limit, and as foreign.
    pub fn submit_directly(&self, email: &str, count: usize) -> Vec<TaskId> {
        let submit = |world: &mut World| world.submit_directly(email).ok();
        let jobs = (0..count).filter_map(|_| self.shared.visit(submit));
        jobs.collect()
    }

    /// Shows every history in this style from now on, including jobs that exist already.
    pub fn set_history(&self, style: HistoryStyle) {
        self.shared.visit(|world| world.set_history(style));
    }

    /// Adds a row in which no task id can be read at the top of an account's history, or removes
    /// it; `false` if the account is not configured. The row is on every page, whatever the query,
    /// and counts as one row of the page.
    pub fn add_unreadable_history(&self, email: &str, on: bool) -> bool {
        self.shared
            .visit(|world| world.add_unreadable_history(email, on))
    }

    /// Lists the jobs of an account in this way in the scheduler's answers from now on; `false` if
    /// the account is not configured.
    pub fn set_scheduler_rows(&self, email: &str, rows: SchedulerRows) -> bool {
        self.shared
            .visit(|world| world.set_scheduler_rows(email, rows))
    }

    /// Treats the `replyRef` of every job start in this way from now on.
    pub fn set_reply_refs(&self, reply_refs: ReplyRefs) {
        self.shared.visit(|world| world.reply_refs.set(reply_refs));
    }

    /// The same for the one operation whose path below the base path is `path`, until
    /// [`Sim::set_reply_refs`]; `false` if that is no path of a job start.
    pub fn set_reply_refs_on(&self, path: &str, reply_refs: ReplyRefs) -> bool {
        self.shared
            .visit(|world| world.set_reply_refs_on(path, reply_refs))
    }

    /// How many jobs count on an account now, as the upstream counts them.
    #[must_use]
    pub fn executing(&self, email: &str) -> u32 {
        self.shared.visit(|world| world.executing(email))
    }

    /// Adds a fault after the existing ones. The first fault that matches a request applies to it.
    pub fn fault(&self, fault: impl Into<Fault>) {
        self.shared.visit(|world| world.faults.add(fault.into()));
    }

    /// Draws faults at random for every job start to which no [`Sim::fault`] applies.
    pub fn chaos(&self, plan: ChaosPlan) {
        self.shared.visit(|world| world.faults.chaos(plan));
    }

    /// Ends all faults, scripted and random, except those of `GET /accounts`. It mends no account.
    pub fn clear_faults(&self) {
        self.shared.visit(|world| world.faults.clear());
    }

    /// The newest requests with a valid token that were not submissions, oldest first. Job starts
    /// whose body did not arrive whole are among them.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.shared.visit(|world| world.requests())
    }

    /// Answers every `GET /accounts` with `fault` until [`Sim::clear_list_fault`].
    pub fn list_fault(&self, fault: ListFault) {
        self.shared.visit(|world| world.listing.fault(fault));
    }

    /// Answers `GET /accounts` with the true list again.
    pub fn clear_list_fault(&self) {
        self.script_list::<ListAnswer>([]);
    }

    /// Answers the next `GET /accounts` with `answers`, one each, and then with the true list.
    pub fn script_list<A: Into<ListAnswer>>(&self, answers: impl IntoIterator<Item = A>) {
        let answers = answers.into_iter().map(Into::into);
        self.shared.visit(|world| world.listing.script(answers));
    }

    /// How often `GET /accounts` was requested, and how many requests were under way at once.
    #[must_use]
    pub fn list_requests(&self) -> ListRequests {
        self.shared.visit(|world| world.listing.requests())
    }

    /// A copy of the audit as of now.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.shared.visit(|world| world.audit())
    }

    /// Ends the listener and all connections, and waits until they are gone.
    ///
    /// If the wait is cancelled, they still end by themselves.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
